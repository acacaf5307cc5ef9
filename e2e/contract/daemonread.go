package contract

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// misreading is a bad answer to a daemon while it starts, or during a verb.
type misreading struct {
	during cni.Verb
	fault.Injection
}

// code names it in a token.
func (m misreading) code() string { return strings.ToLower(string(m.during)) + ":" + m.Code() }

// String returns it for people.
func (m misreading) String() string {
	if m.during == starting {
		return fmt.Sprintf("the daemon starts, %s", m.Injection)
	}
	return fmt.Sprintf("during %s %s", m.during, m.Injection)
}

// impatient is how long a daemon gets to become ready that may end instead, and may try again as long as it likes.
const impatient = 2 * time.Second

// misreadings returns all bad answers that a daemon can get, and those that a plain run tries.
func (t *trial) misreadings(points map[cni.Verb][]fault.Point, explored *Exploration) (some, all []misreading) {
	var every []fault.Point
	for _, verb := range []cni.Verb{starting, cni.Add, cni.Del, cni.GC} {
		every = append(every, points[verb]...)
	}
	dirs := directories(every)
	for _, verb := range []cni.Verb{starting, cni.Add, cni.Del, cni.GC} {
		answers := t.subject.badAnswers(points[verb], dirs, explored.Deep || explored.Replay != nil)
		for i, a := range answers {
			answers[i].Nth = fault.Nth(points[verb], a.Point)
			all = append(all, misreading{verb, answers[i]})
		}
		for _, a := range someOf(answers, 1, explored.Seed) {
			some = append(some, misreading{verb, a})
		}
	}
	return some, all
}

// readDaemon gives bad answers to the looks of a daemon.
func (t *trial) readDaemon(ctx context.Context) error {
	l, start, err := t.daemonLane(ctx)
	if err != nil {
		return err
	}
	points, err := l.undisturbed(ctx)
	if err != nil {
		return err
	}
	points[starting] = start
	explored := &t.subject.lab.Exploration
	some, all := t.misreadings(points, explored)
	chosen, err := choose(explored, all, misreading.code, func() []misreading { return some })
	if err != nil {
		return err
	}
	return ordeals(ctx, t, l, "bad answers to the daemon", len(all), chosen, (*daemonLane).misread)
}

// misread gives the daemon one bad answer, and does what a runtime does then.
func (l *daemonLane) misread(ctx context.Context, m misreading) (o *ordeal, err error) {
	o = &ordeal{what: m.String(), code: m.code()}
	l.pod.result = nil
	if m.during == starting {
		err = l.startMisreading(ctx, o, m)
	} else {
		err = l.callMisreading(ctx, o, m)
	}
	if err != nil || o.wrong != "" {
		return o, err
	}
	if err := l.node.Agent.Attending(ctx, agent.Plan{}); err != nil {
		return nil, err
	}
	if err := l.revive(ctx, o); err != nil || o.wrong != "" {
		return o, err
	}
	return o, l.resume(ctx, o)
}

// startMisreading starts the daemon.
func (l *daemonLane) startMisreading(ctx context.Context, o *ordeal, m misreading) error {
	args := agent.AttendArgs{DaemonArgs: l.daemon, Plan: agent.Plan{Injection: &m.Injection}}
	if !again(m.Injection) {
		args.Within = impatient
	}
	began, err := l.node.Agent.AttendDaemon(ctx, args)
	if err != nil {
		return err
	}
	o.did = began.Did
	if began.Ready {
		return nil
	}
	output, err := l.node.Agent.LeaveDaemon(ctx)
	if err != nil {
		return err
	}
	o.output = output
	switch {
	case again(m.Injection) && o.did.Told:
		o.wrongly("want that it tries again, got: %s", lastLine(output))
	case output == "":
		o.wrongly("it does not become ready, and does not say why")
	}
	return l.restart(ctx, o)
}

// callMisreading makes a call.
func (l *daemonLane) callMisreading(ctx context.Context, o *ordeal, m misreading) error {
	if m.during != cni.Add {
		if _, err := l.add(ctx, l.pod); err != nil {
			return err
		}
	}
	did, call, err := l.asked(ctx, m.during, l.pod, &m.Injection)
	if err != nil {
		return err
	}
	o.did = did
	o.calls = append(o.calls, call)
	answer, hasError := failure(call)
	switch {
	case call.ExitCode != 0 && (!hasError || answer.Msg == ""):
		o.wrongly("want an error object, got %s", summary(call))
	case call.ExitCode != 0 && again(m.Injection) && did.Told:
		o.wrongly("want that it tries again, got %s", summary(call))
	case call.ExitCode == 0 && m.during == cni.Add:
		now, err := l.state(ctx, l.pods()...)
		if err != nil {
			return err
		}
		if missing := lacking(l.whole, l.certain(l.news(snapshot.Diff(l.clean, now)))); len(missing) > 0 {
			o.wrongly("ADD succeeds, and lacks %s", first(missing))
		}
		return l.intact(ctx, o, l.pod, l.beside)
	}
	return nil
}
