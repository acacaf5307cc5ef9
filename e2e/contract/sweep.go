package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// sweeping returns the requirements that kill and fail a plugin at every call by which it changes something.
func sweeping() []Requirement {
	const (
		killed = "A runtime kills what takes too long, a node what takes too much memory; nobody but the next DEL or " +
			"GC can clear up."
		failed = "Memory and disks run full, devices disappear: a plugin that ignores that tells the runtime that a " +
			"broken pod works."
		points = "Counts the calls by which an undisturbed %[1]s changes something (netlink, files, sysctls, mounts, " +
			"programs, daemons; those of delegated plugins too). Then for each of them, "
	)
	kill := func(verb, then string) string {
		return fmt.Sprintf(points+"before and after it: kills %[1]s there, %[2]s; pod and node look as before.", verb,
			then)
	}
	fail := func(verb, then string) string {
		return fmt.Sprintf(points+"makes it fail with each of the errors that the kernel "+
			"returns most, with --deep also with EROFS, EIO, EDQUOT, EMFILE, ENOBUFS and EPERM; %[2]s; pod and "+
			"node look as before.", verb, then)
	}
	list := []Requirement{
		{
			ID: "KILL-ADD", Covers: []string{"F03"},
			Text: "DEL clears up after an ADD that was killed at any moment.", Why: killed,
			How: kill("ADD", "calls DEL without prevResult, as there is none"),
		},
		{
			ID:   "KILL-DEL",
			Text: "DEL clears up after a DEL that was killed at any moment.", Why: killed,
			How: kill("DEL", "calls DEL again"),
		},
		{
			ID: "KILL-GC", Since: "1.1.0",
			Text: "GC clears up after a GC that was killed at any moment.", Why: killed,
			How: kill("GC", "calls GC again, of an attachment that is no longer valid"),
		},
		{
			ID:   "FAIL-ADD",
			Text: "ADD ends with an error if one of its calls fails, and DEL clears up after it.", Why: failed,
			How: fail("ADD", "ADD ends with an error object, or succeeds with everything in place; calls DEL"),
		},
		{
			ID:   "FAIL-DEL",
			Text: "DEL clears up after a DEL in which a call failed.", Why: failed, How: fail("DEL", "calls DEL again"),
		},
		{
			ID: "FAIL-GC", Since: "1.1.0",
			Text: "GC clears up after a GC in which a call failed.", Why: failed, How: fail("GC", "calls GC again"),
		},
	}
	for i := range list {
		mode, verb, _ := strings.Cut(list[i].ID, "-")
		list[i].Level, list[i].Section, list[i].Roles, list[i].Cases = Should, "failure mode", inChain(), Faults
		list[i].check = func(ctx context.Context, t *trial) error {
			return t.sweep(ctx, cni.Verb(verb), mode == "KILL")
		}
	}
	return list
}

// lane is a node on which faults are tried one after the other, with a pod in which the plugins before the subject are
// attached.
type lane struct {
	*bench
	pod *pod
	// beside is another pod that is attached all the time; nil if there is none.
	beside *pod
	// third is one more pod that is compared; nil if there is none.
	third *pod
	// cold is the state of pod and node before the subject's first attachment, clean their state without an attachment
	// since then.
	cold, clean snapshot.State
	// dirty says that the state is no longer clean.
	dirty bool
}

// news returns the changes except for those that restore the cold node's state, and for residue of the first attachment
// that disappeared or changed.
func (l *lane) news(changes []snapshot.Change) []snapshot.Change {
	return slices.DeleteFunc(ownChanges(changes), func(c snapshot.Change) bool {
		// A device that is given to pods loses its link-local address, and each pod has another one.
		if l.beside != nil && ofKernel(c.Item) {
			return true
		}
		was := slices.IndexFunc(l.cold.Items, func(i snapshot.Item) bool { return i.Key() == c.Item.Key() })
		if was < 0 {
			return c.Op != snapshot.Added
		}
		return c.Op == snapshot.Changed && snapshot.Same(l.cold.Items[was], c.Item)
	})
}

// traceable returns a bench whose plugins can be traced.
func (t *trial) traceable(ctx context.Context) (*bench, error) {
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return nil, err
	}
	reason, err := b.node.Agent.CanTrace(ctx)
	if err == nil && reason != "" {
		err = fmt.Errorf("plugins cannot be traced here: %s", reason)
	}
	return b, err
}

// lane makes a lane on which the subject was attached and deleted once.
func (t *trial) lane(ctx context.Context) (*lane, error) {
	b, err := t.traceable(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.pod(ctx, "pod-1")
	if err != nil {
		return nil, err
	}
	l := &lane{bench: b, pod: p}
	if l.cold, err = b.state(ctx, p); err != nil {
		return nil, err
	}
	if _, err := b.add(ctx, p); err != nil {
		return nil, err
	}
	call, err := b.call(ctx, cni.Del, p)
	if err != nil {
		return nil, err
	}
	if call.ExitCode != 0 {
		return nil, fmt.Errorf("DEL without a fault: %s", summary(call))
	}
	// The state must be stable.
	before, err := b.state(ctx, p)
	if err != nil {
		return nil, err
	}
	if _, err := b.leftAfter(ctx, before, nil, p); err != nil {
		return nil, err
	}
	l.clean, err = b.state(ctx, p)
	return l, err
}

// traced makes a call under the tracer.
func (l *lane) traced(ctx context.Context, verb cni.Verb, injection *fault.Injection) (fault.Trace, error) {
	var edits []func(*invocation)
	on := l.pod
	if verb == cni.GC {
		on, edits = nil, append(edits, keeping())
	}
	inv := l.subjectInvocation(verb, on, edits...)
	args, err := l.arguments(inv)
	if err != nil {
		return fault.Trace{}, err
	}
	return l.node.Agent.Trace(ctx, agent.FaultArgs{PluginArgs: args, Injection: injection})
}

// prepare brings the lane's pod into the state in which a verb starts.
func (l *lane) prepare(ctx context.Context, verb cni.Verb) error {
	if verb == cni.Add {
		return nil
	}
	_, err := l.add(ctx, l.pod)
	return err
}

// clear does what a runtime would do after a verb that failed, and compares what is left.
func (l *lane) clear(ctx context.Context, verb cni.Verb, a *attempt) error {
	var call cni.Call
	var err error
	switch verb {
	case cni.Add:
		call, err = l.call(ctx, cni.Del, l.pod, withoutPrevResult)
	case cni.Del:
		call, err = l.call(ctx, cni.Del, l.pod)
	case cni.GC:
		call, err = l.call(ctx, cni.GC, nil, keeping())
	}
	if err != nil {
		return err
	}
	a.later = append(a.later, call)
	ctx, cancel := machinetime.WithTimeout(ctx, restless)
	defer cancel()
	a.left, err = l.settle(ctx)
	if verb != cni.GC || err != nil || len(a.left) == 0 {
		return err
	}
	// The pod of an attachment that is no longer valid is gone; DEL clears what is in the pod of this lane.
	a.left = slices.DeleteFunc(a.left, func(c snapshot.Change) bool { return c.Item.Scope != "" })
	if _, err := l.call(ctx, cni.Del, l.pod); err != nil {
		return err
	}
	rest, err := l.settle(ctx)
	l.dirty = len(rest) > 0
	return err
}

// settle returns the changes against the clean state once the state is stable.
func (l *lane) settle(ctx context.Context) ([]snapshot.Change, error) {
	return snapshot.Settle(ctx, func(ctx context.Context) (snapshot.State, error) {
		return l.state(ctx, l.pods()...)
	}, l.clean, l.news)
}

// takeClean takes the state without an attachment, once it does not change any more.
func (l *lane) takeClean(ctx context.Context) error {
	before, err := l.state(ctx, l.pods()...)
	if err != nil {
		return err
	}
	if _, err := l.leftAfter(ctx, before, nil, l.pods()...); err != nil {
		return err
	}
	l.clean, err = l.state(ctx, l.pods()...)
	return err
}

// pods returns the pods of the lane.
func (l *lane) pods() []*pod {
	return slices.DeleteFunc([]*pod{l.pod, l.beside, l.third}, func(p *pod) bool { return p == nil })
}

// try injects one fault and clears up.
func (l *lane) try(ctx context.Context, verb cni.Verb, injection fault.Injection,
	whole []snapshot.Change,
) (*attempt, error) {
	if err := l.prepare(ctx, verb); err != nil {
		return nil, err
	}
	a := &attempt{Injection: injection}
	var err error
	if a.trace, err = l.traced(ctx, verb, &injection); err != nil {
		return nil, err
	}
	if verb == cni.Add && a.trace.Call.ExitCode == 0 {
		now, err := l.state(ctx, l.pod)
		if err != nil {
			return nil, err
		}
		a.missing = lacking(whole, l.news(snapshot.Diff(l.clean, now)))
	}
	return a, l.clear(ctx, verb, a)
}

// tryHard tries again if the plugin made other calls: one that talks to a daemon sends a varying number of frames.
func (l *lane) tryHard(try func() (*attempt, error)) (a *attempt, err error) {
	for range 3 {
		a, err = try()
		if err != nil || a.trace.Hit != nil && !a.trace.Diverged || len(a.left) > 0 || l.dirty {
			break
		}
	}
	return a, err
}

// lacking returns what a complete attachment has and this one lacks: each scope and kind must have as many items.
func lacking(whole, has []snapshot.Change) []snapshot.Change {
	type sort struct{ scope, kind string }
	count := map[sort]int{}
	for _, c := range has {
		count[sort{c.Item.Scope, c.Item.Kind}]++
	}
	var missing []snapshot.Change
	for _, c := range whole {
		key := sort{c.Item.Scope, c.Item.Kind}
		if count[key]--; count[key] < 0 {
			missing = append(missing, c)
		}
	}
	return missing
}

// sweep tries every point of a verb.
func (t *trial) sweep(ctx context.Context, verb cni.Verb, kill bool) error {
	pilot, err := t.lane(ctx)
	if err != nil {
		return err
	}
	if err := pilot.prepare(ctx, verb); err != nil {
		return err
	}
	start := time.Now()
	observed, err := pilot.traced(ctx, verb, nil)
	if err != nil {
		return err
	}
	slow := time.Since(start) > 500*time.Millisecond
	if observed.Call.ExitCode != 0 {
		return fmt.Errorf("%s without a fault: %s", verb, summary(observed.Call))
	}
	now, err := pilot.state(ctx, pilot.pod)
	if err != nil {
		return err
	}
	whole := pilot.news(snapshot.Diff(pilot.clean, now))
	if err := pilot.clear(ctx, verb, &attempt{}); err != nil {
		return err
	}
	explored := &t.subject.lab.Exploration
	faults := injections(observed.Points, kill, explored.Deep || explored.Replay != nil)
	if len(faults) == 0 {
		return notApplicable("%s changes nothing", verb)
	}
	all := func() []fault.Injection { return faults }
	if faults, err = choose(explored, faults, fault.Injection.Code, all); err != nil {
		return err
	}
	lanes := 2
	if slow {
		// It waits more than it computes.
		lanes = 8
	}
	tried, err := t.tryAll(ctx, faults, pilot, t.subject.lab.limit(min(lanes, len(faults))), sweeper{
		lane: t.lane,
		try: func(ctx context.Context, l *lane, injection fault.Injection) (*attempt, error) {
			return l.tryHard(func() (*attempt, error) { return l.try(ctx, verb, injection, whole) })
		},
	})
	if err != nil {
		return err
	}
	t.judgeSweep(verb, kill, tried)
	t.note("%d points, %d faults tried", len(observed.Points), len(tried))
	return nil
}

// sweeper makes lanes, and tries a fault on one.
type sweeper struct {
	lane func(ctx context.Context) (*lane, error)
	try  func(ctx context.Context, l *lane, injection fault.Injection) (*attempt, error)
}

// tryAll distributes the faults over lanes. A lane on which something was left is replaced.
func (t *trial) tryAll(
	ctx context.Context, faults []fault.Injection, pilot *lane, lanes int, s sweeper,
) ([]*attempt, error) {
	tried := make([]*attempt, len(faults))
	group, ctx := errgroup.WithContext(ctx)
	for n := range lanes {
		group.Go(func() error {
			var l *lane
			if n == 0 {
				l = pilot
			}
			for i := n; i < len(faults); i += lanes {
				if l == nil {
					var err error
					if l, err = s.lane(ctx); err != nil {
						return err
					}
				}
				var err error
				if tried[i], err = s.try(ctx, l, faults[i]); err != nil {
					return fmt.Errorf("%s: %w", faults[i], err)
				}
				if l.dirty || len(tried[i].left) > 0 {
					_ = timing.Close(ctx, timing.Lab, l.cluster)
					l = nil
				}
			}
			return nil
		})
	}
	return tried, group.Wait()
}

func (t *trial) judgeSweep(verb cni.Verb, kill bool, tried []*attempt) {
	for _, a := range tried {
		last := a.later[len(a.later)-1]
		answer, hasError := failure(a.trace.Call)
		switch {
		case a.trace.Hung:
			t.fault(a, verb, "%s, %s, hangs", verb, a.Injection)
		case last.ExitCode != 0:
			t.fault(a, verb, "%s after %s that was %s: want success, got %s", last.Verb, verb, a.Injection,
				summary(last))
		case len(a.left) > 0:
			t.fault(a, verb, "%s after %s that was %s leaves %s", last.Verb, verb, a.Injection, first(a.left))
		case kill || a.trace.Hit == nil || !a.trace.Told:
		case verb == cni.Add && a.trace.Call.ExitCode == 0 && len(a.missing) > 0:
			t.fault(a, verb, "%s succeeds although %s, and lacks %s", verb, a.Injection, first(a.missing))
		case a.trace.Call.ExitCode != 0 && (!hasError || answer.Msg == ""):
			t.fault(a, verb, "%s, %s: want an error object, got %s", verb, a.Injection, summary(a.trace.Call))
		}
	}
}

// fault reports the outcome of an attempt, with its description.
func (t *trial) fault(a *attempt, verb cni.Verb, format string, args ...any) {
	token := t.token(a.Code())
	known := ""
	if t.subject.leavesToHostLocal(a.Point.Program) && areReservations(a.left) {
		known = hostLocalForgets
	}
	t.knownDeviation([]report.Evidence{a.story(verb, token)},
		token.named(fmt.Sprintf(format, args...)), known)
}
