package report_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// shards deals the results of a published report out, as runs with --shard do, and gives each what all of them have.
func shards(t *testing.T, of int) (whole *report.Report, parts []report.Part) {
	t.Helper()
	whole, err := report.ReadFile("../reports/ptp/report.json")
	if err != nil {
		t.Fatal(err)
	}
	whole.Inputs = &report.Inputs{
		Command: "cnitest run ptp.conflist", Questions: strings.Repeat("a", 64),
		Files: []report.InputFile{report.NewInputFile("ptp.conflist", []byte("{}"))},
	}
	whole.Inputs.SHA256 = whole.InputsSum()
	for k := range of {
		part, inputs := *whole, *whole.Inputs
		inputs.Shard = fmt.Sprintf("%d/%d", k+1, of)
		part.Inputs, part.Results = &inputs, nil
		for i, res := range whole.Results {
			if i%of == k || res.ID == "leaves-nothing" {
				part.Results = append(part.Results, res)
			}
		}
		part.Scores, part.CallTimes = nil, nil
		if k == 0 {
			part.Scores, part.CallTimes = whole.Scores, whole.CallTimes
		}
		part.Notes = append(slices.Clone(whole.Notes), "the verdict is that of shard "+inputs.Shard+"; more")
		part.Verdict = part.Judge()
		parts = append(parts, report.Part{Name: fmt.Sprintf("out-%d", k+1), Report: &part})
	}
	return whole, parts
}

func TestMerge(t *testing.T) {
	whole, parts := shards(t, 3)
	slices.Reverse(parts)
	got, err := report.Merge(parts)
	if err != nil {
		t.Fatal(err)
	}
	want := *whole
	inputs := *whole.Inputs
	inputs.Shards = 3
	want.Inputs, want.DurationSeconds = &inputs, got.DurationSeconds
	want.Digest = "" // it is made when the report is written
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got.Certainty(), "one run, in 3 shards") {
		t.Errorf("got %q", got.Certainty())
	}
}

// What several shards have a result of is as bad as in the worst of them.
func TestMerge_worst(t *testing.T) {
	_, parts := shards(t, 2)
	for i := range parts[1].Report.Results {
		if parts[1].Report.Results[i].ID == "leaves-nothing" {
			parts[1].Report.Results[i].Result = report.Fail
		}
	}
	parts[1].Report.Interrupted = true
	got, err := report.Merge(parts)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, res := range got.Results {
		if res.ID == "leaves-nothing" && res.Result == report.Fail {
			n++
		}
	}
	if n != 1 || !got.Interrupted {
		t.Errorf("got %d failures of leaves-nothing, interrupted %t; want 1, true", n, got.Interrupted)
	}
}

// What each shard finds is there once, also where it is not the same to the letter.
func TestMerge_once(t *testing.T) {
	whole, parts := shards(t, 3)
	flakes := []report.Flake{{ID: "leaves-nothing", Plugin: "ptp"}, {ID: "del-twice", Plugin: report.Chain}}
	for i, part := range parts {
		part.Report.Residue = slices.Clone(part.Report.Residue)
		for j := range part.Report.Residue {
			part.Report.Residue[j].Change += fmt.Sprint(i)
		}
		part.Report.Runs = &report.Runs{Count: 2, Flakes: flakes}
	}
	got, err := report.Merge(parts)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole.Residue) < 2 {
		t.Fatalf("got %d things left in the published report, want some", len(whole.Residue))
	}
	var want, items []string
	for _, r := range whole.Residue {
		want = append(want, r.Plugin+" "+r.Item)
	}
	for _, r := range got.Residue {
		items = append(items, r.Plugin+" "+r.Item)
	}
	if diff := cmp.Diff(want, items); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(flakes, got.Runs.Flakes); diff != "" {
		t.Errorf("flakes (-want +got):\n%s", diff)
	}
}

func TestMerge_refuses(t *testing.T) {
	again := func(parts []report.Part, at int) report.Part {
		r := *parts[at].Report
		inputs := *r.Inputs
		r.Inputs = &inputs
		r.Implementation.Plugins = slices.Clone(r.Implementation.Plugins)
		r.Inputs.Files = slices.Clone(r.Inputs.Files)
		return report.Part{Name: "again", Report: &r}
	}
	for _, tt := range []struct {
		name   string
		change func(parts []report.Part) []report.Part
		want   string
	}{
		{"none", func([]report.Part) []report.Part { return nil }, "want the reports of all shards of a run, got none"},
		{"one missing", func(p []report.Part) []report.Part { return p[:2] }, "shard 3/3 is missing"},
		{"two missing", func(p []report.Part) []report.Part { return p[1:2] }, "shard 1/3 is missing\nshard 3/3 is missing"},
		{"one twice", func(p []report.Part) []report.Part { return append(p, again(p, 1)) }, "again: is shard 2/3, and so is out-2"},
		{"a whole run", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Inputs.Shard = ""
			return p
		}, "again: is the report of a whole run, and no shard"},
		{"no inputs", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Inputs = nil
			return p
		}, "again: is the report of a whole run, and no shard"},
		{"another number", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Inputs.Shard = "3/4"
			return p
		}, "again: is shard 3/4, and out-1 is one of 3"},
		{"another binary", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Implementation.Plugins[0].SHA256 = strings.Repeat("c", 64)
			p[0] = again(p, 0)
			p[0].Name, p[0].Report.Implementation.Plugins[0].SHA256 = "out-1", strings.Repeat("d", 64)
			p[1] = again(p, 1)
			p[1].Name, p[1].Report.Implementation.Plugins[0].SHA256 = "out-2", strings.Repeat("d", 64)
			return p
		}, "again: another binary of ptp (cccccccccccc, not dddddddddddd) than in out-1"},
		{"another conflist", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Inputs.Files[0].SHA256 = strings.Repeat("e", 64)
			return p
		}, "again: another ptp.conflist (eeeeeeeeeeee, not 44136fa355b3) than in out-1"},
		{"another version and selection", func(p []report.Part) []report.Part {
			p[1] = again(p, 1)
			p[1].Report.Suite.Version, p[1].Report.Inputs.Selection = "v9", "del-*"
			return p
		}, "again: another version of cnitest (v9, not (devel)) than in out-1\n" +
			"again: another selection (del-*, not everything) than in out-1"},
		{"another profile", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Profile = "underlay"
			return p
		}, "again: another profile (underlay, not cni) than in out-1"},
		{"other flags", func(p []report.Part) []report.Part {
			p[2] = again(p, 2)
			p[2].Report.Inputs.Command += " --nics 2"
			return p
		}, "again: another command line or target than in out-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, parts := shards(t, 3)
			got, err := report.Merge(tt.change(parts))
			if err == nil || got != nil {
				t.Fatalf("got %v, %v, want an error", got, err)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReport_WriteBadge(t *testing.T) {
	for verdict, colours := range map[report.Verdict][2]string{
		report.Conformant: {"brightgreen", "#2c7a1f"}, report.Partial: {"yellow", "#7d6608"},
		report.NotConformant: {"red", "#b3261e"}, report.EnvUnfit: {"lightgrey", "#5f6368"},
	} {
		r := &report.Report{Verdict: verdict, Profile: "cni"}
		var text, picture strings.Builder
		if err := r.WriteBadge(&text); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("{\n  \"schemaVersion\": 1,\n  \"label\": \"CNI cni\",\n  \"message\": %q,\n"+
			"  \"color\": %q\n}\n", verdict, colours[0])
		if diff := cmp.Diff(want, text.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := r.WriteBadgeSVG(&picture); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"<title>CNI cni: " + string(verdict) + "</title>", `fill="` + colours[1] + `"`} {
			if !strings.Contains(picture.String(), part) {
				t.Errorf("got\n%s\nwant %s in it", &picture, part)
			}
		}
	}
}
