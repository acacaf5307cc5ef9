package e2e

import (
	"cmp"
	"context"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/residue"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

var (
	quiet    = disturbance.Finding{}
	doubtful = disturbance.Finding{Doubtful: true, Text: "node/a was up to 80ms late"}
	excused  = disturbance.Finding{Doubtful: true, Excused: true, Text: "node/a was up to 400ms late"}
	lost     = disturbance.Finding{Doubtful: true, Excused: true, Lost: true, Text: "a control lost 1 of 9"}
)

// run describes one run of a unit.
type run struct {
	result report.Outcome
	found  disturbance.Finding
	// saw is the reason; empty means the same one for all such runs.
	saw string
	// left is what stayed on a node.
	left string
	// cut means that the whole run had ended before.
	cut bool
}

// TestRunUnit checks that a failure runs a second time if the machine was busy, and nothing else does.
func TestRunUnit(t *testing.T) {
	for _, tt := range []struct {
		name string
		runs []run
		want report.Outcome
		// reason is a part of the result's reason, or of the first run's if there were two.
		reason    string
		first     report.Outcome
		labFailed bool
		// like is the reason for which the unit failed in an earlier run; empty means that there is none.
		like string
	}{
		{name: "passes", runs: []run{{result: report.Pass, found: excused}}, want: report.Pass},
		{name: "fails on a quiet machine", runs: []run{{result: report.Fail, found: quiet}}, want: report.Fail},
		{name: "not applicable", runs: []run{{result: report.NotApplicable, found: excused}}, want: report.NotApplicable},
		{name: "fails once", runs: []run{{result: report.Fail, found: doubtful}, {result: report.Pass, found: quiet}}, want: report.Pass, first: report.Fail},
		{name: "passes on a machine that is busy still", runs: []run{
			{result: report.Fail, found: excused}, {result: report.Pass, found: excused},
		}, want: report.Pass, first: report.Fail},
		{name: "fails twice", runs: []run{{result: report.Fail, found: excused}, {result: report.Fail, found: quiet}}, want: report.Fail, first: report.Fail},
		{name: "fails twice beside busy loops", runs: []run{
			{result: report.Fail, found: doubtful}, {result: report.Fail, found: doubtful},
		}, want: report.Fail, first: report.Fail},
		{
			name: "fails twice while a control loses something", runs: []run{
				{result: report.Fail, found: doubtful}, {result: report.Fail, found: lost},
			},
			want: report.Skipped, first: report.Fail, labFailed: true,
			reason: "the machine was too busy: a control lost 1 of 9",
		},
		{
			name: "fails twice in two ways on a machine that is too busy",
			runs: []run{
				{result: report.Fail, found: doubtful, saw: "killed after 31s"},
				{result: report.Fail, found: excused, saw: "lost 1 of 9"},
			},
			want: report.Skipped, first: report.Fail, labFailed: true,
			reason: "the machine was too busy: node/a was up to 400ms late",
		},
		{
			name: "fails twice in one way on a machine that is too busy",
			runs: []run{
				{result: report.Fail, found: doubtful, saw: "no such link veth7 ee:7e:a7:59:ff:fc"},
				{result: report.Fail, found: excused, saw: "no such link veth9a 8e:01:a7:59:24:57"},
			},
			want: report.Fail, first: report.Fail, reason: "no such link veth9a 8e:01:a7:59:24:57",
		},
		{
			name: "fails like an earlier run", like: "no such link veth9a 8e:01:a7:59:24:57",
			runs: []run{{result: report.Fail, found: excused, saw: "no such link veth7 ee:7e:a7:59:ff:fc"}},
			want: report.Fail, reason: "no such link veth7",
		},
		{
			name: "fails like an earlier run, and a control lost something", like: "what was seen",
			runs: []run{{result: report.Fail, found: lost}, {result: report.Pass, found: quiet}},
			want: report.Pass, first: report.Fail,
		},
		{
			name: "fails unlike an earlier run", like: "killed after 31s",
			runs: []run{{result: report.Fail, found: doubtful}, {result: report.Pass, found: quiet}},
			want: report.Pass, first: report.Fail,
		},
		{name: "vacuous once", runs: []run{
			{result: report.Vacuous, found: doubtful}, {result: report.Pass, found: quiet},
		}, want: report.Pass, first: report.Vacuous},
		{name: "cut off", runs: []run{
			{result: report.Fail, found: doubtful}, {result: report.Fail, found: quiet, cut: true},
		}, want: report.Skipped, reason: stopped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runs := tt.runs
			s := &Suite{residue: residue.New(residue.Config{})}
			s.try = func(_ context.Context, u *Unit, former *attempt, last bool) *attempt {
				if len(runs) == 0 {
					t.Fatal("it was run once more")
				}
				r := runs[0]
				runs = runs[1:]
				return &attempt{
					unit: u, former: former, last: last, known: !r.cut, found: r.found, result: report.Result{
						ID: u.ID, Kind: "scenario",
						Plugin: report.Chain, Result: r.result, Reason: cmp.Or(r.saw, "what was seen"),
					},
				}
			}
			if tt.like != "" {
				s.options.Like = &report.Report{Results: []report.Result{
					{ID: "attach", Plugin: report.Chain, Result: report.Fail, Reason: tt.like},
				}}
			}
			got := s.RunUnit(t.Context(), &Unit{ID: "attach", scenario: &scenario.Scenario{Name: "attach"}})
			if len(runs) > 0 {
				t.Errorf("got one run, want another")
			}
			if got.Result != tt.want || got.LabFailed != tt.labFailed || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("got %s (the lab failed: %t): %s, want %s (%t): %s", got.Result, got.LabFailed, got.Reason,
					tt.want, tt.labFailed, tt.reason)
			}
			switch {
			case tt.first == "" && got.FirstRun != nil:
				t.Errorf("got the first run %+v, want none", got.FirstRun)
			case tt.first != "" && (got.FirstRun == nil || got.FirstRun.Result != tt.first ||
				got.FirstRun.Disturbed == ""):
				t.Errorf("got the first run %+v, want %s", got.FirstRun, tt.first)
			case tt.first != "" && tt.first != tt.want && len(s.report.Notes) != 1:
				t.Errorf("got the notes %q, want one of what was run twice", s.report.Notes)
			case tt.first != "" && tt.first == tt.want && len(s.repeated) != 1:
				t.Errorf("got %q as what was run twice with the same result, want one", s.repeated)
			}
		})
	}
}
