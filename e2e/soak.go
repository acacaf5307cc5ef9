package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// SoakID is the id of a soak's result.
const SoakID = "soak"

const (
	// soakTick is how often flows are counted, the pods that stay are checked, and somebody is told.
	soakTick = 10 * time.Second
	soakPort = 8080
	// defaultSoakPods come and go where the options do not say how many.
	defaultSoakPods = 20
	// soakDescription says why, as that of a scenario does.
	soakDescription = "Pods come and go for a long time while traffic flows between others, and nothing is lost and nothing stays. " +
		"Each new pod must have an address that no other has at that instant, be reached by everybody who must reach it, pass CHECK and be deleted " +
		"again; each flow must lose no reply, and the pods that stay must pass CHECK. Races between ADD and DEL, and leaks of a few bytes for each pod, " +
		"take hundreds of pods to show. It runs in place of all else where it is asked for: cnitest run CONFLIST --bin-dir DIR --soak 10m."
)

// The pods of a soak: some stay, beside which the others come and go.
const (
	stayer = "stayer"
	guest  = "guest"
)

// checkSoak checks the options of a soak and sets their defaults.
func (o *Options) checkSoak() error {
	switch {
	case o.Soak != 0 && o.Soak < time.Second:
		return fmt.Errorf("soak of %s: want 1s or more", o.Soak)
	case o.SoakPods < 0:
		return fmt.Errorf("soak with %d pods: want 1 or more", o.SoakPods)
	case o.SoakPods == 0:
		o.SoakPods = defaultSoakPods
	}
	return nil
}

// SoakStory is a soak with its default options as a scenario without steps, for those who want it explained.
func SoakStory() *scenario.Scenario {
	o := Options{Profile: scenario.ProfileUnderlay, SoakPods: defaultSoakPods}
	return o.soakStory()
}

// soakStory is the cluster of a soak as a scenario without steps. Where nothing but pods of one node must reach each other, two
// stay on each.
func (o *Options) soakStory() *scenario.Scenario {
	story := &scenario.Scenario{
		Name: SoakID, Description: soakDescription, Nodes: plainNodes(), Features: []scenario.Feature{scenario.Attach, scenario.CleanUp, scenario.PodToPod},
		Covers: []string{"A12", "D03", "E10", "H01"},
	}
	tcp, udp := scenario.Listen{Protocol: string(probe.TCP), Port: soakPort}, scenario.Listen{Protocol: string(probe.UDP), Port: soakPort}
	stay := []string{stayer}
	if !o.demands(scenario.CrossNode) {
		stay = append(stay, "second-"+stayer)
	}
	for i, node := range story.Nodes {
		for _, name := range stay {
			story.Pods = append(story.Pods, scenario.Pod{Name: name + "-" + node.Name, Node: node.Name, Listen: []scenario.Listen{tcp, udp}})
		}
		// The first nodes have one more where it does not come out even.
		if count := (o.SoakPods + len(story.Nodes) - 1 - i) / len(story.Nodes); count > 0 {
			story.Pods = append(story.Pods, scenario.Pod{Name: guest + "-" + node.Name, Node: node.Name, Count: count, Listen: []scenario.Listen{tcp}})
		}
	}
	return story
}

// demands reports whether a feature is one that the plugin must have.
func (o *Options) demands(f scenario.Feature) bool {
	return slices.Contains(o.Profile.Features(), f) || slices.Contains(o.Claims, f)
}

// soak is a soak under way.
type soak struct {
	*run
	start  time.Time
	until  time.Time
	ends   []end // from which every pod is reached, and between which flows run
	guests []*environment.Pod
	failed chan struct{} // closed by the first failure, which lets the others end their rounds

	adds, checks, dels, probes atomic.Int64
	attached, most             int // guests, now and at most; run.mu guards them

	once sync.Once
	err  *environment.Failure // may be read once failed is closed
}

// end is a node, or a pod that stays.
type end struct {
	*cluster.Place
	node *cluster.Node
	host bool
}

// soak lets pods come and go until the time of the options is over or an invariant does not hold. Its error is a *environment.Failure, or an
// *UnfitError where the nodes have too few addresses.
func (r *run) soak(ctx context.Context) error {
	total := r.suite.options.Soak
	s := &soak{run: r, start: time.Now(), failed: make(chan struct{})}
	if err := s.split(); err != nil {
		return err
	}
	defer func() { r.env.Note("%s", s.figures()) }()
	s.settle(ctx)
	// From now on pods come and go beside every call, and what changes is not its plugin's doing.
	traced := r.traced
	r.traced = nil
	s.until = time.Now().Add(total)
	var all sync.WaitGroup
	for _, p := range s.guests {
		all.Go(func() { s.comeAndGo(ctx, p) })
	}
	s.watchOver(ctx, min(soakTick, total/4))
	all.Wait()
	r.traced = traced
	s.fail(ctx, nil, r.stopFlows(ctx, scenario.Stop{}))
	switch {
	case s.broken():
		s.err.Evidence = append(s.err.Evidence, r.stateEvidence(ctx)...)
		return s.err
	case ctx.Err() != nil:
		r.suite.note("the soak had %s to go after %s", time.Until(s.until).Round(time.Second), s.figures())
		return context.Cause(ctx)
	}
	return nil
}

// split tells the pods that stay from those that come and go.
func (s *soak) split() error {
	staying := map[string]int{}
	for _, n := range s.env.Cluster.Nodes() {
		s.ends = append(s.ends, end{&n.Place, n, true})
	}
	for _, p := range s.env.Pods {
		if p.Spec.Count > 0 {
			s.guests = append(s.guests, p)
			continue
		}
		staying[p.Node.Name]++
		s.ends = append(s.ends, end{&p.Place, p.Node, false})
	}
	for _, n := range s.env.Cluster.Nodes() {
		if size := n.PoolSize; size > 0 && size <= staying[n.Name] {
			return &UnfitError{Reason: fmt.Sprintf("%s has addresses for %d pods, want %d or more for a soak", n.Name, size, staying[n.Name]+1)}
		}
	}
	return nil
}

// demanded reports whether the plugin must carry traffic from one end to another.
func (s *soak) demanded(from, to end) bool {
	switch {
	case from.Place == to.Place || to.host:
		return false
	case from.node != to.node:
		return s.suite.options.demands(scenario.CrossNode)
	case from.host:
		return s.suite.options.demands(scenario.HostToPod)
	}
	return s.suite.options.demands(scenario.PodToPod)
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

// over reports whether no further round is to begin.
func (s *soak) over(ctx context.Context) bool {
	return s.broken() || ctx.Err() != nil || !time.Now().Before(s.until)
}

// settle attaches the pods that stay, all at once, and starts the flows between them.
func (s *soak) settle(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range s.env.Pods {
		if p.Spec.Count == 0 {
			all.Go(func() {
				s.adds.Add(1)
				s.fail(ctx, p, s.add(ctx, p, scenario.DefaultInterface))
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
		s.fail(ctx, nil, s.startSoakFlows(ctx))
	}
}

// watchOver counts the flows, checks the pods that stay and tells how it goes, until the soak is over.
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
			s.fail(ctx, nil, s.countFlows(ctx))
			for _, p := range s.env.Pods {
				if p.Spec.Count == 0 {
					s.fail(ctx, p, s.checkOne(ctx, p))
				}
			}
			s.suite.tellProgress(s.progress())
		}
	}
}

// countFlows ends the flows after it started others, so that there is no moment without any.
func (s *soak) countFlows(ctx context.Context) error {
	before := s.flows
	s.flows = nil
	err := s.startSoakFlows(ctx)
	after := s.flows
	s.flows = before
	err = errors.Join(err, s.stopFlows(ctx, scenario.Stop{}))
	s.flows = after
	return err
}

// progress is a line for people.
func (s *soak) progress() string {
	took := time.Since(s.start)
	failures := 0
	if s.broken() {
		failures = 1
	}
	return fmt.Sprintf("%s of %s: %d attachments, %.1f/s, %d failed", took.Round(time.Second), s.suite.options.Soak, s.adds.Load(),
		float64(s.adds.Load())/took.Seconds(), failures)
}

// figures are what was done.
func (s *soak) figures() string {
	s.mu.Lock()
	most := s.most
	s.mu.Unlock()
	parts := []string{fmt.Sprintf("%s on %d nodes with up to %d pods at once beside %d that stayed", time.Since(s.start).Round(time.Second),
		len(s.env.Cluster.Nodes()), most, len(s.env.Pods)-len(s.guests))}
	for _, n := range []struct {
		what  string
		count int64
	}{{"ADDs", s.adds.Load()}, {"CHECKs", s.checks.Load()}, {"DELs", s.dels.Load()}, {"probes", s.probes.Load()}} {
		parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
	}
	return strings.Join(parts, ", ")
}
