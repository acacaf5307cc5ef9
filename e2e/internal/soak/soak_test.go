package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/scenario"
)

func TestScenario(t *testing.T) {
	for _, tt := range []struct {
		pods      int
		crossNode bool
		want      []string
	}{
		{5, true, []string{"stayer-a on a", "3 × guest-a on a", "stayer-b on b", "2 × guest-b on b"}},
		{1, false, []string{"stayer-a on a", "second-stayer-a on a", "1 × guest-a on a", "stayer-b on b", "second-stayer-b on b"}},
	} {
		var got []string
		for _, p := range Scenario(tt.pods, tt.crossNode).Pods {
			text := p.Name + " on " + p.Node
			if p.Count > 0 {
				text = fmt.Sprintf("%d × %s", p.Count, text)
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(got, tt.want); diff != "" {
			t.Errorf("%d pods, got, want:\n%s", tt.pods, diff)
		}
	}
}

// machines is a cluster of nodes that answer no requests.
type machines struct {
	cluster.Cluster
	nodes []*cluster.Node
}

func (m *machines) Nodes() []*cluster.Node { return m.nodes }

// newSoak returns a soak of two pods on two nodes with room for a number of pods each.
func newSoak(room int, features ...scenario.Feature) *soak {
	c := &machines{}
	for _, name := range []string{"node/a", "node/b"} {
		c.nodes = append(c.nodes, &cluster.Node{Place: cluster.Place{Name: name}, PoolSize: room})
	}
	config := Config{Demands: func(f scenario.Feature) bool { return slices.Contains(features, f) }}
	env := environment.New(Scenario(2, config.Demands(scenario.CrossNode)), c)
	return &soak{Runner: runner.New(runner.Config{}, env), config: config, failed: make(chan struct{})}
}

func TestSoak_demanded(t *testing.T) {
	for _, tt := range []struct {
		features []scenario.Feature
		want     []string
	}{
		{[]scenario.Feature{scenario.PodToPod}, []string{
			"pod/stayer-a → pod/second-stayer-a", "pod/second-stayer-a → pod/stayer-a",
			"pod/stayer-b → pod/second-stayer-b", "pod/second-stayer-b → pod/stayer-b",
		}},
		{[]scenario.Feature{scenario.CrossNode, scenario.HostToPod}, []string{
			"node/a → pod/stayer-a", "node/a → pod/stayer-b", "node/b → pod/stayer-a", "node/b → pod/stayer-b",
			"pod/stayer-a → pod/stayer-b", "pod/stayer-b → pod/stayer-a",
		}},
	} {
		s := newSoak(10, tt.features...)
		if err := s.split(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, from := range s.ends {
			for _, to := range s.ends {
				if s.demanded(from, to) {
					got = append(got, from.Name+" → "+to.Name)
				}
			}
		}
		if diff := cmp.Diff(got, tt.want); diff != "" || len(s.comers) != 2 {
			t.Errorf("%v: %d pods come and go; flows, got, want:\n%s", tt.features, len(s.comers), diff)
		}
	}
}

// TestSoak_split requires room for one pod more than stay.
func TestSoak_split(t *testing.T) {
	var unfit *cluster.UnfitError
	err := newSoak(1, scenario.CrossNode).split()
	if want := "node/a has addresses for 1 pods, want 2 or more for a soak"; !errors.As(err, &unfit) ||
		err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestSoak_fail keeps the first failure, and ignores those caused by the end of the soak.
func TestSoak_fail(t *testing.T) {
	s := newSoak(10)
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	s.fail(cut, nil, errors.New("cut off"))
	if s.broken() {
		t.Fatal("what was cut off is no failure")
	}
	shared := &environment.SharedAddress{Pod: s.Env.Pods[0], Other: s.Env.Pods[1]}
	s.fail(t.Context(), s.Env.Pods[0], shared)
	s.fail(t.Context(), nil, errors.New("a later one"))
	if !s.broken() || !errors.Is(s.err, shared) || s.err.Step != nil {
		t.Errorf("got %v, want the first failure, of no step", s.err)
	}
}
