package main

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/report"
)

func TestSubject_compare(t *testing.T) {
	run := func(verdict report.Verdict, outcomes ...report.Outcome) *report.Report {
		r := &report.Report{Verdict: verdict}
		for i, outcome := range outcomes {
			r.Results = append(r.Results, report.Result{
				ID: []string{"host-to-pod", "pod-churn"}[i], Kind: "scenario", Level: report.Must, Result: outcome,
			})
		}
		return r
	}
	quiet := run(report.Conformant, report.Pass, report.KnownUpstream)
	for name, tt := range map[string]struct {
		now  *report.Report
		want int
	}{
		"the same":                {run(report.Conformant, report.Pass, report.KnownUpstream), 0},
		"a failure and a verdict": {run(report.NotConformant, report.Fail, report.KnownUpstream), 2},
		"an excuse":               {run(report.Conformant, report.Skipped, report.KnownUpstream), 1},
		"better":                  {run(report.Conformant, report.Pass, report.Pass), 1},
		"one that is gone":        {run(report.Conformant, report.Pass), 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &subject{args: []string{"net.conflist"}, quiet: quiet}
			if got := s.compare(tt.now, "beside loops"); got != tt.want {
				t.Errorf("got %d differences, want %d", got, tt.want)
			}
		})
	}
}
