package scenario_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/scenarios"
)

func shipped(t *testing.T) []*scenario.Scenario {
	t.Helper()
	all, err := scenario.Load(scenarios.Files)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestShipped keeps the shipped files readable and quick: 10 to 40 lines, and little waiting in total.
func TestShipped(t *testing.T) {
	var waiting time.Duration
	for _, s := range shipped(t) {
		if lines := bytes.Count(s.Source, []byte("\n")); lines < 10 || lines > 40 {
			t.Errorf("%s: got %d lines, want 10 to 40", s.File, lines)
		}
		if len(strings.SplitAfter(s.Description, ". ")) < 2 {
			t.Errorf("%s: got the description %q, want what a user relies on and what breaks it", s.File, s.Description)
		}
		for _, step := range s.Steps {
			waiting += time.Duration(step.Wait)
			if step.Churn != nil {
				waiting += time.Duration(step.Churn.For)
			}
		}
	}
	if waiting > 15*time.Second {
		t.Errorf("all scenarios wait %s, want at most 15s", waiting)
	}
}

// TestShippedServices checks that scenarios with services are not in the profiles below kubernetes, and that each of
// their probes says whom the far end must see: services that work with the wrong source break policies and logs.
func TestShippedServices(t *testing.T) {
	known := slices.Concat(scenario.ProfileKubernetes.Features(), scenario.ProfileProduction.Features())
	for _, s := range shipped(t) {
		if len(s.Services) == 0 {
			continue
		}
		beyond := slices.DeleteFunc(slices.Clone(s.Features), func(f scenario.Feature) bool {
			return slices.Contains(known, f)
		})
		if len(beyond) > 0 || scenario.ProfileUnderlay.Core(s) {
			t.Errorf("%s: got features %v, want those of profiles kubernetes and production, and not of underlay alone",
				s.File, s.Features)
		}
		for _, step := range s.Steps {
			if p := step.Probe; p != nil && p.Protocol != "icmp" && p.Source == "" {
				t.Errorf("%s:%d: %s has no source", s.File, step.Line, p)
			}
		}
	}
}

// TestShippedFeatures checks that each feature that a profile demands is tested by a scenario.
func TestShippedFeatures(t *testing.T) {
	tested := map[scenario.Feature]bool{}
	for _, s := range shipped(t) {
		for _, f := range s.Features {
			tested[f] = true
		}
	}
	for _, f := range scenario.ProfileKubernetes.Features() {
		if !tested[f] {
			t.Errorf("no scenario tests %s", f)
		}
	}
}

// TestShippedEmbedded finds files that are not embedded.
func TestShippedEmbedded(t *testing.T) {
	onDisk, err := scenario.Load(os.DirFS("../../scenarios"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(shipped(t)), len(onDisk); got != want {
		t.Errorf("got %d embedded scenarios, want %d", got, want)
	}
}

// TestShipped_scenarios_add_once checks that the suite does not do what a runtime must not do: ADD twice for one
// container and interface without a DEL in between (SPEC.md, ADD).
func TestShipped_scenarios_add_once(t *testing.T) {
	for _, s := range shipped(t) {
		attached := map[string]bool{}
		for _, step := range s.Steps {
			switch key := step.Add + step.Del + " " + step.As; {
			case step.Add != "" && attached[key]:
				t.Errorf("%s:%d: %s again, with no del between", s.File, step.Line, step)
			case step.Add != "":
				attached[key] = true
			case step.Del != "":
				delete(attached, key)
			}
		}
	}
}
