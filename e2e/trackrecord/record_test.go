package trackrecord

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// TestLoad checks the form of the table, and that every scenario, requirement, conflist and version in it exists.
func TestLoad(t *testing.T) {
	table, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, d := range table.Defects {
		if d.Caught == nil {
			continue
		}
		used = append(used, d.Caught.Conflist)
		if len(d.Caught.types) == 0 || d.Caught.Tested == "" {
			t.Errorf("%s: its conflist has no plugins", d.Name)
		}
	}
	files, err := filepath.Glob("net.d/*.conflist")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".conflist"); !slices.Contains(used, name) {
			t.Errorf("%s: no row uses it; remove it", file)
		}
	}
}

func TestLoad_mistakes(t *testing.T) {
	const row = `defects:
- name: one
  kind: check
  what: Something does not work for users.
  sources: [containernetworking/plugins#1]
  plugin: bridge
  of: plugins
  bad: v1.9.0
  fixed: v1.9.1
  caught: {id: CHK-6, conflist: some, says: panic}
`
	for _, tt := range []struct{ name, old, new, wantErr string }{
		{"correct", "", "", ""},
		{"unknown id", "CHK-6", "CHK-66", `one: no scenario and no requirement is named "CHK-66"`},
		{"missing conflist", "conflist: some", "conflist: other", "other.conflist: no such file or directory"},
		{"missing version", "v1.9.0", "v1.9.7", "plugins-v1.9.7/go.mod: no such file or directory"},
		{"same version", "v1.9.0", "v1.9.1", "version v1.9.1 both has it and has it not"},
		{"twice", "defects:\n", row, "one is there twice"},
		{"unknown field", "plugin:", "plugins:", "unknown field"},
		{"two verdicts", "  caught:", "  untestable: It needs hardware.\n  caught:", "defects.0: must validate one and only one schema"},
		{"no reason", ", says: panic", "", `defects.0.caught: missing property "says"`},
		{"a source that is none", "plugins#1", "plugins", "defects.0.sources.0"},
		{"two sentences of a table", "users.", "users | all.", "defects.0.what"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, version := range []string{"v1.9.0", "v1.9.1"} {
				write(t, filepath.Join(dir, "versions/plugins-"+version+"/go.mod"), "module m\n")
			}
			write(t, filepath.Join(dir, "net.d/some.conflist"), `{"plugins": [{"type": "bridge"}]}`)
			write(t, filepath.Join(dir, "record.yaml"), strings.Replace(row, tt.old, tt.new, 1))
			_, err := Load(dir)
			if got := text(err); got != tt.wantErr && (tt.wantErr == "" || !strings.Contains(got, tt.wantErr)) {
				t.Errorf("got %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestVerdict checks what counts as red and as green.
func TestVerdict(t *testing.T) {
	d := &Defect{Plugin: "ptp", Caught: &Check{ID: "CHK-6", Says: "panic"}}
	fails := func(id, plugin, reason string) report.Result {
		return report.Result{ID: id, Plugin: plugin, Result: report.Fail, Reason: reason}
	}
	for _, tt := range []struct {
		name       string
		results    []report.Result
		red, green string
	}{
		{
			"fails",
			[]report.Result{fails("CHK-6", "ptp", "exit status 2: panic: nil")},
			"", "CHK-6 of ptp: fail exit status 2: panic: nil, want pass",
		},
		{
			"passes",
			[]report.Result{{ID: "CHK-6", Plugin: "ptp", Result: report.Pass}},
			"CHK-6 of ptp: pass , want fail", "",
		},
		{
			"fails for another reason",
			[]report.Result{fails("CHK-6", "ptp", "no route")},
			`CHK-6 of ptp fails for the reason "no route", want one with "panic"`,
			"CHK-6 of ptp: fail no route, want pass",
		},
		{
			"another plugin's",
			[]report.Result{fails("CHK-6", "host-local", "panic")},
			"no result of CHK-6 about ptp", "no result of CHK-6 about ptp",
		},
		{
			"more fails",
			[]report.Result{
				fails("CHK-6", "ptp", "panic"), fails("host-to-pod", report.Chain, "no reply"),
			},
			"host-to-pod of chain fails, too: no reply", "CHK-6 of ptp: fail panic, want pass",
		},
		{
			"something stays, too",
			[]report.Result{
				fails("CHK-6", "ptp", "panic"), fails("leaves-nothing", report.Chain, "1 file"),
			},
			"", "CHK-6 of ptp: fail panic, want pass",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			read := &report.Report{Results: tt.results}
			got := []string{text(d.red(read)), text(d.passed(read))}
			if diff := cmp.Diff([]string{tt.red, tt.green}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestExcuse checks that a machine without a feature of the kernel is blamed only where the row names one.
func TestExcuse(t *testing.T) {
	unfit := &report.Report{Verdict: report.EnvUnfit}
	refused := &report.Report{Results: []report.Result{{Lacks: "vrf links (CONFIG_NET_VRF)"}}}
	for _, tt := range []struct {
		kernel string
		read   *report.Report
		lacks  string
	}{
		{"vrf links", unfit, "the kernel's vrf links"},
		{"vrf links", refused, "the kernel's vrf links"},
		{"vrf links", &report.Report{}, ""},
		{"", unfit, ""},
		{"vrf links", nil, ""},
	} {
		d := &Defect{Caught: &Check{Kernel: tt.kernel}}
		if got := d.excuse(tt.read, os.ErrInvalid); got.lacks != tt.lacks || (got.wrong == nil) != (tt.lacks != "") {
			t.Errorf("%q, %v: got %+v, want lacks %q", tt.kernel, tt.read, got, tt.lacks)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
