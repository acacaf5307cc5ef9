package expectation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml/yamltest"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// full uses every field once.
const full = `apiVersion: cnitest/v1alpha1
kind: Expectation
profile: cni
features: [CrossNode]
plugins: [mynet]
deviations:
- plugin: mynet
  ids: [GC-1, GC-2]
  result: vacuous
  reason: it has no GC
- ids: [host-to-pod]
  result: fail
  sometimes: true
  reason: it races with itself
`

func parse(t *testing.T, text string) *Expectation {
	t.Helper()
	e, err := Parse("my.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestParse(t *testing.T) {
	want := &Expectation{
		APIVersion: scenario.APIVersion, Kind: Kind, Profile: scenario.ProfileCNI,
		Features: []scenario.Feature{scenario.CrossNode},
		Plugins:  []string{"mynet"},
		Deviations: []Deviation{
			{Plugin: "mynet", IDs: []string{"GC-1", "GC-2"}, Result: report.Vacuous, Reason: "it has no GC"},
			{IDs: []string{"host-to-pod"}, Result: report.Fail, Sometimes: true, Reason: "it races with itself"},
		},
	}
	if diff := cmp.Diff(want, parse(t, full), cmpopts.IgnoreUnexported(Expectation{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParse_mistakes(t *testing.T) { yamltest.Mistakes(t, Parse) }

func TestCompare(t *testing.T) {
	implementation := report.Implementation{
		Plugins: []report.Plugin{{Type: "mynet", UnderTest: true}, {Type: "host-local"}},
	}
	as := func(id, plugin string, outcome report.Outcome) report.Result {
		return report.Result{ID: id, Plugin: plugin, Result: outcome, Reason: "it is so"}
	}
	known := []report.Result{
		as("GC-1", "mynet", report.Vacuous), as("GC-2", "mynet", report.Vacuous),
		as("host-to-pod", report.Chain, report.Fail),
	}
	for _, tt := range []struct {
		name    string
		results []report.Result
		want    []string
	}{
		{"as expected", known, nil},
		{"one that fails sometimes passes", []report.Result{as("host-to-pod", report.Chain, report.Pass)}, nil},
		{"a plugin that is not under test", []report.Result{as("GC-1", "host-local", report.Vacuous)}, nil},
		{"what cannot be run here", []report.Result{as("GC-1", "mynet", report.Skipped), as("GC-2", "mynet", report.NotApplicable)}, nil},
		{"a new failure", []report.Result{as("GC-3", "mynet", report.Fail)}, []string{"GC-3 of mynet: want a pass, got fail: it is so"}},
		{"a new failure of the chain", []report.Result{as("GC-1", report.Chain, report.Fail)}, []string{"GC-1: want a pass, got fail: it is so"}},
		{"another result", []report.Result{as("GC-1", "mynet", report.Fail)}, []string{"GC-1 of mynet: want vacuous, got fail: it is so"}},
		{
			"what failed passes",
			[]report.Result{as("GC-1", "mynet", report.Pass)},
			[]string{"GC-1 of mynet: want vacuous, got a pass; if it is to stay so, take it out of my.yaml"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := parse(t, full).Compare(&report.Report{Implementation: implementation, Results: tt.results})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSteady(t *testing.T) {
	e := parse(t, full)
	r := &report.Report{Results: []report.Result{
		{ID: "host-to-pod", Plugin: report.Chain, Result: report.Pass},
		{ID: "pod-churn", Plugin: report.Chain, Result: report.Pass},
		{ID: "GC-1", Plugin: "mynet", Result: report.Pass},
	}}
	var got []report.Outcome
	for _, result := range e.Steady(r).Results {
		got = append(got, result.Result)
	}
	if diff := cmp.Diff([]report.Outcome{report.Fail, report.Pass, report.Pass}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.Results[0].Result != report.Pass {
		t.Errorf("the report itself changed: %v", r.Results[0])
	}
}

func TestExplain(t *testing.T) {
	r := &report.Report{
		Implementation: report.Implementation{Plugins: []report.Plugin{{Type: "mynet", UnderTest: true}}},
		Results: []report.Result{
			{ID: "GC-1", Plugin: "mynet", Result: report.Vacuous, Evidence: []report.Evidence{{Title: "call"}}},
			{ID: "GC-3", Plugin: "mynet", Result: report.Fail},
			{ID: "host-to-pod", Plugin: report.Chain, Result: report.Pass},
		},
	}
	if n := parse(t, full).Explain(r); n != 1 {
		t.Errorf("got %d explained, want 1", n)
	}
	want := []report.Result{
		{ID: "GC-1", Plugin: "mynet", Result: report.Vacuous, Evidence: []report.Evidence{{Title: "expected", Text: "it has no GC"}, {Title: "call"}}},
		{ID: "GC-3", Plugin: "mynet", Result: report.Fail},
		{ID: "host-to-pod", Plugin: report.Chain, Result: report.Pass},
	}
	if diff := cmp.Diff(want, r.Results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
