package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// answersTried is the number of faults of each worth that a run tries for each verb, unless it is deep.
const answersTried = 2

// sharedLane is a lane with another pod, which is attached all the time.
func (t *trial) sharedLane(ctx context.Context) (*lane, error) {
	l, err := t.lane(ctx)
	if err != nil {
		return nil, err
	}
	if l.beside, err = l.attach(ctx, "beside"); err != nil {
		return nil, err
	}
	// Beside another pod it may get another device, which not every plugin gives back as it was.
	if _, err := l.add(ctx, l.pod); err != nil {
		return nil, err
	}
	if call, err := l.call(ctx, cni.Del, l.pod); err != nil || call.ExitCode != 0 {
		return nil, errors.Join(err, fmt.Errorf("DEL without a fault: %s", summary(call)))
	}
	return l, l.takeClean(ctx)
}

// looked makes a call under a tracer that sees calls which only look.
func (l *lane) looked(ctx context.Context, verb cni.Verb, injection *fault.Injection) (fault.Trace, error) {
	args, err := l.arguments(l.lookedAt(verb))
	if err != nil {
		return fault.Trace{}, err
	}
	return l.node.Agent.Trace(ctx, agent.FaultArgs{PluginArgs: args, Injection: injection, Reads: true})
}

// lookedAt returns the call of a verb beside the other pod.
func (l *lane) lookedAt(verb cni.Verb) *invocation {
	switch verb {
	case cni.GC:
		return l.subjectInvocation(verb, nil, keeping(l.beside))
	case cni.Status:
		return l.subjectInvocation(verb, nil)
	}
	return l.subjectInvocation(verb, l.pod)
}

// undisturbed is a verb without a bad answer.
type undisturbed struct {
	lane *lane
	// points are those of the verb, dirs the directories in which ADD makes files.
	points []fault.Point
	dirs   []string
	// whole has the changes of ADD.
	whole []snapshot.Change
}

// undisturbed makes a call without a fault on a lane of its own, and clears up.
func (t *trial) undisturbed(ctx context.Context, verb cni.Verb) (*undisturbed, error) {
	l, err := t.sharedLane(ctx)
	if err != nil {
		return nil, err
	}
	first, err := l.looked(ctx, cni.Add, nil)
	if err != nil {
		return nil, err
	}
	if first.Call.ExitCode != 0 {
		return nil, &addError{first.Call}
	}
	l.pod.result = json.RawMessage(first.Call.Stdout)
	now, err := l.state(ctx, l.pods()...)
	if err != nil {
		return nil, err
	}
	whole := l.news(snapshot.Diff(l.clean, now))
	observed := first
	if verb != cni.Add {
		if observed, err = l.looked(ctx, verb, nil); err != nil {
			return nil, err
		}
		if observed.Call.ExitCode != 0 {
			return nil, fmt.Errorf("%s without a fault: %s", verb, summary(observed.Call))
		}
	}
	if verb != cni.Del {
		call, err := l.call(ctx, cni.Del, l.pod)
		if err != nil || call.ExitCode != 0 && verb != cni.GC {
			return nil, errors.Join(err, fmt.Errorf("DEL without a fault: %s", summary(call)))
		}
	}
	return &undisturbed{l, observed.Points, directories(first.Points), whole}, nil
}

// read gives bad answers to the looks of a verb.
func (t *trial) read(ctx context.Context, verb cni.Verb) error {
	pilot, err := t.undisturbed(ctx, verb)
	if err != nil {
		return err
	}
	explored := &t.subject.lab.Exploration
	all := t.subject.badAnswers(pilot.points, pilot.dirs, explored.Deep || explored.Replay != nil)
	if len(all) == 0 {
		return notApplicable("%s looks at nothing", verb)
	}
	chosen, err := choose(explored, all, fault.Injection.Code, func() []fault.Injection {
		return someOf(all, answersTried, explored.Seed)
	})
	if err != nil {
		return err
	}
	lanes := 1 // to make another one takes longer than to try some more
	if explored.Deep {
		lanes = 2
	}
	count := t.newTally("bad answers", len(chosen))
	tried, err := t.tryAll(ctx, chosen, pilot.lane, t.subject.lab.limit(min(lanes, len(chosen))), sweeper{
		lane: t.sharedLane,
		try: func(ctx context.Context, l *lane, injection fault.Injection) (*attempt, error) {
			a, err := l.tryHard(func() (*attempt, error) { return l.misread(ctx, verb, injection, pilot.whole) })
			count.tells(t, err == nil && a.wrongAfter(verb) != "")
			return a, err
		},
	})
	if err != nil {
		return err
	}
	t.judgeReads(verb, tried)
	if explored.Replay == nil {
		looks := slices.DeleteFunc(pilot.points, func(p fault.Point) bool { return p.Look == "" })
		t.note("%d looks, %d of %d bad answers tried, %d of them at a call that was not made again, seed %d",
			len(looks),
			len(tried), len(all), missed(tried), explored.Seed)
	}
	return nil
}

// missed returns the number of attempts in which the plugin did not come to the call.
func missed(tried []*attempt) (n int) {
	for _, a := range tried {
		if a.trace.Hit == nil || a.trace.Diverged {
			n++
		}
	}
	return n
}

// directories returns the directories in which points make files.
func directories(points []fault.Point) (dirs []string) {
	for _, p := range points {
		for _, word := range strings.Fields(p.What) {
			verb, _, _ := strings.Cut(p.What, " ")
			if !slices.Contains([]string{"create", "write", "rename", "link"}, verb) || !filepath.IsAbs(word) {
				continue
			}
			if dir := filepath.Dir(word); !strings.HasPrefix(dir, "/proc/") && !strings.HasPrefix(dir, "/sys/") {
				dirs = append(dirs, dir)
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// misread lets a verb get one bad answer, and clears up.
func (l *lane) misread(ctx context.Context, verb cni.Verb, injection fault.Injection,
	whole []snapshot.Change,
) (*attempt, error) {
	l.pod.result = nil
	if verb != cni.Add {
		if _, err := l.add(ctx, l.pod); err != nil {
			return nil, err
		}
	}
	before, err := l.state(ctx, l.pods()...)
	if err != nil {
		return nil, err
	}
	a := &attempt{Injection: injection}
	if a.trace, err = l.looked(ctx, verb, &injection); err != nil {
		return nil, err
	}
	if a.trace.Call.ExitCode != 0 {
		return a, l.after(ctx, verb, a)
	}
	now, err := l.state(ctx, l.pods()...)
	if err != nil {
		return nil, err
	}
	has := l.news(snapshot.Diff(l.clean, now))
	switch verb {
	case cni.Add:
		if json.Valid([]byte(a.trace.Call.Stdout)) {
			l.pod.result = json.RawMessage(a.trace.Call.Stdout)
		}
		a.missing = lacking(l.certain(whole), l.certain(has))
		a.wrongs = append(damage(l.certain(whole), l.certain(has)), l.sharedAddresses()...)
	case cni.Check, cni.Status:
		for _, c := range l.news(snapshot.Diff(before, now)) {
			if !isLog(c.Item) {
				a.wrongs = append(a.wrongs, "changes something: "+c.String())
			}
		}
	case cni.Del, cni.GC:
		settling, cancel := machinetime.WithTimeout(ctx, restless)
		defer cancel()
		left, err := l.settle(settling)
		if err != nil {
			return nil, err
		}
		a.missing = slices.DeleteFunc(left, func(c snapshot.Change) bool {
			// The pod of an attachment that is no longer valid is gone.
			return c.Item.Scope == l.pod.name && (verb == cni.GC || lost(injection))
		})
	}
	return a, l.after(ctx, verb, a)
}

// sharedAddresses says which addresses both pods have.
func (l *lane) sharedAddresses() (list []string) {
	for _, addr := range addresses(l.pod) {
		if slices.Contains(addresses(l.beside), addr) && !l.subject.file.OneAddress() {
			list = append(list, fmt.Sprintf("gives the pod the address %s of another one", addr))
		}
	}
	return list
}

// damage says what is gone that an undisturbed ADD leaves alone.
func damage(whole, has []snapshot.Change) (list []string) {
	gone := func(changes []snapshot.Change) []snapshot.Change {
		return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool { return c.Op == snapshot.Added })
	}
	for _, c := range lacking(gone(has), gone(whole)) {
		list = append(list, "damages something: "+c.String())
	}
	return list
}

// after does what a runtime does after the call, and compares what is left.
func (l *lane) after(ctx context.Context, verb cni.Verb, a *attempt) error {
	failed := a.trace.Call.ExitCode != 0
	if failed && verb == cni.GC {
		call, err := l.call(ctx, cni.GC, nil, keeping(l.beside))
		if err != nil {
			return err
		}
		a.later = append(a.later, call)
	}
	call, err := l.call(ctx, cni.Del, l.pod)
	if err != nil {
		return err
	}
	if failed || verb != cni.Del && verb != cni.GC {
		a.later = append(a.later, call) // DEL-4 is about a DEL of what is deleted
	}
	settling, cancel := machinetime.WithTimeout(ctx, restless)
	defer cancel()
	a.left, err = l.settle(settling)
	l.dirty = len(a.left) > 0
	a.left = slices.DeleteFunc(a.left, func(c snapshot.Change) bool {
		return c.Item.Scope == l.pod.name && lost(a.Injection)
	})
	return err
}

// lost reports whether the plugin could not read a record. What it has made in the pod goes with the pod: if DEL failed
// for that, nobody could ever delete the pod.
func lost(i fault.Injection) bool { return i.When == fault.Torn || i.When == fault.Empty }

// judgeReads reports what is wrong with the outcomes of bad answers. What an IPAM plugin did that is not under test is
// only noted.
func (t *trial) judgeReads(verb cni.Verb, tried []*attempt) {
	var noted []string
	for _, a := range tried {
		text := a.wrongAfter(verb)
		switch {
		case text == "":
		case t.subject.delegates(a.Point):
			noted = append(noted, text)
		default:
			t.fault(a, verb, "%s", text)
		}
	}
	if len(noted) > 0 {
		t.note("of %s, which is not under test: %s (%d such)", t.subject.ipam, noted[0], len(noted))
	}
}

// wrongAfter says what is wrong with the outcome of a bad answer; empty if nothing is.
func (a *attempt) wrongAfter(verb cni.Verb) string {
	call, but := a.trace.Call, fmt.Sprintf("%s succeeds although %s, and ", verb, a.Injection)
	answer, hasError := failure(call)
	i := slices.IndexFunc(a.later, func(c cni.Call) bool { return c.ExitCode != 0 })
	switch {
	case a.trace.Hung:
		return fmt.Sprintf("%s, %s, hangs", verb, a.Injection)
	case a.trace.Hit == nil || !a.trace.Told || a.trace.Diverged:
		return "" // it did not get the answer, or at another call, to which it may not fit
	case call.ExitCode != 0 && (!hasError || answer.Msg == ""):
		return fmt.Sprintf("%s, %s: want an error object, got %s", verb, a.Injection, summary(call))
	case call.ExitCode != 0 && again(a.Injection):
		return fmt.Sprintf("%s, %s: want that it tries again, got %s", verb, a.Injection, summary(call))
	case len(a.missing) > 0 && verb == cni.Add:
		return but + "lacks " + first(a.missing)
	case len(a.missing) > 0:
		return but + "leaves " + first(a.missing)
	case len(a.wrongs) > 0:
		return but + a.wrongs[0]
	case i >= 0:
		return fmt.Sprintf("%s after %s, %s: want success, got %s", a.later[i].Verb, verb, a.Injection,
			summary(a.later[i]))
	case len(a.left) > 0:
		return fmt.Sprintf("DEL after %s, %s, leaves %s", verb, a.Injection, first(a.left))
	}
	return ""
}
