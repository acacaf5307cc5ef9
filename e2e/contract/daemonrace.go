package contract

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

const (
	// stopsTried is the number of stops that a run tries, unless it is deep.
	stopsTried = 3
	// waitsFor is how long the second call may take while the first is stopped. One that takes longer waits for it.
	waitsFor = 500 * time.Millisecond
	// comesSoon is how long the daemon may take to come to the stop.
	comesSoon = 3 * time.Second
)

// crossing is two calls that ask the daemon, which is stopped in the first.
type crossing struct {
	verbs [2]cni.Verb
	stop  fault.Injection
}

// code names it in a token.
func (c crossing) code() string {
	return fmt.Sprintf("%s-%s:%d", c.verbs[0], c.verbs[1], c.stop.Point.Number)
}

// String returns it for people.
func (c crossing) String() string {
	return fmt.Sprintf("the daemon is %s for %s of pod-1, and asked for %s of pod-2", c.stop, c.verbs[0], c.verbs[1])
}

// crossings returns all crossings, those first that promise most: between the daemon's changes.
func crossings(points map[cni.Verb][]fault.Point, seed uint64) (all []crossing) {
	for _, first := range []cni.Verb{cni.Add, cni.Del} {
		for _, p := range points[first] {
			stop := fault.Injection{Point: p, When: fault.Held, Nth: fault.Nth(points[first], p)}
			for _, second := range []cni.Verb{cni.Add, cni.Del} {
				all = append(all, crossing{[2]cni.Verb{first, second}, stop})
			}
		}
	}
	rankBy(all, seed, func(c crossing) int {
		if c.stop.Point.Look != "" {
			return 1
		}
		return 0
	})
	return all
}

// raceDaemon stops the daemon in one call, and makes another one.
func (t *trial) raceDaemon(ctx context.Context) error {
	l, _, err := t.daemonLane(ctx)
	if err != nil {
		return err
	}
	points, err := l.undisturbed(ctx)
	if err != nil {
		return err
	}
	explored := &t.subject.lab.Exploration
	all := crossings(points, explored.Seed)
	if len(all) == 0 {
		return notApplicable("the daemon makes no call that could be stopped")
	}
	chosen, err := choose(explored, all, crossing.code, func() []crossing { return all[:min(stopsTried, len(all))] })
	if err != nil {
		return err
	}
	return ordeals(ctx, t, l, "schedules of the daemon", len(all), chosen, (*daemonLane).cross)
}

// cross makes the two calls, and compares what came of them.
func (l *daemonLane) cross(ctx context.Context, c crossing) (*ordeal, error) {
	o := &ordeal{what: c.String(), code: c.code()}
	second, err := l.second(ctx)
	if err != nil {
		return nil, err
	}
	pods := [2]*pod{l.pod, second}
	for i, verb := range c.verbs {
		pods[i].result = nil
		if verb == cni.Del {
			if _, err := l.add(ctx, pods[i]); err != nil {
				return nil, err
			}
		}
	}
	if err := l.meet(ctx, o, c, pods); err != nil || o.wrong != "" {
		return o, err
	}
	attached := []*pod{l.beside}
	for i, verb := range c.verbs {
		if verb == cni.Add {
			attached = append(attached, pods[i])
		}
	}
	if err := l.complete(ctx, o, len(attached)-1); err != nil || o.wrong != "" {
		return o, err
	}
	// What was answered must be on the disk.
	if err := l.restart(ctx, o); err != nil || o.wrong != "" {
		return o, err
	}
	for i, verb := range c.verbs {
		if verb != cni.Del {
			continue
		}
		what := fmt.Sprintf("after the daemon's end ADD of %s", pods[i].name)
		if _, err := l.step(ctx, &o.sequel, what, cni.Add, pods[i]); err != nil || o.wrong != "" {
			return o, err
		}
		attached = append(attached, pods[i])
	}
	if err := l.intact(ctx, o, attached...); err != nil || o.wrong != "" {
		return o, err
	}
	return o, l.clearUp(ctx, o, pods[:]...)
}

// second returns the second pod, which is made once. Like the first, it was attached before.
func (l *daemonLane) second(ctx context.Context) (_ *pod, err error) {
	if l.third != nil {
		return l.third, nil
	}
	if l.third, err = l.attach(ctx, "pod-2"); err != nil {
		return nil, err
	}
	if _, err = l.must(ctx, cni.Del, l.third); err != nil {
		return nil, err
	}
	return l.third, l.takeClean(ctx)
}

// meet makes the second call while the daemon is stopped in the first.
func (l *daemonLane) meet(ctx context.Context, o *ordeal, c crossing, pods [2]*pod) error {
	if err := l.node.Agent.Attending(ctx, agent.Plan{Injection: &c.stop}); err != nil {
		return err
	}
	var calls [2]cni.Call
	var ended [2]chan struct{}
	group, ctx := errgroup.WithContext(ctx)
	begin := func(i int) {
		ended[i] = make(chan struct{})
		group.Go(func() (err error) {
			defer close(ended[i])
			calls[i], err = l.call(ctx, c.verbs[i], pods[i])
			return err
		})
	}
	begin(0)
	if _, err := awaitHeld(ctx, l.node.Agent.DaemonDid, ended[0]); err != nil {
		return err
	}
	begin(1)
	for interval := machinetime.Start(); interval.Given() < waitsFor; {
		select {
		case <-ended[1]:
		case <-time.After(10 * time.Millisecond):
			continue
		}
		break
	}
	did, err := l.node.Agent.DaemonDid(ctx)
	if err != nil {
		return err
	}
	if err := l.node.Agent.ReleaseDaemon(ctx); err != nil {
		return err
	}
	if err := group.Wait(); err != nil {
		return err
	}
	o.did = did
	for i, call := range calls {
		o.calls = append(o.calls, call)
		answer, ok := failure(call)
		switch {
		case call.ExitCode == 0:
		case ok && answer.Code == tryAgain:
			what := fmt.Sprintf("%s of %s once more", c.verbs[i], pods[i].name)
			if _, err := l.step(context.WithoutCancel(ctx), &o.sequel, what, c.verbs[i], pods[i]); err != nil {
				return err
			}
		default:
			o.wrongly("%s of %s: want success, got %s", c.verbs[i], pods[i].name, summary(call))
		}
	}
	return nil
}

// awaitHeld waits until a program is stopped, or the call that should bring it there has ended.
func awaitHeld(ctx context.Context, did func(context.Context) (fault.Watched, error), ended <-chan struct{}) (
	now fault.Watched, err error,
) {
	for interval := machinetime.Start(); interval.Given() < comesSoon; {
		if now, err = did(ctx); err != nil || now.Held {
			return now, err
		}
		select {
		case <-ended:
			return now, nil
		case <-time.After(2 * time.Millisecond):
		}
	}
	return now, nil
}

// complete compares the node with what ADD makes for so many pods.
func (l *daemonLane) complete(ctx context.Context, o *ordeal, attached int) error {
	now, err := l.state(ctx, l.pods()...)
	if err != nil {
		return err
	}
	has := l.certain(l.news(snapshot.Diff(l.clean, now)))
	count := func(changes []snapshot.Change, scope string) (n int) {
		for _, c := range changes {
			if c.Item.Kind == snapshot.Link && c.Op == snapshot.Added && (c.Item.Scope == "") == (scope == "") {
				n++
			}
		}
		return n
	}
	for _, scope := range []string{"", "pod"} {
		if want, got := attached*count(l.whole, scope), count(has, scope); want != got {
			where := map[string]string{"": "on the node", "pod": "in the pods"}[scope]
			o.wrongly("want %d links of %d pods %s, got %d", want, attached, where, got)
		}
	}
	return nil
}
