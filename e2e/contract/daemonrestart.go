package contract

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// restart is a call of the plugin that is stopped while its daemon is killed and starts again.
type restart struct {
	verb cni.Verb
	stop fault.Injection
}

// code names it in a token.
func (r restart) code() string {
	return fmt.Sprintf("%s:%d", strings.ToLower(string(r.verb)), r.stop.Point.Number)
}

// String returns it for people.
func (r restart) String() string {
	return fmt.Sprintf("%s of pod-1 is %s, and the daemon is killed and starts again", r.verb, r.stop)
}

// restarts kills the daemon during calls.
func (t *trial) restarts(ctx context.Context) error {
	l, _, err := t.daemonLane(ctx)
	if err != nil {
		return err
	}
	var all []restart
	for _, verb := range []cni.Verb{cni.Add, cni.Del, cni.GC} {
		if !verb.In(l.version) {
			continue
		}
		points, err := l.pointsOf(ctx, verb)
		if err != nil {
			return err
		}
		for _, p := range points {
			// A daemon changes nothing in files that a plugin looks at, but in what the kernel knows.
			if p.Look == "" || p.Look == fault.LookDump || p.Look == fault.LookRequest {
				all = append(all, restart{verb, fault.Injection{Point: p, When: fault.Held}})
			}
		}
	}
	if _, err := l.undisturbed(ctx); err != nil {
		return err
	}
	explored := &t.subject.lab.Exploration
	rankBy(all, explored.Seed, func(r restart) int { return len(r.stop.Point.Look) })
	chosen, err := choose(explored, all, restart.code, func() []restart { return all[:min(stopsTried, len(all))] })
	if err != nil {
		return err
	}
	return ordeals(ctx, t, l, "restarts", len(all), chosen, (*daemonLane).during)
}

// pointsOf returns what the plugin does in a call.
func (l *daemonLane) pointsOf(ctx context.Context, verb cni.Verb) ([]fault.Point, error) {
	if verb != cni.Add {
		if _, err := l.add(ctx, l.pod); err != nil {
			return nil, err
		}
	}
	trace, err := l.looked(ctx, verb, nil)
	if err != nil {
		return nil, err
	}
	if trace.Call.ExitCode != 0 {
		return nil, fmt.Errorf("%s without anything beside it: %s", verb, summary(trace.Call))
	}
	_, err = l.must(ctx, cni.Del, l.pod)
	return trace.Points, err
}

// during restarts the daemon during a call, and does what a runtime does then.
func (l *daemonLane) during(ctx context.Context, r restart) (*ordeal, error) {
	o := &ordeal{what: r.String(), code: r.code()}
	l.pod.result = nil
	if r.verb != cni.Add {
		if _, err := l.add(ctx, l.pod); err != nil {
			return nil, err
		}
	}
	trace, err := l.held(ctx, o, r)
	if err != nil || o.wrong != "" {
		return o, err
	}
	o.calls = append(o.calls, trace.Call)
	answer, hasError := failure(trace.Call)
	switch {
	case trace.Call.ExitCode != 0 && (!hasError || answer.Msg == ""):
		o.wrongly("want an error object, got %s", summary(trace.Call))
		return o, nil
	case trace.Call.ExitCode == 0 && r.verb == cni.Add:
		l.pod.result = []byte(trace.Call.Stdout)
		now, err := l.state(ctx, l.pods()...)
		if err != nil {
			return nil, err
		}
		if missing := lacking(l.whole, l.certain(l.news(snapshot.Diff(l.clean, now)))); len(missing) > 0 {
			o.wrongly("ADD succeeds, and lacks %s", first(missing))
			return o, nil
		}
		if err := l.intact(ctx, o, l.pod, l.beside); err != nil || o.wrong != "" {
			return o, err
		}
	}
	return o, l.resume(ctx, o)
}

// held makes the call, and restarts the daemon while it is stopped.
func (l *daemonLane) held(ctx context.Context, o *ordeal, r restart) (trace fault.Trace, err error) {
	args, err := l.arguments(l.lookedAt(r.verb))
	if err != nil {
		return trace, err
	}
	ended := make(chan struct{})
	var group errgroup.Group
	group.Go(func() (err error) {
		defer close(ended)
		trace, err = l.node.Agent.Hold(ctx, agent.FaultArgs{PluginArgs: args, Injection: &r.stop})
		return err
	})
	o.did, err = awaitHeld(ctx, l.node.Agent.HeldDid, ended)
	if err == nil && o.did.Held {
		err = l.restart(ctx, o)
	}
	if released := l.node.Agent.ReleaseHeld(ctx); err == nil {
		err = released
	}
	if ended := group.Wait(); err == nil {
		err = ended
	}
	return trace, err
}
