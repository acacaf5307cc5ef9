package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// attending returns the requirements about what happens to a daemon.
func attending() []Requirement {
	const (
		why = "A daemon knows which pod has which address, and is started again with each update. One that takes a " +
			"file that it could not read for an empty one gives the addresses of running pods to others; one whose " +
			"two answers get in each other's way does so once in ten thousand pods."
		reads = "Another pod is attached all the time. Counts the calls by which the daemon looks at something while " +
			"it starts, and during ADD, DEL and GC: lists of netlink, files, locks and sockets. Then each of them " +
			"gets a bad answer, as with READ-ADD. A list that was interrupted once and a read in pieces must be " +
			"tried again. Otherwise a daemon may end, if it says why, and starts again then; a call may fail with " +
			"an error object. Afterwards DEL and ADD succeed (or say with code 11 that they want to be tried again, " +
			"and succeed then), CHECK of both pods passes, they have addresses of their own, and DEL and GC clear " +
			"up. A plain run tries some by --seed, --deep all."
		races = "Two calls ask the daemon at the same time: ADD and ADD, ADD and DEL, DEL and ADD, DEL and DEL. " +
			"Counts the calls by which the daemon changes or looks at something for the first one. Then its thread " +
			"is stopped before each of them, the second call runs to its end, or for half a second if the daemon " +
			"makes it wait, and the thread goes on. Both succeed (or say with code 11 that they want to be tried " +
			"again, and succeed then), and everything is there that is there after one call and then the other. " +
			"The daemon is killed and starts again: CHECK passes, a third pod gets an address of its own, and DEL " +
			"clears up. A plain run tries some by --seed, --deep all."
	)
	const restarts = "Another pod is attached all the time. Counts the calls by which ADD, DEL and GC change " +
		"something or ask the kernel. Then the plugin is stopped before each of them, the daemon is killed and " +
		"starts again, and the plugin goes on. It succeeds with everything in place, or with everything removed, or " +
		"fails with an error object; then DEL and ADD succeed (or say with code 11 that they want to be tried again, " +
		"and succeed then). CHECK of both pods passes, they have addresses of their own, and DEL and GC clear up. " +
		"A plain run tries some by --seed, --deep all."
	return []Requirement{{
		ID: "READ-DAEMON", Level: Should, Section: "failure mode", Roles: inChain(), Cases: BadReads, Why: why,
		How:   reads,
		Text:  "A daemon that could not read what it must know gives nobody the address of another.",
		check: func(ctx context.Context, t *trial) error { return t.readDaemon(ctx) },
	}, {
		ID: "RACE-DAEMON", Level: Should, Section: "failure mode", Roles: inChain(), Cases: Schedules, Why: why,
		How:   races,
		Text:  "A daemon does for two calls at the same time what it does for them one after the other.",
		check: func(ctx context.Context, t *trial) error { return t.raceDaemon(ctx) },
	}, {
		ID: "RACE-RESTART", Level: Should, Section: "failure mode", Roles: inChain(), Cases: Schedules, Why: why,
		How:   restarts,
		Text:  "A call ends as it should, or can be made again, if the daemon is killed meanwhile and starts again.",
		check: func(ctx context.Context, t *trial) error { return t.restarts(ctx) },
	}}
}

// starting is the time in which a daemon starts, in place of a verb.
const starting cni.Verb = "start"

// daemonLane is a lane with another pod, whose daemon runs under the tracer.
type daemonLane struct {
	*lane
	daemon agent.DaemonArgs
	// whole has the changes of ADD.
	whole []snapshot.Change
}

// daemonLane makes a lane. The daemon has started once, and its points of that are returned.
func (t *trial) daemonLane(ctx context.Context) (*daemonLane, []fault.Point, error) {
	given := t.subject.lab.Request.Target.GivenDaemon()
	if given == nil {
		return nil, nil, notApplicable("no daemon is under test")
	}
	made, err := t.sharedLane(ctx)
	if err != nil {
		return nil, nil, err
	}
	l := &daemonLane{lane: made, daemon: cluster.DaemonArgs(made.node, given)}
	began, err := l.node.Agent.AttendDaemon(ctx, agent.AttendArgs{DaemonArgs: l.daemon})
	if err != nil {
		return nil, nil, err
	}
	if !began.Ready {
		output, err := l.node.Agent.LeaveDaemon(ctx)
		if err == nil {
			err = errors.New(lastLine(output))
		}
		return nil, nil, fmt.Errorf("daemon %s does not start under the tracer: %w", l.daemon.Name, err)
	}
	return l, began.Did.Points, nil
}

// asked makes a call, and returns what the daemon did for it.
func (l *daemonLane) asked(ctx context.Context, verb cni.Verb, p *pod, injection *fault.Injection) (
	did fault.Watched, call cni.Call, err error,
) {
	if err = l.node.Agent.Attending(ctx, agent.Plan{Injection: injection}); err != nil {
		return did, call, err
	}
	if verb == cni.GC {
		call, err = l.call(ctx, verb, nil, keeping(l.beside))
	} else {
		call, err = l.call(ctx, verb, p)
	}
	if err != nil {
		return did, call, err
	}
	did, err = l.node.Agent.DaemonDid(ctx)
	return did, call, err
}

// undisturbed makes each call once, and returns what the daemon does for it.
func (l *daemonLane) undisturbed(ctx context.Context) (map[cni.Verb][]fault.Point, error) {
	points := map[cni.Verb][]fault.Point{}
	for _, verb := range []cni.Verb{cni.Add, cni.Del, cni.GC} {
		if !verb.In(l.version) {
			continue
		}
		did, call, err := l.asked(ctx, verb, l.pod, nil)
		if err != nil {
			return nil, err
		}
		if call.ExitCode != 0 {
			return nil, fmt.Errorf("%s while the daemon runs under the tracer: %s", verb, summary(call))
		}
		points[verb] = did.Points
		if verb != cni.Add {
			continue
		}
		now, err := l.state(ctx, l.pods()...)
		if err != nil {
			return nil, err
		}
		l.whole = l.certain(l.news(snapshot.Diff(l.clean, now)))
	}
	return points, nil
}

// ordeal is something that happened to a daemon, and what came of it.
type ordeal struct {
	// what says what happened, code names it in a token.
	what, code string
	did        fault.Watched
	output     string // of a daemon that ended
	left       []snapshot.Change
	sequel
}

// wrongly notes what is wrong, if nothing else is.
func (o *ordeal) wrongly(format string, args ...any) {
	if o.wrong == "" {
		o.wrong = fmt.Sprintf(format, args...)
	}
}

// revive starts the daemon again if it has ended, which it may.
func (l *daemonLane) revive(ctx context.Context, o *ordeal) error {
	did, err := l.node.Agent.DaemonDid(ctx)
	if err != nil || !did.Ended {
		return err
	}
	return l.restart(ctx, o)
}

// restart kills the daemon, and starts it again.
func (l *daemonLane) restart(ctx context.Context, o *ordeal) error {
	output, err := l.node.Agent.LeaveDaemon(ctx)
	if err != nil {
		return err
	}
	o.output += output
	if at := strings.Index(output, "panic: "); at >= 0 {
		line, _, _ := strings.Cut(output[at:], "\n")
		o.wrongly("the daemon ends: %s", line)
	}
	began, err := l.node.Agent.AttendDaemon(ctx, agent.AttendArgs{DaemonArgs: l.daemon})
	if err != nil || began.Ready {
		return err
	}
	if output, err = l.node.Agent.LeaveDaemon(ctx); err != nil {
		return err
	}
	o.output += output
	o.wrongly("the daemon does not start again: %s", lastLine(output))
	return nil
}

// lastLine returns the last line of an output.
func lastLine(output string) string {
	output = strings.TrimSpace(output)
	return output[strings.LastIndexByte(output, '\n')+1:]
}

// intact checks that the attached pods are as they were told.
func (l *daemonLane) intact(ctx context.Context, o *ordeal, pods ...*pod) error {
	if addr := shared(pods); addr != "" && !l.subject.file.OneAddress() {
		o.wrongly("two pods have the address %s", addr)
	}
	if !cni.Check.In(l.version) {
		return nil
	}
	for _, p := range pods {
		if _, err := l.step(ctx, &o.sequel, "CHECK of "+p.name, cni.Check, p); err != nil || o.wrong != "" {
			return err
		}
	}
	return nil
}

// resume attaches pod-1 again, and clears up.
func (l *daemonLane) resume(ctx context.Context, o *ordeal) error {
	for _, verb := range []cni.Verb{cni.Del, cni.Add} {
		what := fmt.Sprintf("then %s of pod-1", verb)
		if _, err := l.step(ctx, &o.sequel, what, verb, l.pod); err != nil || o.wrong != "" {
			return err
		}
	}
	if err := l.intact(ctx, o, l.pod, l.beside); err != nil || o.wrong != "" {
		return err
	}
	return l.clearUp(ctx, o, l.pod)
}

// clearUp deletes what is attached but for the other pod, and compares.
func (l *daemonLane) clearUp(ctx context.Context, o *ordeal, pods ...*pod) error {
	for _, p := range pods {
		if _, err := l.step(ctx, &o.sequel, "DEL of "+p.name, cni.Del, p); err != nil || o.wrong != "" {
			return err
		}
	}
	if cni.GC.In(l.version) {
		if _, err := l.step(ctx, &o.sequel, "GC", cni.GC, nil, keeping(l.beside)); err != nil || o.wrong != "" {
			return err
		}
	}
	left, err := l.settle(ctx)
	if o.left = l.certain(left); len(o.left) > 0 {
		o.wrongly("in the end something is left: %s", first(o.left))
	}
	return err
}

// ordeals tries cases on a lane, and on a new one after each that goes wrong. all is how many there are.
func ordeals[T fmt.Stringer](ctx context.Context, t *trial, l *daemonLane, what string, all int, chosen []T,
	try func(*daemonLane, context.Context, T) (*ordeal, error),
) error {
	count := t.newTally(what, len(chosen))
	for _, one := range chosen {
		if l == nil {
			var err error
			if l, _, err = t.daemonLane(ctx); err != nil {
				return err
			}
			if _, err = l.undisturbed(ctx); err != nil {
				return err
			}
		}
		o, err := try(l, ctx, one)
		if err != nil {
			return fmt.Errorf("%s: %w", one, err)
		}
		if o.did.Hit == nil {
			count.strays()
		}
		count.tells(t, o.wrong != "")
		if o.wrong == "" {
			continue
		}
		l.tell(o)
		if count.failed == evidenceShown {
			break
		}
		_ = l.cluster.Close()
		l = nil
	}
	if explored := &t.subject.lab.Exploration; explored.Replay == nil {
		t.note("%d of %d %s tried, %d of them at a call that was not made again, seed %d", count.tried, all, what,
			count.strayed, explored.Seed)
	}
	return nil
}

// tell reports an ordeal after which something is wrong.
func (l *daemonLane) tell(o *ordeal) {
	token := l.token(o.code)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n\n%s\nthe daemon's calls:\n%s", o.what, o.wrong, token.again(),
		fault.Summary(o.did.Points))
	if o.output != "" {
		fmt.Fprintf(&b, "\nthe daemon's output:\n%s\n", o.output)
	}
	for _, c := range o.calls {
		fmt.Fprintf(&b, "\nthen %s:\n%s\n", c.Verb, c.Transcript())
	}
	if len(o.left) > 0 {
		fmt.Fprintf(&b, "\nwhat stayed behind:\n%s\n", lines(o.left))
	}
	l.trial.deviation([]report.Evidence{{Title: token.String(), Text: b.String()}},
		token.named(o.what+": "+o.wrong))
}
