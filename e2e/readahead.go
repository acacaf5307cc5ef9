package e2e

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/cnitest/cnitest/e2e/internal/throttle"
	"github.com/cnitest/cnitest/e2e/report"
)

// readAhead runs several units at the same time, while Ginkgo asks for one after the other.
type readAhead struct {
	suite  *Suite
	units  []*Unit
	cancel context.CancelFunc
	ended  <-chan struct{} // closed by cancel
	// stopped is set if the run ended before a unit had its result.
	stopped atomic.Bool
	wait    sync.WaitGroup
	ends    map[*Unit]chan report.Result

	mu sync.Mutex
	// doubtful are the attempts to run again, alone.
	doubtful []*attempt
}

func newReadAhead(s *Suite, units []*Unit) *readAhead {
	a := &readAhead{suite: s, units: units, ends: map[*Unit]chan report.Result{}, cancel: func() {}}
	for _, u := range units {
		a.ends[u] = make(chan report.Result, 1)
	}
	return a
}

// asked returns the units that Ginkgo's label filter selects.
func (a *readAhead) asked() []*Unit {
	config, _ := ginkgo.GinkgoConfiguration()
	matches, err := types.ParseLabelFilter(config.LabelFilter)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(a.units), func(u *Unit) bool { return !matches(u.Labels) })
}

// start begins with the units that the filter selects.
func (a *readAhead) start(ctx context.Context) {
	asked := a.asked()
	ctx, a.cancel = context.WithCancel(ctx)
	a.ended = ctx.Done()
	a.wait.Go(func() {
		// Audits look at the calls of all other units, including those that the filter leaves out.
		var first, last []*Unit
		for _, u := range longestFirst(asked) {
			if u.audits() {
				last = append(last, u)
			} else {
				first = append(first, u)
			}
		}
		if len(last) > 0 {
			first = append(first, a.suite.unasked(first, last)...)
		}
		a.runAll(ctx, first)
		a.runAll(ctx, last)
	})
}

// runAll runs units, at the same time as many as the machine carries and at most as many as the options say. Then it
// runs those again, one by one, that did not succeed while the machine was too busy.
func (a *readAhead) runAll(ctx context.Context, units []*Unit) {
	a.runBeside(ctx, units)
	for _, first := range a.doubtful {
		if ctx.Err() != nil {
			first.known = false
			a.pass(first)
			continue
		}
		a.pass(a.suite.again(ctx, first))
	}
	a.doubtful = nil
}

func (a *readAhead) runBeside(ctx context.Context, units []*Unit) {
	following, stop := context.WithCancel(ctx)
	defer stop()
	limit := throttle.New(1, a.suite.options.Workers)
	go limit.Follow(following)
	var running sync.WaitGroup
	defer running.Wait()
	for _, u := range units {
		if limit.Enter(ctx) != nil {
			return
		}
		running.Go(func() {
			defer limit.Leave()
			a.runOne(ctx, u)
		})
	}
}

// runOne runs a unit and passes its result on, unless it is doubtful.
func (a *readAhead) runOne(ctx context.Context, u *Unit) {
	_, asked := a.ends[u]
	if asked {
		a.suite.tellStarted(u)
	}
	result := a.suite.try(ctx, u, false)
	doubtful := a.suite.doubts(result)
	switch {
	case !asked && doubtful:
		// Ginkgo did not ask for it: its calls are evidence for audits, its captures are not.
		a.suite.forget(result)
	case !asked:
	case doubtful:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.doubtful = append(a.doubtful, result)
	default:
		a.pass(result)
	}
}

// pass passes a result on to Ginkgo, and ends the run if it is the failure that Options.FailFast waits for.
func (a *readAhead) pass(ended *attempt) {
	result := a.suite.accept(ended)
	a.ends[ended.unit] <- result
	a.suite.failFast(result)
}

// result waits for the result of a unit.
func (a *readAhead) result(ctx context.Context, u *Unit) report.Result {
	select {
	case r := <-a.ends[u]:
		return r
	case <-ctx.Done():
		a.cancel()
	case <-a.ended:
	}
	a.stopped.Store(true)
	select {
	case r := <-a.ends[u]:
		return r
	default:
		return cutOff(report.Result{ID: u.ID})
	}
}

// stop ends the units that still run, and waits for their clusters to end.
func (a *readAhead) stop() {
	a.cancel()
	a.wait.Wait()
}
