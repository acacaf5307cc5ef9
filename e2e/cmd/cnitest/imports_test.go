package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cnitest/cnitest"

// importRules says which packages must not import which others, directly or through others.
func importRules() []importRule {
	return []importRule{
		{of: []string{"./plugin/..."}, never: module + "/e2e", why: "a plugin is no part of its test"},
		{of: []string{"./e2e/..."}, never: module + "/plugin", why: "the suite knows a plugin only by its conflist and its binary"},
		{of: []string{"./e2e", "./e2e/agent"}, never: module + "/e2e/backend", why: "the caller passes a backend in"},
	}
}

type importRule struct {
	of    []string
	never string
	why   string
}

// broken returns the packages among deps that the rule forbids.
func (r importRule) broken(deps []string) []string {
	return slices.DeleteFunc(slices.Clone(deps), func(dep string) bool {
		return dep != r.never && !strings.HasPrefix(dep, r.never+"/")
	})
}

// TestImports checks the built packages, without tests: those of e2e use a backend.
func TestImports(t *testing.T) {
	for _, rule := range importRules() {
		t.Run(strings.Join(rule.of, " "), func(t *testing.T) {
			deps := goList(t, append([]string{"-deps"}, rule.of...)...)
			if len(deps) < 10 {
				t.Fatalf("got dependencies %q, want more: go list saw no packages", deps)
			}
			for _, dep := range rule.broken(deps) {
				t.Errorf("%s imports %s; %s", strings.Join(rule.of, " "), dep, rule.why)
			}
		})
	}
	t.Run("a rule that is broken", func(t *testing.T) {
		rule := importRule{of: []string{"./e2e/cmd/cnitest"}, never: module + "/e2e/backend"}
		got := rule.broken(goList(t, "-deps", "./e2e/cmd/cnitest"))
		if !slices.Contains(got, module+"/e2e/backend/netns") {
			t.Errorf("got %q, want the netns backend among them", got)
		}
	})
}

// goList returns the words that go list prints.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return strings.Fields(string(out))
}

// layers lists the packages of e2e from the lowest to the highest: a package imports only packages of lower rows.
// Commands and packages that only tests use are left out; they may import everything.
func layers() [][]string {
	return [][]string{
		{"internal/rtnl"},
		{"internal/sysctl"},
		{"internal/strictyaml", "internal/busy", "internal/kubeapi", "internal/lostthread", "internal/timing", "disk", "machinetime", "fault/stub", "lab/dhcp", "metadata", "report", "service"},
		{"cni", "conflist", "probe", "report/benchmark", "report/matrix", "scenario", "snapshot", "lab/debian", "lab/kubernetes", "internal/program", "internal/throttle"},
		{"expectation", "fault", "target", "witness", "internal/offer", "lab/event", "lab/kubeproxy"},
		{"agent", "contract/schedules"},
		{"cluster"},
		{"backend/netns", "internal/calltime", "internal/disturbance", "internal/refusal"},
		{"backend/internal/keeper", "backend/internal/libcnicache", "bench", "contract", "internal/environment"},
		{"backend/kind", "backend/ssh", "duty", "internal/packetpath", "registry", "trackrecord"},
		{"backend/cri", "internal/runner", "versions"},
		{"internal/residue", "internal/soak"},
		{""},
	}
}

// outsideLayers reports whether a package is a command, or only tests use it.
func outsideLayers(name string) bool {
	return strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "broken/") || name == "vmrun" ||
		name == "stress" || name == "specdrift" || name == "trackrecord/relay" ||
		slices.Contains([]string{"internal/testbin", "internal/share", "internal/fuzzseed", "internal/kerneltest", "internal/strictyaml/yamltest"}, name)
}

func TestImports_only_lower_packages(t *testing.T) {
	level := map[string]int{}
	for i, row := range layers() {
		for _, name := range row {
			level[name] = i
		}
	}
	const e2e = module + "/e2e"
	packages := goList(t, "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "./e2e/...")
	if len(packages) < len(level) {
		t.Fatalf("got %q, want more packages", packages)
	}
	for _, line := range packages {
		path, imports, _ := strings.Cut(line, ":")
		name := strings.TrimPrefix(strings.TrimPrefix(path, e2e), "/")
		if outsideLayers(name) {
			continue
		}
		at, known := level[name]
		if !known {
			t.Errorf("package %s is in no row of layers(); add it above the packages that it imports", name)
			continue
		}
		for other := range strings.SplitSeq(imports, ",") {
			below, isOurs := strings.CutPrefix(other, e2e)
			if below = strings.TrimPrefix(below, "/"); isOurs && level[below] >= at {
				t.Errorf("package e2e/%s imports e2e/%s, which is not below it", name, below)
			}
		}
	}
}
