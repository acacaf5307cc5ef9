package e2e

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestFailuresIn wants exactly that to run again which made a run fail, was blocked by it, or was not found out.
func TestFailuresIn(t *testing.T) {
	of := func(id, plugin string, outcome report.Outcome) report.Result {
		return report.Result{ID: id, Plugin: plugin, Result: outcome}
	}
	late := of("reboot", report.Chain, report.Skipped)
	late.LabFailed = true
	r := &report.Report{
		Implementation: report.Implementation{
			Plugins: []report.Plugin{{Type: "route", UnderTest: true}, {Type: "macvlan"}},
		},
		Results: []report.Result{
			of("ADD-1", "route", report.Fail), of("ADD-1", "macvlan", report.Fail), of("ADD-2", "route", report.Pass),
			of("GC-1", "route", report.Vacuous), of("DEL-1", "route", report.Blocked),
			of("host-to-pod", "route", report.Fail), of("full-mtu", report.Chain, report.Skipped), late,
		},
	}
	f, err := failuresIn(r)
	if err != nil {
		t.Fatal(err)
	}
	play := &scenario.Scenario{}
	for _, tt := range []struct {
		unit Unit
		want bool
	}{
		{Unit{ID: "ADD-1", Plugin: "route"}, true},
		{Unit{ID: "ADD-1", Plugin: "macvlan"}, false}, // it is not under test
		{Unit{ID: "ADD-2", Plugin: "route"}, false},
		{Unit{ID: "GC-1", Plugin: "route"}, true},
		{Unit{ID: "DEL-1", Plugin: "route"}, true},
		{Unit{ID: "host-to-pod", scenario: play}, true},
		{Unit{ID: "full-mtu", scenario: play}, false},
		{Unit{ID: "reboot", scenario: play}, true},
	} {
		if got := f.contains(&tt.unit); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.unit.Name(), got, tt.want)
		}
	}
	r.Results = append(r.Results, of(leavesNothingID, "route", report.Fail))
	if f, err = failuresIn(r); err != nil || !f.contains(&Unit{ID: "full-mtu", scenario: play}) {
		t.Errorf("something was left: got %v, want every scenario", err)
	}
	r.Results = r.Results[1:3]
	if _, err := failuresIn(r); err == nil {
		t.Error("nothing failed: got no error")
	}
}
