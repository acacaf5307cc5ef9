package matrix

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// sources returns reports about three versions of ptp and one of bridge: the published ones, with what later versions
// mended and broke.
func sources(t *testing.T) []Source {
	t.Helper()
	read := func(name, version string, change map[string]report.Outcome) Source {
		r, err := report.ReadFile("../../reports/" + name + "/report.json")
		if err != nil {
			t.Fatal(err)
		}
		r.Implementation.Version = version
		for i := range r.Implementation.Plugins {
			r.Implementation.Plugins[i].Version = version
		}
		for i := range r.Results {
			if o, ok := change[r.Results[i].Name()]; ok {
				r.Results[i].Result = o
				if o == report.Fail {
					r.Results[i].Reason = "it says <no> in " + version
				}
				delete(change, r.Results[i].Name())
			}
		}
		if len(change) > 0 {
			t.Fatalf("no results %v in the report of %s", change, name)
		}
		if version == "v1.2.0" {
			r.Implementation.CNIVersion = "1.0.0"
		}
		r.Verdict = r.Judge()
		return Source{Dir: "reports/" + name + " " + version, Report: r}
	}
	return []Source{
		read("ptp", "v1.10.0", map[string]report.Outcome{"DEL-2 ptp": report.Fail}),
		read("ptp", "v1.2.0", map[string]report.Outcome{
			"del-twice": report.Fail, "DEL-1 ptp": report.NotApplicable, "DLG-3 ptp": report.NotApplicable,
			"DEL-2 ptp": report.Pass, "GC-2 host-local": report.Pass,
		}),
		read("ptp", "v1.9.1", map[string]report.Outcome{"DEL-2 ptp": report.Pass, "DEL-3 ptp": report.Skipped}),
		read("bridge", "v1.10.0", nil),
	}
}

func TestNew(t *testing.T) {
	all := sources(t)
	m, err := New(all)
	if err != nil {
		t.Fatal(err)
	}
	type change struct{ What, From, To, ID, Before, After string }
	got := map[string][]change{}
	var names []string
	for _, p := range m.Plugins {
		var versions []string
		for _, v := range p.Versions {
			versions = append(versions, v.Version)
		}
		names = append(names, p.title()+": "+strings.Join(versions, " "))
		for _, c := range p.Changes {
			got[p.Name] = append(got[p.Name], change{c.What, c.From, c.To, c.ID, string(c.Before), string(c.After)})
		}
	}
	if diff := cmp.Diff([]string{
		"bridge (of bridge + host-local, cni): v1.10.0", "ptp (of ptp + host-local, cni): v1.2.0 v1.9.1 v1.10.0",
		"host-local: v1.2.0 v1.9.1 v1.10.0",
	}, names); diff != "" {
		t.Errorf("plugins (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]change{
		"ptp": {
			{Came, "v1.2.0", "v1.9.1", "DEL-1", "not-applicable", "pass"},
			{Asked, "v1.2.0", "v1.9.1", "DLG-3", "not-applicable", "fail"},
			{Came, "v1.2.0", "v1.9.1", "del-twice", "fail", "pass"},
			{Went, "v1.9.1", "v1.10.0", "DEL-2", "pass", "fail"},
		},
		"host-local": {{Went, "v1.2.0", "v1.9.1", "GC-2", "pass", "fail"}},
	}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if v := m.Plugins[1].At("v1.9.1"); v == nil || v.Verdict != report.NotConformant ||
		v.Report != "reports/ptp v1.9.1" {
		t.Errorf("got %+v, want the report of v1.9.1", v)
	}
}

// A first attachment is listed only where it failed, and is no question that only one version was asked.
func TestNew_first_attachment(t *testing.T) {
	all := sources(t)
	r := all[1].Report
	r.Results = append(r.Results, report.Result{
		ID: firstAttachment, Kind: "requirement", Plugin: "ptp", Level: report.Must, Result: report.Fail,
		Reason: "refused",
	})
	m, err := New(all[:2])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(m.Plugins[0].Changes, func(c Change) bool {
		return strings.HasPrefix(c.ID, firstAttachment) && c.What == Came && c.Before == report.Fail &&
			c.After == report.Pass
	}) {
		t.Errorf("got %+v, want the first attachment among what came", m.Plugins[0].Changes)
	}
}

func TestNew_refuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]Source)
		want   string
	}{
		{"twice", func(all []Source) { all[0] = all[1]; all[0].Dir = "again" }, "reports/ptp v1.2.0: is about ptp v1.2.0 in profile cni, and so is again"},
		{"a runtime", func(all []Source) { all[3].Report.Profile = report.RuntimeProfile }, "reports/bridge v1.10.0: is about a runtime, and not about plugins"},
		{"a shard", func(all []Source) { all[3].Report.Inputs = &report.Inputs{Shard: "1/2"} }, "reports/bridge v1.10.0: is shard 1/2 of a run: merge all shards first"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := sources(t)
			tt.change(all)
			m, err := New(all)
			if m != nil || err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("a machine that could not run it", func(t *testing.T) {
		all := sources(t)
		all[3].Report.Verdict, all[3].Report.Notes = report.EnvUnfit, []string{"no bridges"}
		m, err := New(all)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"bridge v1.10.0 could not be run: no bridges"}, m.Notes); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMatrix_WriteDir(t *testing.T) {
	m, err := New(sources(t))
	if err != nil {
		t.Fatal(err)
	}
	m.Notes = append(m.Notes, "vlan v1.0 <could> not be run")
	dir := filepath.Join(t.TempDir(), "new")
	if err := m.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	for _, name := range []string{JSONName, HTMLName, MarkdownName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text[name] = string(data)
	}
	if err := report.Validate(schema, []byte(text[JSONName])); err != nil {
		t.Errorf("schema: %v", err)
	}
	var back Matrix
	decoder := json.NewDecoder(bytes.NewReader([]byte(text[JSONName])))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&back); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		`href="./reports/ptp%20v1.9.1/report.html"`, "<strong>DEL-2</strong> went (was pass)", "it says &lt;no&gt; in v1.10.0",
		"<strong>del-twice</strong> came (was fail)",
		"<h4>v1.9.1, after v1.2.0 (CNI 1.1.0, not 1.0.0)</h4>", "<strong>DLG-3</strong> could not be asked before",
		"vlan v1.0 &lt;could&gt; not be run", ">was not under test",
	} {
		if !strings.Contains(text[HTMLName], want) {
			t.Errorf("%s: want %s in it", HTMLName, want)
		}
	}
	for _, want := range []string{
		"| plugin | v1.2.0 | v1.9.1 | v1.10.0 |\n", "| bridge (of bridge + host-local, cni) | | | [✗ ",
		"- went: **DEL-2** (pass → fail) ", "it says &lt;no&gt; in v1.10.0", "- came: **del-twice** (fail → pass) ",
		"- asked: **DLG-3** (not-applicable → fail) ", "v1.9.1, after v1.2.0 (CNI 1.1.0, not 1.0.0):\n",
		"| DEL-3 | ✓ pass | ↷ skipped | ✓ pass |", "\n- vlan v1.0 &lt;could&gt; not be run\n",
	} {
		if !strings.Contains(text[MarkdownName], want) {
			t.Errorf("%s: want %s in it, got\n%s", MarkdownName, want, text[MarkdownName])
		}
	}
}

// Plugins with versions in common are of one project, and have a table of their own.
func TestMatrix_projects(t *testing.T) {
	with := func(name string, versions ...string) Plugin {
		p := Plugin{Name: name}
		for _, v := range versions {
			p.Versions = append(p.Versions, Version{Version: v})
		}
		return p
	}
	m := &Matrix{Plugins: []Plugin{
		with("bridge", "v1.9.1", "v1.10.0"), with("whereabouts", "v0.9.2"), with("ptp", "v0.8.6", "v1.10.0"),
	}}
	want := []project{
		{Versions: []string{"v0.8.6", "v1.9.1", "v1.10.0"}, Plugins: []int{0, 2}},
		{Versions: []string{"v0.9.2"}, Plugins: []int{1}},
	}
	if diff := cmp.Diff(want, m.projects()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
