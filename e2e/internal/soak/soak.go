// Package soak lets pods come and go beside flows until the time is over or an invariant does not hold.
//
// Every address has one owner at every instant, every attached pod passes CHECK and answers, and no flow loses a reply.
//
// Run its tests: go test ./e2e/internal/soak; the tests of package e2e run it on real clusters.
package soak

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// tick is how often flows are counted, the pods that stay are checked, and progress is reported.
const tick = 10 * time.Second

// Config says how long a soak takes and what it demands.
type Config struct {
	// For is how long pods come and go.
	For time.Duration
	// UnderTest are the plugins under test.
	UnderTest []string
	// Demands reports whether the plugin must have a feature.
	Demands func(scenario.Feature) bool
	// Tell gets a line about the progress every ten seconds.
	Tell func(text string)
}

// soak is a running soak.
type soak struct {
	*runner.Runner
	config Config
	start  time.Time
	until  time.Time
	ends   []endpoint // from which every pod is reached, and between which flows run
	comers []*environment.Pod
	failed chan struct{} // closed by the first failure, which lets the others end their rounds

	counts

	once sync.Once
	err  *environment.Failure // may be read once failed is closed
}

// counts has the figures of a soak.
type counts struct {
	adds, checks, dels, probes atomic.Int64

	mu             sync.Mutex // guards the following
	attached, most int        // pods that come and go, now and at most
}

// endpoint is a node, or a pod that stays.
type endpoint struct {
	*cluster.Place
	node *cluster.Node
	host bool
}

// Run lets pods come and go until the time is over or an invariant does not hold. Its error is an *environment.Failure
// without a step, a *cluster.UnfitError if the nodes have too few addresses, or an *Unfinished if ctx ended before the
// time was over.
func Run(ctx context.Context, config Config, r *runner.Runner) error {
	s := &soak{Runner: r, config: config, start: time.Now(), failed: make(chan struct{})}
	if err := s.split(); err != nil {
		return err
	}
	defer func() { r.Env.Note("%s", s.figures()) }()
	s.settle(ctx)
	// From now on pods come and go beside every call, so a change need not come from the plugin that was called.
	resume := r.PauseTracing()
	s.until = time.Now().Add(config.For)
	var all sync.WaitGroup
	for _, p := range s.comers {
		all.Go(func() { s.comeAndGo(ctx, p) })
	}
	s.watchOver(ctx, min(tick, config.For/4))
	all.Wait()
	resume()
	s.fail(ctx, nil, r.StopFlows(ctx, scenario.Stop{}))
	switch {
	case s.broken():
		s.err.Evidence = append(s.err.Evidence, r.StateEvidence(ctx)...)
		s.err.Explain(r.Explain(ctx, s.err))
		return s.err
	case ctx.Err() != nil:
		return &Unfinished{
			Note:  fmt.Sprintf("the soak had %s to go after %s", time.Until(s.until).Round(time.Second), s.figures()),
			cause: context.Cause(ctx),
		}
	}
	return nil
}

// Unfinished is the error of a soak that was interrupted, and saw no failure until then.
type Unfinished struct {
	// Note is a sentence about its progress.
	Note  string
	cause error
}

// Error returns why it ended.
func (u *Unfinished) Error() string { return u.cause.Error() }

// Unwrap returns why it ended.
func (u *Unfinished) Unwrap() error { return u.cause }

// split separates the pods that stay from those that come and go.
func (s *soak) split() error {
	staying := map[string]int{}
	for _, n := range s.Env.Cluster.Nodes() {
		s.ends = append(s.ends, endpoint{&n.Place, n, true})
	}
	for _, p := range s.Env.Pods {
		if p.Spec.Count > 0 {
			s.comers = append(s.comers, p)
			continue
		}
		staying[p.Node.Name]++
		s.ends = append(s.ends, endpoint{&p.Place, p.Node, false})
	}
	for _, n := range s.Env.Cluster.Nodes() {
		if size := n.PoolSize; size > 0 && size <= staying[n.Name] {
			return &cluster.UnfitError{Reason: fmt.Sprintf("%s has addresses for %d pods, want %d or more for a soak",
				n.Name, size, staying[n.Name]+1)}
		}
	}
	return nil
}

// demanded reports whether the plugin must carry traffic between two ends.
func (s *soak) demanded(from, to endpoint) bool {
	switch {
	case from.Place == to.Place || to.host:
		return false
	case from.node != to.node:
		return s.config.Demands(scenario.CrossNode)
	case from.host:
		return s.config.Demands(scenario.HostToPod)
	}
	return s.config.Demands(scenario.PodToPod)
}

// broken reports whether something failed.
func (s *soak) broken() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// over reports whether no further round may begin.
func (s *soak) over(ctx context.Context) bool {
	return s.broken() || ctx.Err() != nil || !time.Now().Before(s.until)
}

// settle attaches the pods that stay, all at the same time, and starts the flows between them.
func (s *soak) settle(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range s.Env.Pods {
		if p.Spec.Count == 0 {
			all.Go(func() {
				s.adds.Add(1)
				s.fail(ctx, p, s.Add(ctx, p, scenario.DefaultInterface))
			})
		}
	}
	all.Wait()
	if s.broken() {
		return
	}
	for _, to := range s.ends {
		s.fail(ctx, nil, s.reach(ctx, to))
	}
	if !s.broken() {
		s.fail(ctx, nil, s.startFlows(ctx))
	}
}

// watchOver counts the flows, checks the pods that stay and reports progress, until the soak is over.
func (s *soak) watchOver(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	timer := time.NewTimer(time.Until(s.until))
	defer timer.Stop()
	for !s.over(ctx) {
		select {
		case <-s.failed:
		case <-ctx.Done():
		case <-timer.C:
		case <-ticker.C:
			s.fail(ctx, nil, s.RestartFlows(ctx, s.startFlows))
			for _, p := range s.Env.Pods {
				if p.Spec.Count == 0 {
					s.fail(ctx, p, s.checkOne(ctx, p))
				}
			}
			s.config.Tell(s.progress())
		}
	}
}

// progress returns a line for people.
func (s *soak) progress() string {
	took := time.Since(s.start)
	failures := 0
	if s.broken() {
		failures = 1
	}
	return fmt.Sprintf("%s of %s: %d attachments, %.1f/s, %d failed", took.Round(time.Second), s.config.For,
		s.adds.Load(),
		float64(s.adds.Load())/took.Seconds(), failures)
}

// figures returns the numbers of calls and probes in one line.
func (s *soak) figures() string {
	s.mu.Lock()
	most := s.most
	s.mu.Unlock()
	parts := []string{fmt.Sprintf("%s on %d nodes with up to %d pods at once beside %d that stayed",
		time.Since(s.start).Round(time.Second),
		len(s.Env.Cluster.Nodes()), most, len(s.Env.Pods)-len(s.comers))}
	for _, n := range []struct {
		what  string
		count int64
	}{{"ADDs", s.adds.Load()}, {"CHECKs", s.checks.Load()}, {"DELs", s.dels.Load()}, {"probes", s.probes.Load()}} {
		parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
	}
	return strings.Join(parts, ", ")
}
