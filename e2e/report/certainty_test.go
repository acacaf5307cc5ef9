package report_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// run returns a report of outcomes: of host-to-pod, and of DEL-4 of route.
func run(scenario, requirement report.Outcome) *report.Report {
	r := of(report.Result{
		ID: "host-to-pod", Kind: "scenario", Plugin: report.Chain, Level: report.Core, Result: scenario,
		Evidence: []report.Evidence{{Title: "packets", File: "evidence/host-to-pod.pcapng"}},
	})
	if requirement != "" {
		r.Results = append(r.Results, report.Result{
			ID: "DEL-4", Kind: "requirement", Plugin: "route", Level: report.Must, Result: requirement,
		})
	}
	r.Verdict, r.DurationSeconds = r.Judge(), 2
	return r
}

func TestRepeated(t *testing.T) {
	dirs := []string{"run-1", "run-2", "run-3"}
	for _, tt := range []struct {
		name    string
		runs    []*report.Report
		verdict report.Verdict
		want    string
	}{
		{
			"the same",
			[]*report.Report{run("pass", "pass"), run("pass", "pass")},
			report.Conformant,
			"2 runs, the same 2 results each time",
		},
		{
			"a flake",
			[]*report.Report{run("pass", "pass"), run("fail", "pass"), run("pass", "pass")},
			report.NotConformant,
			"3 runs, in which 1 of 2 results differed: host-to-pod (pass 2 times, fail once)",
		},
		{
			"one that is not always there",
			[]*report.Report{run("pass", "skipped"), run("pass", "")},
			report.Partial,
			"2 runs, in which 1 of 2 results differed: DEL-4 route (skipped once, absent once)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := report.Repeated(tt.runs, dirs)
			if got.Verdict != tt.verdict || got.Certainty() != tt.want ||
				got.DurationSeconds != float64(2*len(tt.runs)) {
				t.Errorf("got %s, %q in %.0f s, want %s, %q", got.Verdict, got.Certainty(), got.DurationSeconds,
					tt.verdict,
					tt.want)
			}
			if file := tt.runs[0].Results[0].Evidence[0].File; file != "evidence/host-to-pod.pcapng" {
				t.Errorf("the first run now has its evidence in %s", file)
			}
		})
	}
	flaky := report.Repeated([]*report.Report{run("pass", "pass"), run("fail", "pass")}, dirs)
	if got, want := flaky.Results[0].Evidence[0].File, "run-2/evidence/host-to-pod.pcapng"; got != want {
		t.Errorf("evidence of the failure: got %s, want %s", got, want)
	}
}

func TestReport_Certainty(t *testing.T) {
	r := run("pass", "pass")
	if diff := cmp.Diff("one run", r.Certainty()); diff != "" {
		t.Error(diff)
	}
	r.Results[0].FirstRun = &report.FirstRun{Result: report.Fail}
	want := "one run; 1 of the results come from a second try, since the machine was too busy for the first"
	if diff := cmp.Diff(want, r.Certainty()); diff != "" {
		t.Error(diff)
	}
}
