package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestLongestFirst checks that what may take longest begins first: checks that take seconds, and probes, those of many
// pods before others.
func TestLongestFirst(t *testing.T) {
	probes := []scenario.Step{{Probe: &scenario.Probe{}}}
	requirement := map[string]*contract.Requirement{}
	for _, r := range contract.Requirements() {
		requirement[r.ID] = r
	}
	units := []*Unit{
		{ID: "ADD-1", requirement: requirement["ADD-1"]},
		{ID: "few-pods", scenario: &scenario.Scenario{Pods: []scenario.Pod{{}, {}}}},
		{ID: "few-pods-probed", scenario: &scenario.Scenario{Pods: []scenario.Pod{{}, {}}, Steps: probes}},
		{ID: "TIM-1", requirement: requirement["TIM-1"]},
		{ID: "many-pods-probed", scenario: &scenario.Scenario{Pods: []scenario.Pod{{}, {Count: 50}}, Steps: probes}},
	}
	var got []string
	for _, u := range longestFirst(units) {
		got = append(got, u.ID)
	}
	want := []string{"TIM-1", "many-pods-probed", "few-pods-probed", "ADD-1", "few-pods"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got, want:\n%s", diff)
	}
}
