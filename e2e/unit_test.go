package e2e

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestLongestFirst checks that what may take longest begins first: checks that take seconds, and probes, those of many
// pods before others. Where a pod waits for its address, the number of pods decides.
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
		{ID: "five-pods", scenario: &scenario.Scenario{Pods: []scenario.Pod{{}, {}, {}, {}, {}}}},
		{ID: "TIM-1", requirement: requirement["TIM-1"]},
		{ID: "many-pods-probed", scenario: &scenario.Scenario{Pods: []scenario.Pod{{}, {Count: 50}}, Steps: probes}},
	}
	for _, tt := range []struct {
		name string
		pod  time.Duration
		want []string
	}{
		{
			"IPv4", podWithIPv4,
			[]string{"TIM-1", "many-pods-probed", "few-pods-probed", "five-pods", "ADD-1", "few-pods"},
		},
		{
			"IPv6", podWithIPv6,
			[]string{"many-pods-probed", "five-pods", "TIM-1", "few-pods-probed", "few-pods", "ADD-1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, u := range longestFirst(units, tt.pod) {
				got = append(got, u.ID)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("got, want:\n%s", diff)
			}
		})
	}
}
