package contract

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// sequencing returns the requirements about short sequences of verbs.
func sequencing() []Requirement {
	const (
		why = "Of 26 crashes of file systems that took years to find, 24 needed no more than three operations on an " +
			"empty disk (CrashMonkey). Plugins are tested with ADD and DEL, and meet on a node a reboot between " +
			"them, a runtime that lost its cache or was updated, and a configuration that somebody changed."
		how = "Two pods of the network on one node, and each sequence of at most three of: ADD, DEL and CHECK of a " +
			"pod, ADD once more, GC that keeps what is attached, STATUS, a reboot; and DEL at an older cniVersion, " +
			"without prevResult, with that of a longer chain, and after the flags and numbers of the plugin's " +
			"configuration were changed. A model says what must hold: every call succeeds but a second ADD, node and " +
			"pods have what ADD makes for each pod that is attached and nothing else, both pods have an address of " +
			"their own, and DEL of all (or GC after a reboot) leaves nothing. "
	)
	list := []Requirement{{
		ID:   "SEQ-VERBS",
		Text: "After any few verbs, a reboot among them, everything is attached that should be, and nothing else.",
		Why:  why, How: how + "A plain run tries some by --seed, --deep all.",
	}, {
		ID: "SEQ-FAULT",
		Text: "After any few verbs of which the last one fails or is killed, the other pod is as before, and DEL " +
			"clears up.",
		Why: why,
		How: how + "The last call (ADD, DEL or GC) is killed, or a call by which it changes something fails; then it " +
			"is made again, or DEL if it was ADD. A plain run tries some by --seed, --deep three faults in each.",
	}}
	for i := range list {
		list[i].Level, list[i].Section, list[i].Roles, list[i].Cases = Should, "failure mode", inChain(), Sequences
		faulty := list[i].ID == "SEQ-FAULT"
		list[i].check = func(ctx context.Context, t *trial) error { return t.sequences(ctx, faulty) }
	}
	return list
}

// sequencesTried is the number of sequences that a run tries, unless it is deep; faultsEach is the number of faults in
// each of a deep one.
const (
	sequencesTried = 8
	faultsEach     = 3
)

// steps returns the steps that a subject knows at a version.
func (b *bench) steps() []step {
	list := []step{
		{verb: cni.Add},
		{verb: cni.Add, pod: 1},
		{verb: cni.Del},
		{verb: cni.Del, pod: 1},
		{verb: cni.Del, how: withoutResult},
	}
	if cni.Check.In(b.version) {
		list = append(list, step{verb: cni.Check}, step{verb: cni.Del, how: resultOfChain})
	}
	if cni.GC.In(b.version) {
		list = append(list, step{verb: cni.GC}, step{verb: cni.Status})
	}
	if b.olderVersion() != "" {
		list = append(list, step{verb: cni.Del, how: olderVersion})
	}
	if len(b.changeable()) > 0 {
		list = append(list, step{verb: cni.Del, how: changedSetting})
	}
	if !cluster.IsExclusive(b.subject.lab.Backend) {
		list = append(list, step{verb: reboot})
	}
	return list
}

// olderVersion returns the version before the one of the bench at which DEL gets prevResult; empty if there is none.
func (b *bench) olderVersion() (older string) {
	for _, v := range b.subject.versions {
		if atLeast(v, "0.4.0") && v != b.version {
			older = v
		}
	}
	return older
}

// changeable returns the flags and numbers of the subject's configuration.
func (b *bench) changeable() (keys []string) {
	config := b.subjectInvocation(cni.Del, nil).config
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if otherSetting(config[key]) != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// otherSetting returns another value for a flag or a whole number; nil for other values.
func otherSetting(value any) any {
	switch v := value.(type) {
	case bool:
		return !v
	case float64:
		return v - 1
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n - 1
		}
	}
	return nil
}

// vary returns the edit of a call for a variant.
func (b *bench) vary(how variant) func(*invocation) {
	return func(inv *invocation) {
		previous, _ := inv.config["prevResult"].(json.RawMessage)
		switch how {
		case withoutResult:
			withoutPrevResult(inv)
		case olderVersion:
			inv.config["cniVersion"] = b.olderVersion()
			result, err := create.CreateFromBytes(previous)
			if err != nil {
				return
			}
			if result, err = result.GetAsVersion(b.olderVersion()); err == nil {
				inv.config["prevResult"], _ = json.Marshal(result)
				inv.config["prevResult"] = json.RawMessage(inv.config["prevResult"].([]byte))
			}
		case resultOfChain:
			var result map[string]any
			if json.Unmarshal(previous, &result) != nil {
				return
			}
			interfaces, _ := result["interfaces"].([]any)
			result["interfaces"] = append(interfaces, map[string]any{
				"name": "cnitest-later", "mac": "02:00:00:00:00:01", "sandbox": inv.env["CNI_NETNS"],
			})
			inv.config["prevResult"] = result
		case changedSetting:
			for _, key := range b.changeable() {
				inv.config[key] = otherSetting(inv.config[key])
			}
		}
	}
}

// story is a sequence with a fault in its last step; without Point there is none.
type story struct {
	sequence
	fault fault.Injection
}

// code names the story in a token.
func (s story) code() string {
	if s.fault.When == "" {
		return s.sequence.code()
	}
	return s.sequence.code() + ":" + s.fault.Code()
}

// String returns the story for people.
func (s *story) String() string {
	if s.fault.When == "" {
		return s.sequence.String()
	}
	return fmt.Sprintf("%s, %s", s.sequence, s.fault)
}

// everyStory returns all sequences, with all faults or without.
func (l *sequenceLane) everyStory(faulty bool) (all []story) {
	for _, q := range sequences(l.steps()) {
		if !faulty {
			all = append(all, story{sequence: q})
			continue
		}
		for _, f := range l.points[q[len(q)-1].verb] {
			all = append(all, story{q, f})
		}
	}
	return all
}

// stories returns what is tried: sequences, with faults or without.
func (l *sequenceLane) stories(faulty bool, explored *Exploration) (chosen []story, all int) {
	r := rand.New(rand.NewPCG(explored.Seed, 1))
	list := sequences(l.steps())
	if faulty {
		list = slices.DeleteFunc(list, func(q sequence) bool { return len(l.points[q[len(q)-1].verb]) == 0 })
	}
	all = len(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	each := 1
	switch {
	case !explored.Deep:
		list = varied(list, faulty)
	case faulty:
		each = faultsEach
	}
	for _, q := range list {
		for range each {
			s := story{sequence: q}
			if faulty {
				faults := l.points[q[len(q)-1].verb]
				s.fault = faults[r.IntN(len(faults))]
			}
			chosen = append(chosen, s)
		}
	}
	// The shortest say most. What reboots comes last: each needs another lane.
	slices.SortStableFunc(chosen, func(a, b story) int {
		return cmp.Or(a.reboots()-b.reboots(), len(a.sequence)-len(b.sequence))
	})
	return chosen, all
}

// varied returns the first sequences for each last step, then others. Few of them reboot, which takes time, and with
// faults none.
func varied(list []sequence, faulty bool) []sequence {
	var chosen, rest []sequence
	most := 1
	if faulty {
		most = 0
	}
	for _, q := range list {
		reboots := q.reboots()
		if reboots > most {
			continue
		}
		most -= reboots
		if slices.ContainsFunc(chosen, func(o sequence) bool { return o[len(o)-1] == q[len(q)-1] }) {
			rest = append(rest, q)
		} else {
			chosen = append(chosen, q)
		}
	}
	chosen = append(chosen, rest...)
	return chosen[:min(len(chosen), sequencesTried)]
}

// reboots returns the number of reboots.
func (q sequence) reboots() (n int) {
	for _, s := range q {
		if s.verb == reboot {
			n++
		}
	}
	return n
}

// sequences tries sequences.
func (t *trial) sequences(ctx context.Context, faulty bool) error {
	l, err := t.sequenceLane(ctx)
	if err != nil {
		return err
	}
	if faulty {
		if err := l.observe(ctx); err != nil {
			return err
		}
	}
	explored := &t.subject.lab.Exploration
	chosen, all := l.stories(faulty, explored)
	if len(chosen) == 0 {
		return notApplicable("no verb changes anything")
	}
	if explored.Replay != nil {
		if chosen, err = pick(explored.Replay, l.everyStory(faulty), story.code); err != nil {
			return err
		}
	}
	count := t.newTally("sequences", len(chosen))
	for _, s := range chosen {
		if l == nil {
			if l, err = t.sequenceLane(ctx); err != nil {
				return err
			}
		}
		e, err := l.play(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", &s, err)
		}
		if len(e.wrongs) > 0 {
			l.tell(&s, e)
		}
		count.tells(t, len(e.wrongs) > 0)
		if count.failed == evidenceShown {
			break
		}
		if e.promise.rebooted || e.dirty || len(e.wrongs) > 0 {
			_ = l.cluster.Close()
			l = nil
		}
	}
	if explored.Replay == nil {
		t.note("%d sequences, %d tried, seed %d", all, len(chosen), explored.Seed)
	}
	return nil
}
