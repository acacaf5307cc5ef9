package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

var update = flag.Bool("update", false, "write the generated tables into the READMEs")

// The marks around a generated table.
const (
	beginMark = "<!-- BEGIN scenarios -->\n"
	endMark   = "<!-- END scenarios -->\n"
)

// replaceTable puts a table between the marks of a text.
func replaceTable(text, table string) (string, error) {
	if strings.Count(text, beginMark) != 1 || strings.Count(text, endMark) != 1 {
		return "", fmt.Errorf("want one line %q and one line %q", strings.TrimSpace(beginMark),
			strings.TrimSpace(endMark))
	}
	head, rest, _ := strings.Cut(text, beginMark)
	_, tail, ok := strings.Cut(rest, endMark)
	if !ok {
		return "", fmt.Errorf("want %q before %q", strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return head + beginMark + table + endMark + tail, nil
}

func TestGenerated(t *testing.T) {
	for _, tt := range []struct{ file, links string }{
		{"scenarios/README.md", ""},
		{"README.md", "scenarios/"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			all, err := scenario.Load(scenarios.Files)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				s.File = tt.links + s.File
			}
			path := filepath.Join("../../..", tt.file)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := replaceTable(string(got), scenario.Markdown(all))
			if err != nil {
				t.Fatalf("%s: %v", tt.file, err)
			}
			if *update {
				err := os.WriteFile(path, []byte(want), 0o644)
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(got), want); diff != "" {
				t.Errorf("%s: the table is not that of the scenarios; run make generate; got, want:\n%s", tt.file, diff)
			}
		})
	}
}

func TestReplaceTable(t *testing.T) {
	for _, tt := range []struct{ name, text, want, wantErr string }{
		{name: "old table", text: "a\n" + beginMark + "old\n" + endMark + "b\n", want: "a\n" + beginMark + "new\n" + endMark + "b\n"},
		{name: "no table", text: beginMark + endMark, want: beginMark + "new\n" + endMark},
		{name: "no marks", text: "a\n", wantErr: `want one line "<!-- BEGIN scenarios -->" and one line "<!-- END scenarios -->"`},
		{name: "no end", text: beginMark, wantErr: `want one line "<!-- BEGIN scenarios -->" and one line "<!-- END scenarios -->"`},
		{
			name: "two tables", text: beginMark + endMark + beginMark + endMark,
			wantErr: `want one line "<!-- BEGIN scenarios -->" and one line "<!-- END scenarios -->"`,
		},
		{name: "end before beginning", text: endMark + beginMark, wantErr: `want "<!-- BEGIN scenarios -->" before "<!-- END scenarios -->"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := replaceTable(tt.text, "new\n")
			gotErr := ""
			if err != nil {
				gotErr = err.Error()
			}
			if got != tt.want || gotErr != tt.wantErr {
				t.Errorf("got %q, %q, want %q, %q", got, gotErr, tt.want, tt.wantErr)
			}
		})
	}
}

const module = "github.com/cnitest/cnitest"

// importRules say which packages must not reach which, directly or through others.
func importRules() []importRule {
	return []importRule{
		{of: []string{"./plugin/..."}, never: module + "/e2e", why: "a plugin is no part of its test"},
		{of: []string{"./e2e/..."}, never: module + "/plugin", why: "the suite knows a plugin only by its conflist and its binary"},
		{of: []string{"./e2e", "./e2e/agent"}, never: module + "/e2e/backend", why: "the caller passes a backend in"},
		{of: []string{"./e2e/internal/environment"}, never: module + "/e2e/internal/packetpath", why: "who is there does not depend on how packets went"},
		{of: []string{"./e2e/internal/environment", "./e2e/internal/packetpath"}, never: module + "/e2e/internal/runner", why: "an explanation runs no steps"},
		{of: []string{"./e2e/internal/runner"}, never: module + "/e2e/internal/residue", why: "a runner does not judge what it leaves"},
		{of: []string{"./e2e/internal/runner", "./e2e/internal/residue"}, never: module + "/e2e/internal/soak", why: "a soak is one use of a runner"},
		{of: []string{"./e2e/internal/soak"}, never: module + "/e2e/internal/residue", why: "a soak and the search for residue are two uses of a runner"},
	}
}

type importRule struct {
	of    []string
	never string
	why   string
}

// broken are the packages among deps that the rule forbids.
func (r importRule) broken(deps []string) []string {
	return slices.DeleteFunc(slices.Clone(deps), func(dep string) bool {
		return dep != r.never && !strings.HasPrefix(dep, r.never+"/")
	})
}

// TestImports holds for what is built, tests left out: those of e2e use a backend.
func TestImports(t *testing.T) {
	for _, rule := range importRules() {
		t.Run(strings.Join(rule.of, " "), func(t *testing.T) {
			deps := goList(t, rule.of...)
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
		if got := rule.broken(goList(t, rule.of...)); !slices.Contains(got, module+"/e2e/backend/netns") {
			t.Errorf("got %q, want the netns backend among them", got)
		}
	})
}

// goList are the packages and all that they import.
func goList(t *testing.T, packages ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps"}, packages...)...)
	cmd.Dir = "../../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return strings.Fields(string(out))
}
