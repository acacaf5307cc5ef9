package scenario_test

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func TestRenamed(t *testing.T) {
	all, err := scenario.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"net1": "storage0"}
	for _, s := range all {
		got := s.Renamed(names)
		if s.Name != "several-networks-half-way" {
			continue
		}
		if got.Pods[0].Networks["storage0"] != scenario.ConflistNetwork || got.Pods[0].Networks["net1"] != "" {
			t.Errorf("got the networks %v", got.Pods[0].Networks)
		}
		if got.Steps[1].As != "storage0" || got.Steps[2].As != "net2" || s.Steps[1].As != "net1" {
			t.Errorf("got %s and %s, and at first %s", got.Steps[1], got.Steps[2], s.Steps[1])
		}
	}
}
