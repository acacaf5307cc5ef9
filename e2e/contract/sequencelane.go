package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// sequenceLane is a node on which sequences are tried, one after the other.
type sequenceLane struct {
	lane
	both [2]*pod
	// whole has what is there beyond the clean state, by the pods that are attached.
	whole map[[2]bool][]snapshot.Change
	// points are the faults of each verb.
	points map[cni.Verb][]fault.Injection
}

// sequenceLane makes a lane, and looks what each attachment makes.
func (t *trial) sequenceLane(ctx context.Context) (*sequenceLane, error) {
	made, err := t.lane(ctx)
	if err != nil {
		return nil, err
	}
	l := &sequenceLane{
		lane: *made, whole: map[[2]bool][]snapshot.Change{}, points: map[cni.Verb][]fault.Injection{},
	}
	if l.beside, err = l.bench.pod(ctx, "pod-2"); err != nil {
		return nil, err
	}
	l.both = [2]*pod{l.pod, l.beside}
	turn := func(s step) error {
		call, err := l.call(ctx, s.verb, l.both[s.pod])
		if err == nil && call.ExitCode != 0 {
			err = fmt.Errorf("%s: %s", s, summary(call))
		}
		return err
	}
	round := []step{{verb: cni.Add}, {verb: cni.Add, pod: 1}, {verb: cni.Del}, {verb: cni.Del, pod: 1}}
	for _, s := range round {
		if err := turn(s); err != nil {
			return nil, err
		}
	}
	if err := l.takeClean(ctx); err != nil {
		return nil, err
	}
	attached := [2]bool{}
	for _, s := range round {
		if err := turn(s); err != nil {
			return nil, err
		}
		attached[s.pod] = s.verb == cni.Add
		if l.whole[attached], err = l.settle(ctx); err != nil {
			return nil, err
		}
	}
	if left := l.whole[attached]; len(left) > 0 {
		return nil, fmt.Errorf("DEL of both leaves %s", first(left))
	}
	return l, nil
}

// observe finds the points of each verb.
func (l *sequenceLane) observe(ctx context.Context) error {
	for _, verb := range []cni.Verb{cni.Add, cni.Del, cni.GC} {
		if !verb.In(l.version) {
			continue
		}
		if err := l.prepare(ctx, verb); err != nil {
			return err
		}
		trace, err := l.traced(ctx, verb, nil)
		if err != nil {
			return err
		}
		l.points[verb] = append(injections(trace.Points, true, false), injections(trace.Points, false, false)...)
		if verb == cni.Del {
			continue
		}
		call, err := l.call(ctx, cni.Del, l.pod)
		if err != nil || call.ExitCode != 0 && verb != cni.GC {
			return errors.Join(err, fmt.Errorf("DEL: %s", summary(call)))
		}
	}
	return nil
}

// episode is a sequence that was played.
type episode struct {
	promise
	// twice are the pods with a second ADD: no runtime may make one, and what it does to its own pod goes with the pod.
	twice  [2]bool
	calls  []cni.Call
	hit    *fault.Trace
	state  []snapshot.Change
	gone   []*pod // attached before a reboot
	dirty  bool
	wrongs []string
}

func (e *episode) wrong(format string, args ...any) {
	e.wrongs = append(e.wrongs, fmt.Sprintf(format, args...))
}

// play makes the calls of a sequence, compares with the model, and clears up.
func (l *sequenceLane) play(ctx context.Context, s story) (*episode, error) {
	e := &episode{}
	for _, p := range l.both {
		p.result = nil
	}
	for i, step := range s.sequence {
		if i == len(s.sequence)-1 && s.fault.When != "" {
			if err := l.disturbed(ctx, e, step, s.fault); err != nil {
				return nil, err
			}
			break
		}
		if err := l.take(ctx, e, step); err != nil {
			return nil, err
		}
		if len(e.wrongs) > 0 {
			return e, nil
		}
	}
	if err := l.compare(ctx, e); err != nil {
		return nil, err
	}
	return e, l.clearUp(ctx, e)
}

// take makes the call of a step.
func (l *sequenceLane) take(ctx context.Context, e *episode, s step) error {
	if s.verb == reboot {
		return l.reboot(ctx, e)
	}
	on := l.both[s.pod]
	if s.verb == cni.Del && !e.attached[s.pod] && e.held[s.pod] {
		i := slices.IndexFunc(e.gone, func(p *pod) bool { return p.name == on.name })
		on = e.gone[i]
	}
	call, err := l.call(ctx, s.verb, l.forVerb(s.verb, on), l.edits(e, s)...)
	if err != nil {
		return err
	}
	e.calls = append(e.calls, call)
	if call.ExitCode != 0 && e.must(s) {
		e.wrong("%s: want success, got %s", s, summary(call))
	}
	e.twice[s.pod] = e.twice[s.pod] || s.verb == cni.Add && e.attached[s.pod]
	e.take(s, call.ExitCode == 0)
	return nil
}

func (l *sequenceLane) forVerb(verb cni.Verb, p *pod) *pod {
	if verb == cni.GC || verb == cni.Status {
		return nil
	}
	return p
}

// edits returns what a step changes in a call.
func (l *sequenceLane) edits(e *episode, s step) []func(*invocation) {
	if s.verb != cni.GC {
		return []func(*invocation){l.vary(s.how)}
	}
	var valid []*pod
	for i, p := range l.both {
		if e.attached[i] {
			valid = append(valid, p)
		}
	}
	return []func(*invocation){keeping(valid...)}
}

// reboot starts the node again, with new pods in place of the old ones.
func (l *sequenceLane) reboot(ctx context.Context, e *episode) error {
	if err := l.cluster.Reboot(ctx, l.node); err != nil {
		return err
	}
	for i, old := range l.both {
		e.gone = append([]*pod{old}, e.gone...)
		fresh, err := l.podWithID(ctx, old.name, old.id+"-later")
		if err != nil {
			return err
		}
		l.both[i] = fresh
	}
	l.pod, l.beside = l.both[0], l.both[1]
	e.take(step{verb: reboot}, true)
	return nil
}

// disturbed makes the call of the last step with a fault, and what a runtime does then.
func (l *sequenceLane) disturbed(ctx context.Context, e *episode, s step, injection fault.Injection) error {
	args, err := l.arguments(l.subjectInvocation(s.verb, l.forVerb(s.verb, l.both[s.pod]), l.edits(e, s)...))
	if err != nil {
		return err
	}
	trace, err := l.node.Agent.Trace(ctx, agent.FaultArgs{PluginArgs: args, Injection: &injection})
	if err != nil {
		return err
	}
	e.hit = &trace
	then := step{verb: s.verb, pod: s.pod}
	if s.verb == cni.Add {
		e.attached[s.pod] = true
		then.verb = cni.Del
		if trace.Call.ExitCode == 0 && json.Valid([]byte(trace.Call.Stdout)) {
			l.both[s.pod].result = json.RawMessage(trace.Call.Stdout)
		}
	}
	return l.take(ctx, e, then)
}

// compare compares the node with what the model says.
func (l *sequenceLane) compare(ctx context.Context, e *episode) (err error) {
	if e.attached == [2]bool{true, true} && !l.subject.file.OneAddress() {
		for _, addr := range addresses(l.both[0]) {
			if slices.Contains(addresses(l.both[1]), addr) {
				e.wrong("both pods have the address %s", addr)
			}
		}
	}
	if !e.known() {
		return nil
	}
	want := l.certain(l.whole[e.attached])
	settling, cancel := machinetime.WithTimeout(ctx, restless)
	defer cancel()
	for range 3 {
		if e.state, err = l.settle(settling); err != nil {
			return err
		}
		e.state = l.certain(e.state)
		if len(lacking(want, e.state)) == 0 && len(lacking(e.state, want)) == 0 {
			return nil
		}
	}
	if missing := lacking(want, e.state); len(missing) > 0 {
		e.wrong("%s is missing", first(missing))
	}
	if extra := lacking(e.state, want); len(extra) > 0 {
		e.wrong("%s is there, and belongs to no attachment", first(extra))
	}
	return nil
}

// clearUp deletes everything, and looks what is left.
func (l *sequenceLane) clearUp(ctx context.Context, e *episode) error {
	for i := range l.both {
		// A GC after the reboot has cleared up after those that were attached before.
		for e.held[i] || e.attached[i] || e.unsure[i] {
			if err := l.take(ctx, e, step{verb: cni.Del, pod: i}); err != nil {
				return err
			}
		}
	}
	for _, p := range e.gone {
		if err := l.release(ctx, p); err != nil {
			return err
		}
	}
	if e.rebooted {
		for _, p := range l.both {
			if err := l.end(ctx, p); err != nil {
				return err
			}
		}
		now, err := l.state(ctx)
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(ownChanges(snapshot.Diff(l.clean, now)), func(c snapshot.Change) bool {
			return c.Op != snapshot.Added || c.Item.Scope != "" || ofKernel(c.Item)
		})
		if len(left) > 0 {
			e.wrong("in the end something is left: %s", first(left))
		}
		return nil
	}
	settling, cancel := machinetime.WithTimeout(ctx, restless)
	defer cancel()
	left, err := l.settle(settling)
	e.dirty = len(left) > 0
	left = slices.DeleteFunc(left, func(c snapshot.Change) bool {
		return slices.ContainsFunc([]int{0, 1}, func(i int) bool {
			return e.twice[i] &&
				c.Item.Scope == l.both[i].name
		})
	})
	if len(left) > 0 {
		e.state = left
		e.wrong("in the end something is left: %s", first(left))
	}
	return err
}

// tell reports what is wrong after a sequence.
func (l *sequenceLane) tell(s *story, e *episode) {
	var b strings.Builder
	token := l.token(s.code())
	fmt.Fprintf(&b, "%s\n\n%s\n\n%s", s, strings.Join(e.wrongs, "\n"), token.again())
	for _, c := range e.calls {
		fmt.Fprintf(&b, "\n%s:\n%s\n", c.Verb, c.Transcript())
	}
	if e.hit != nil {
		fmt.Fprintf(&b, "\nwith the fault, before the last call but those that clear up:\n%s\n%s\n",
			fault.Summary(e.hit.Points), e.hit.Call.Transcript())
	}
	if len(e.state) > 0 {
		fmt.Fprintf(&b, "\nwhat is there beyond the state without attachments:\n%s\n", lines(e.state))
	}
	known := ""
	if e.hit != nil && l.subject.leavesToHostLocal(s.fault.Point.Program) && areReservations(e.state) {
		known = hostLocalForgets
	}
	l.knownDeviation([]report.Evidence{{Title: s.String(), Text: b.String()}},
		token.named(fmt.Sprintf("%s: %s", s, e.wrongs[0])), known)
}
