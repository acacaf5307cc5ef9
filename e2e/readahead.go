package e2e

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/cnitest/cnitest/e2e/cluster"
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
	// compared is closed when it is known what a first attachment leaves.
	compared chan struct{}
	ends     map[*Unit]chan report.Result
	// follow adjusts what runs at the same time to the machine.
	follow func(*throttle.Throttle, context.Context)
}

func newReadAhead(s *Suite, units []*Unit) *readAhead {
	a := &readAhead{
		suite: s, units: units, ends: map[*Unit]chan report.Result{}, cancel: func() {},
		compared: make(chan struct{}),
		follow:   (*throttle.Throttle).Follow,
	}
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
		switch {
		case a.suite.obstacle != nil:
			close(a.compared)
		case cluster.IsExclusive(a.suite.options.Backend) || a.suite.options.Workers == 1:
			a.findResidue(ctx)
		default:
			a.wait.Go(func() { a.findResidue(ctx) })
		}
		// Audits look at the calls of all other units, including those that the filter leaves out.
		var first, last []*Unit
		for _, u := range longestFirst(asked, a.suite.podTakes) {
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

// findResidue finds what a first attachment leaves. Scenarios that compare their nodes meanwhile wait for it.
func (a *readAhead) findResidue(ctx context.Context) {
	defer close(a.compared)
	a.suite.unfound = a.suite.residue.First(ctx)
}

// awaitResidue waits until it is known what a first attachment leaves, or until the run ends.
func (a *readAhead) awaitResidue() {
	select {
	case <-a.compared:
	case <-a.ended:
	}
}

// runAll runs units, at the same time as many as the machine carries and at most as many as the options say. What does
// not succeed while the machine is busy runs again as soon as all others have begun, and is judged as if that were its
// first run: at most one unit for each processor runs then, so that most of these runs are not disturbed. What is
// doubtful even so runs alone, at the end.
func (a *readAhead) runAll(ctx context.Context, units []*Unit) {
	for _, former := range a.runBeside(ctx, units) {
		a.again(ctx, former, true)
	}
}

// runBeside runs units beside each other, and returns the attempts after which only one alone is sure.
func (a *readAhead) runBeside(ctx context.Context, units []*Unit) (alone []*attempt) {
	following, stop := context.WithCancel(ctx)
	defer stop()
	limit := throttle.New(1, a.suite.options.Workers)
	go a.follow(limit, following)
	ended := make(chan *attempt, len(units)) // doubtful, or nil
	running := 0
	start := func(run func() *attempt) {
		running++
		go func() {
			defer limit.Leave()
			ended <- run()
		}()
	}
	for _, u := range units {
		if limit.Enter(ctx) != nil {
			break
		}
		start(func() *attempt { return a.runOne(ctx, u) })
	}
	most := min(runtime.NumCPU(), a.suite.options.Workers)
	limit.AtMost(most)
	var doubtful []*attempt
	for running > 0 {
		switch former := <-ended; {
		case former == nil:
		case former.former != nil:
			alone = append(alone, former)
		default:
			doubtful = append(doubtful, former)
			slices.SortStableFunc(doubtful, func(a, b *attempt) int {
				return cmp.Compare(b.result.DurationSeconds, a.result.DurationSeconds)
			})
		}
		running--
		for len(doubtful) > 0 && limit.Enter(ctx) == nil {
			former := doubtful[0]
			doubtful = doubtful[1:]
			start(func() *attempt { return a.again(ctx, former, most == 1) })
		}
	}
	return append(alone, doubtful...) // the latter if ctx has ended
}

// runOne runs a unit for the first time. It returns the attempt if that is doubtful, else it passes the result on.
func (a *readAhead) runOne(ctx context.Context, u *Unit) *attempt {
	_, asked := a.ends[u]
	if asked {
		a.suite.tellStarted(u)
	}
	result := a.suite.try(ctx, u, nil, false)
	doubtful := a.suite.doubts(result)
	switch {
	case !asked && doubtful:
		// Ginkgo did not ask for it: its calls are evidence for audits, its captures are not.
		a.suite.forget(result)
	case !asked:
	case doubtful:
		return result
	default:
		a.pass(result)
	}
	return nil
}

// again runs a doubtful unit once more. It returns the attempt if that is doubtful, and not the last, else it passes
// the result on.
func (a *readAhead) again(ctx context.Context, former *attempt, last bool) *attempt {
	if ctx.Err() != nil {
		former.known = false
		a.pass(former)
		return nil
	}
	if last {
		a.awaitResidue()
	}
	result, doubtful := a.suite.again(ctx, former, last)
	if doubtful {
		return result
	}
	a.pass(result)
	return nil
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
	if a.ended != nil { // it was started
		a.awaitResidue()
	}
	a.cancel()
	a.wait.Wait()
}
