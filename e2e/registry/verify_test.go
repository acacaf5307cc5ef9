package registry

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/scenarios"
)

const testVersion = "v1.2.3"

// submission returns what the release of the test would have found about upstream's ptp: the published report, with the
// ids of today, in a directory with its pages and the binaries.
func submission(t *testing.T) (dir string, r *report.Report) {
	t.Helper()
	r, err := report.ReadFile("../reports/ptp/report.json")
	if err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile("../thirdparty/net.d/ptp.conflist")
	if err != nil {
		t.Fatal(err)
	}
	questions, err := Questions(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for i := range r.Implementation.Plugins {
		p := &r.Implementation.Plugins[i]
		file := filepath.Join(dir, "bin", p.Type)
		err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(p.Type), 0o755))
		if err != nil {
			t.Fatal(err)
		}
		described, err := report.DescribeProgram(file)
		if err != nil {
			t.Fatal(err)
		}
		p.SHA256 = described.SHA256
	}
	r.Suite.Version = testVersion
	r.Implementation.Origin = report.Origin{
		Organization: "CNI", Project: "plugins", Version: "v1.10.0", Contact: "cni@example.org",
	}
	r.Inputs = &report.Inputs{
		Command: "cnitest run ptp.conflist", Questions: questions,
		Files: []report.InputFile{report.NewInputFile("ptp.conflist", conf)},
	}
	r.Inputs.SHA256 = r.InputsSum()
	today(t, dir, r)
	write(t, dir, r)
	return dir, r
}

// today gives the report the ids of this version, which may have others than the one that wrote it.
func today(t *testing.T, dir string, r *report.Report) {
	t.Helper()
	v := &verifier{Report: r, options: Options{Scenarios: scenarios.Files}, dir: dir}
	questions, err := v.asked()
	if err != nil {
		t.Fatal(err)
	}
	r.Results = slices.DeleteFunc(r.Results, func(res report.Result) bool {
		_, known := questions[res.Name()]
		return !known
	})
	for _, name := range sorted(questions) {
		q := questions[name]
		i := slices.IndexFunc(r.Results, func(res report.Result) bool { return res.Name() == name })
		if i < 0 {
			id, _, _ := strings.Cut(name, " ")
			r.Results = append(r.Results, report.Result{
				ID: id, Title: id, Kind: q.kind, Plugin: q.plugin, Result: report.Pass, Covers: []string{},
			})
			i = len(r.Results) - 1
			if q.kind == "scenario" {
				r.Results[i].Plugin = report.Chain
			}
		}
		r.Results[i].Level = q.level
		for j := range r.Results[i].Evidence {
			r.Results[i].Evidence[j].File = ""
		}
	}
	r.Verdict = r.Judge()
}

// write writes a report as cnitest does.
func write(t *testing.T, dir string, r *report.Report) {
	t.Helper()
	if err := r.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
}

func find(r *report.Report, name string) *report.Result {
	for i := range r.Results {
		if r.Results[i].Name() == name {
			return &r.Results[i]
		}
	}
	panic("no result " + name)
}

func check(t *testing.T, dir string, o Options, want ...string) {
	t.Helper()
	if o.Version == "" {
		o.Version = testVersion
	}
	o.Scenarios = scenarios.Files
	_, problems := Verify(dir, o)
	got := []string{}
	for _, problem := range problems {
		got = append(got, strings.ReplaceAll(problem.Error(), dir, "DIR"))
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestVerify(t *testing.T) {
	dir, r := submission(t)
	check(t, dir, Options{BinDir: filepath.Join(dir, "bin")})
	if r.Verdict != report.NotConformant || len(r.Results) < 200 {
		t.Errorf("got %s of %d results, want the whole report of ptp", r.Verdict, len(r.Results))
	}
}

// TestVerify_tampered changes one thing each, as somebody does who wants to look better and writes report and pages
// again, digest included.
func TestVerify_tampered(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tamper func(r *report.Report)
		want   []string
	}{
		{"the verdict", func(r *report.Report) { r.Verdict = report.Conformant }, []string{
			"its verdict is conformant, and not-conformant follows from its results (TALLY)",
		}},
		{"no verdict", func(r *report.Report) { r.Verdict = report.EnvUnfit }, []string{
			"its verdict is env-unfit: it says nothing of the plugins",
		}},
		{"a failure left out", func(r *report.Report) {
			r.Results = slices.DeleteFunc(r.Results, func(res report.Result) bool { return res.Name() == "DLG-3 ptp" })
		}, []string{"it has no result of DLG-3 ptp"}},
		{"a scenario left out", func(r *report.Report) {
			r.Results = slices.DeleteFunc(r.Results, func(res report.Result) bool { return res.ID == "reboot" })
		}, []string{"it has no result of reboot"}},
		{"a result of another suite", func(r *report.Report) {
			r.Results = append(r.Results, report.Result{
				ID: "ADD-99", Kind: "requirement", Plugin: "ptp",
				Level: "MUST", Result: "pass",
			})
		}, []string{"it has a result of ADD-99 ptp, which cnitest v1.2.3 does not ask"}},
		{"a result twice", func(r *report.Report) { r.Results = append(r.Results, *find(r, "DEL-4 ptp")) }, []string{
			"it has two results of DEL-4 ptp",
		}},
		{"a level", func(r *report.Report) { find(r, "DLG-3 ptp").Level = "SHOULD" }, []string{
			"its result of DLG-3 ptp is of a requirement with the level SHOULD, and cnitest v1.2.3 has a requirement " +
				"with the level MUST",
		}},
		{"the conflist", func(r *report.Report) { r.Inputs.Files[0].Text += "\n" }, []string{
			"its input ptp.conflist has the hash HASH, and its text has HASH",
			"its inputs have the hash HASH, and what it says of plugins, profile and files has HASH",
		}},
		{"another chain", func(r *report.Report) {
			r.Implementation.Plugins = r.Implementation.Plugins[:1]
			r.Inputs.SHA256 = r.InputsSum()
		}, []string{"its conflist names the plugins ptp, host-local, and it is about ptp"}},
		{"the profile", func(r *report.Report) { r.Profile = "easy" }, []string{
			"its inputs have the hash HASH, and what it says of plugins, profile and files has HASH",
			`its profile "easy" is none of [cni underlay kubernetes production isolation]`,
		}},
		{"the binary", func(r *report.Report) {
			r.Implementation.Plugins[0].SHA256 = strings.Repeat("a", 64)
			r.Inputs.SHA256 = r.InputsSum()
		}, []string{"the binary of ptp has the hash HASH, and HASH was tested"}},
		{"no hash", func(r *report.Report) {
			r.Implementation.Plugins[0].SHA256 = "none"
			r.Inputs.SHA256 = r.InputsSum()
		}, []string{`the hash of ptp is "none", and no SHA-256`}},
		{"another suite", func(r *report.Report) { r.Inputs.Questions = strings.Repeat("b", 64) }, []string{
			"its scenarios and requirements (HASH) are not those of cnitest v1.2.3 (HASH)",
		}},
		{"a shard", func(r *report.Report) { r.Inputs.Shard = "1/2" }, []string{
			"it is shard 1/2 of a run: merge all shards first (cnitest report merge)",
		}},
		{"a selection", func(r *report.Report) {
			r.Inputs.Selection = "del-*"
			r.Inputs.SHA256 = r.InputsSum()
		}, []string{"only a selection was asked: del-*"}},
		{"an interrupted run", func(r *report.Report) { r.Interrupted = true }, []string{
			"the run ended before everything had been asked",
		}},
		{"nobody", func(r *report.Report) {
			r.Implementation.Contact = ""
			r.Inputs.SHA256 = r.InputsSum()
		}, []string{"it names no contact: write implementation.contact into the target file, and run it again"}},
		{"evidence", func(r *report.Report) {
			find(r, "DLG-3 ptp").Evidence = []report.Evidence{{Title: "packets", File: "evidence/x.pcapng"}}
		}, []string{"evidence of DLG-3 ptp: stat DIR/evidence/x.pcapng: no such file or directory"}},
		{"no inputs", func(r *report.Report) { r.Inputs = nil }, []string{
			"it has no inputs, so that nobody can repeat it: it was written by a cnitest that kept none",
		}},
		{"a runtime", func(r *report.Report) { r.Profile = report.RuntimeProfile }, []string{
			"it is about a runtime, and the registry is one of plugins",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, r := submission(t)
			tt.tamper(r)
			write(t, dir, r)
			_, problems := Verify(dir, Options{
				Version: testVersion, Scenarios: scenarios.Files,
				BinDir: filepath.Join(dir, "bin"),
			})
			var got []string
			for _, problem := range problems {
				got = append(got, anonymous(problem.Error(), dir, r))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// anonymous replaces what is another one from run to run.
func anonymous(text, dir string, r *report.Report) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, dir, "DIR"), r.Tally(), "TALLY")
	words := strings.Fields(text)
	for i, word := range words {
		hash := strings.Trim(word, "(),:")
		if len(hash) == 12 && strings.Trim(hash, "0123456789abcdef") == "" {
			words[i] = strings.Replace(word, hash, "HASH", 1)
		}
	}
	return strings.Join(words, " ")
}

// TestVerify_edited changes a file with an editor.
func TestVerify_edited(t *testing.T) {
	replace := func(name, old, with string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			file := filepath.Join(dir, name)
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), old) {
				t.Fatalf("%v, or no %q in %s", err, old, name)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, with, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name string
		edit func(t *testing.T, dir string)
		o    Options
		want string
	}{
		{"a title", func(t *testing.T, dir string) {
			r, err := report.ReadFile(filepath.Join(dir, report.JSONName))
			if err != nil {
				t.Fatal(err)
			}
			replace(report.JSONName, r.Results[0].Title, "Everything is well.")(t, dir)
			r.Results[0].Title = "Everything is well."
			digest := r.Digest
			write(t, dir, r)
			replace(report.JSONName, r.Sum(), digest)(t, dir)
		}, Options{}, "its digest is HASH, and its content has HASH: something in it was changed"},
		{"the page", replace(report.HTMLName, "not-conformant", "conformant"), Options{}, "report.html shows something else than report.json"},
		{"the summary", replace(report.MarkdownName, "not-conformant", "conformant"), Options{}, "report.md shows something else than report.json"},
		{"an unknown field", replace(report.JSONName, `"profile"`, `"nice": 1, "profile"`), Options{}, "DIR/report.json: document: unknown property \"nice\""},
		{"no page", func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, report.HTMLName)) }, Options{}, "open DIR/report.html: no such file or directory"},
		{"another release", func(*testing.T, string) {}, Options{Version: "v1.3.0"}, "it was written by cnitest v1.2.3, and this is v1.3.0: verify it with the former"},
		{"no binary", func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "bin", "ptp")) }, Options{BinDir: "bin"}, "the binary of ptp cannot be compared: open DIR/bin/ptp: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, r := submission(t)
			tt.edit(t, dir)
			o := tt.o
			o.Scenarios = scenarios.Files
			if o.Version == "" {
				o.Version = testVersion
			}
			if o.BinDir != "" {
				o.BinDir = filepath.Join(dir, o.BinDir)
			}
			_, problems := Verify(dir, o)
			var got []string
			for _, problem := range problems {
				got = append(got, anonymous(problem.Error(), dir, r))
			}
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerify_unreleased(t *testing.T) {
	dir, r := submission(t)
	r.Suite.Version = "(devel)"
	write(t, dir, r)
	o := Options{Version: "(devel)"}
	check(t, dir, o, "it was written by cnitest (devel), which is no release")
	o.Unreleased = true
	check(t, dir, o)
	r.Implementation.Version, r.Inputs.SHA256 = "", ""
	r.Inputs.SHA256 = r.InputsSum()
	write(t, dir, r)
	check(t, dir, o)
	o.Unreleased = false
	check(t, dir, o, "it was written by cnitest (devel), which is no release", "it names no version: write "+
		"implementation.version into the target file, and run it again")
}

// Questions changes with a scenario, and not with time.
func TestQuestions(t *testing.T) {
	one, err := Questions(scenarios.Files)
	again, err2 := Questions(scenarios.Files)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	other, err := Questions(fstest.MapFS{"a.yaml": {Data: []byte("a")}})
	if err != nil {
		t.Fatal(err)
	}
	if one != again || one == other {
		t.Errorf("got %s, %s and %s, want the first two alone the same", one, again, other)
	}
}
