package e2e

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/residue"
	"github.com/cnitest/cnitest/e2e/internal/throttle"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestReadAhead_again checks how often units run, and how many at the same time, if they fail while the machine is
// busy.
func TestReadAhead_again(t *testing.T) {
	for _, tt := range []struct {
		name string
		runs []run
		want report.Outcome
	}{
		{
			name: "quiet the second time", want: report.Fail,
			runs: []run{
				{result: report.Fail, found: doubtful}, {result: report.Fail, found: quiet, saw: "another thing"},
			},
		},
		{
			name: "in the same words", want: report.Fail,
			runs: []run{{result: report.Fail, found: doubtful}, {result: report.Fail, found: doubtful}},
		},
		{
			name: "succeeds at last", want: report.Pass,
			runs: []run{{result: report.Fail, found: doubtful}, {result: report.Pass, found: doubtful}},
		},
		{
			name: "in other words", want: report.Pass,
			runs: []run{
				{result: report.Fail, found: doubtful},
				{result: report.Fail, found: doubtful, saw: "another thing"},
				{result: report.Pass, found: quiet},
			},
		},
		{
			name: "leaves the same thing", want: report.Pass,
			runs: []run{
				{result: report.Pass, found: doubtful, left: "a: + link veth7"},
				{result: report.Pass, found: doubtful, left: "a: + link veth9"},
			},
		},
		{
			name: "leaves another thing", want: report.Fail,
			runs: []run{
				{result: report.Fail, found: doubtful, left: "a: + link veth7"},
				{result: report.Fail, found: doubtful, left: "a: + rule 7"},
				{result: report.Fail, found: quiet, left: "a: + link veth7"},
			},
		},
		{
			name: "in the same words, and a control lost something", want: report.Pass,
			runs: []run{
				{result: report.Fail, found: doubtful},
				{result: report.Fail, found: lost},
				{result: report.Pass, found: quiet},
			},
		},
		{
			name: "in the same words on a machine that is too busy", want: report.Fail,
			runs: []run{
				{result: report.Fail, found: excused},
				{result: report.Fail, found: excused},
				{result: report.Fail, found: excused},
			},
		},
		{
			name: "always in other words on a machine that is too busy", want: report.Skipped,
			runs: []run{
				{result: report.Fail, found: excused},
				{result: report.Fail, found: excused, saw: "another thing"},
				{result: report.Fail, found: excused, saw: "a third thing"},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.NumCPU() == 1 {
				t.Skip("with one processor, each second run is alone")
			}
			f := &fakeRuns{t: t, runs: tt.runs, times: map[string]int{}, meet: make(chan struct{})}
			s := &Suite{residue: residue.New(residue.Config{}), options: Options{Workers: 4}}
			s.try, s.stop = f.try, func(error) {}
			var units []*Unit
			for _, name := range []string{"attach", "detach", "move", "wait"} {
				units = append(units, &Unit{ID: name, scenario: &scenario.Scenario{Name: name}})
			}
			a := newReadAhead(s, units)
			a.follow = func(*throttle.Throttle, context.Context) {}
			close(a.compared)
			a.runAll(t.Context(), units)
			for _, u := range units {
				if got := (<-a.ends[u]).Result; got != tt.want {
					t.Errorf("%s: got %s, want %s", u.ID, got, tt.want)
				}
				if got := f.times[u.ID]; got != len(tt.runs) {
					t.Errorf("%s: got %d runs, want %d", u.ID, got, len(tt.runs))
				}
			}
		})
	}
}

// fakeRuns has the same runs for each unit.
type fakeRuns struct {
	t    *testing.T
	runs []run
	// meet is where two second runs meet.
	meet chan struct{}

	mu      sync.Mutex
	times   map[string]int
	running int
}

func (f *fakeRuns) try(_ context.Context, u *Unit, former *attempt, last bool) *attempt {
	f.mu.Lock()
	n := f.times[u.ID]
	f.times[u.ID]++
	f.running++
	if last && f.running > 1 {
		f.t.Errorf("%s: got %d others beside its last run, want none", u.ID, f.running-1)
	}
	if most := runtime.NumCPU(); former != nil && f.running > most {
		f.t.Errorf("%s: got %d runs at the same time, want at most %d", u.ID, f.running, most)
	}
	f.mu.Unlock()
	if former != nil && !last {
		select {
		case f.meet <- struct{}{}:
		case <-f.meet:
		case <-time.After(10 * time.Second):
			f.t.Errorf("%s: its second run was alone, want another beside it", u.ID)
		}
	}
	defer func() { f.mu.Lock(); defer f.mu.Unlock(); f.running-- }()
	if n >= len(f.runs) {
		f.t.Errorf("%s: it was run once more", u.ID)
		n = len(f.runs) - 1
	}
	if last != (n == 2) {
		f.t.Errorf("%s: run %d: got last %t", u.ID, n+1, last)
	}
	r := f.runs[n]
	return &attempt{
		unit: u, former: former, last: last, known: true, found: r.found, left: r.left, result: report.Result{
			ID: u.ID, Kind: "scenario", Plugin: report.Chain, Result: r.result, Reason: cmp.Or(r.saw, "what was seen"),
		},
	}
}

// TestReadAhead_residue_unknown checks that a report says why it does not list what a first attachment leaves.
func TestReadAhead_residue_unknown(t *testing.T) {
	s := &Suite{residue: residue.New(residue.Config{
		Start: func(context.Context, []scenario.Node, scenario.Chain) (cluster.Cluster, error) {
			return nil, errors.New("no node today")
		},
	})}
	a := newReadAhead(s, nil)
	a.findResidue(t.Context())
	a.awaitResidue()
	s.keepResidue()
	const want = "what a first attachment leaves is not known: no node today"
	if !slices.Equal(s.report.Notes, []string{want}) || len(s.report.Residue) != 0 {
		t.Errorf("got notes %q and residue %v, want %q and none", s.report.Notes, s.report.Residue, want)
	}
}
