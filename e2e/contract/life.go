package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// lifecycle records an attachment from ADD to DEL on a node without pods, at one version, and further ones after it.
// Most requirements can be judged from it.
type lifecycle struct {
	uplink string
	firstAttachment
	// dels are the first DEL and its repetition.
	dels [2]cni.Call
	// residue is what the first pod left after its DEL: leftovers, and state that a node keeps after its first pod.
	residue []snapshot.Change
	// left is what a second pod left in addition.
	left []snapshot.Change
	incomplete
	err error
	// record says how the machine was disturbed meanwhile.
	record *disturbance.Record
}

// firstAttachment is the ADD of the first pod of a node.
type firstAttachment struct {
	pod *pod
	add cni.Call
	// made lists the changes by ADD; the pod's namespace has the scope "first".
	made []snapshot.Change
	// attached is the state after ADD.
	attached snapshot.State
	// was lists the node's links before ADD, node and inPod those of node and pod after it.
	was, node, inPod []agent.Link
	// check is the CHECK right after ADD; nil before 0.4.0.
	check *cni.Call
}

// incomplete has calls that lack something that a runtime passes.
type incomplete struct {
	delWithoutAdd, delWithoutPrevResult aftermath
	// checkWithoutPrevResult is nil before 0.4.0. misled are the calls with a wrong prevResult.
	checkWithoutPrevResult *cni.Call
	misled                 []misledCall
}

// aftermath is a call and what it left behind.
type aftermath struct {
	call cni.Call
	left []snapshot.Change
}

// settling is how long the state after ADD is watched: udev gives links their final MAC within it (failure mode A08).
const settling = 2 * time.Second

// lifecycle returns the record of a version; it is made once.
func (t *trial) lifecycle(ctx context.Context) (*lifecycle, error) {
	s := t.subject
	s.mu.Lock()
	known := s.lives[t.version]
	s.mu.Unlock()
	if known != nil {
		disturbance.Of(ctx).Include(known.record)
		return known, known.err
	}
	made, _, _ := s.once.Do("life "+t.version, func() (any, error) {
		l := &lifecycle{}
		var own context.Context
		own, l.record = disturbance.Begin(ctx)
		l.err = t.live(own, l)
		l.record.End()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lives[t.version] = l
		return l, nil
	})
	l := made.(*lifecycle)
	disturbance.Of(ctx).Include(l.record)
	return l, l.err
}

func (t *trial) live(ctx context.Context, l *lifecycle) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { l.record.Ask(context.WithoutCancel(ctx), b.cluster) }()
	l.uplink = b.node.Uplink
	start, err := b.state(ctx)
	if err != nil {
		return err
	}
	if l.pod, err = b.pod(ctx, "first"); err != nil {
		return err
	}
	before, err := b.wholeState(ctx, l.pod)
	if err != nil {
		return err
	}
	if l.was, err = b.node.Agent.Links(ctx, ""); err != nil {
		return err
	}
	if l.add, err = b.add(ctx, l.pod); err != nil {
		return err
	}
	if l.attached, err = b.wholeState(ctx, l.pod); err != nil {
		return err
	}
	l.made = ownChanges(snapshot.Diff(before, l.attached))
	if l.node, err = b.node.Agent.Links(ctx, ""); err != nil {
		return err
	}
	if l.inPod, err = b.node.Agent.Links(ctx, l.pod.netns); err != nil {
		return err
	}
	if atLeast(t.version, "0.4.0") {
		call, err := b.must(ctx, cni.Check, l.pod)
		if err != nil {
			return err
		}
		l.check = &call
	}
	for i := range l.dels {
		if l.dels[i], err = b.must(ctx, cni.Del, l.pod); err != nil {
			return err
		}
	}
	if err := b.end(ctx, l.pod); err != nil {
		return err
	}
	if l.residue, err = b.leftAfter(ctx, start, nil); err != nil {
		return err
	}
	return l.second(ctx, b, start)
}

// second records further attachments, on a node that had a pod before.
func (l *lifecycle) second(ctx context.Context, b *bench, start snapshot.State) error {
	p, err := b.attach(ctx, "second")
	if err != nil {
		return err
	}
	if atLeast(b.version, "0.4.0") {
		if err := l.mislead(ctx, b, p); err != nil {
			return err
		}
	}
	if _, err := b.must(ctx, cni.Del, p); err != nil {
		return err
	}
	if err := b.end(ctx, p); err != nil {
		return err
	}
	if l.left, err = b.leftAfter(ctx, start, l.residue); err != nil {
		return err
	}
	now, err := b.state(ctx)
	if err != nil {
		return err
	}
	never := &pod{name: "never", id: "cnitest-never", ifName: "eth0", netns: agent.NamespacePath("never")}
	if l.delWithoutAdd.call, err = b.must(ctx, cni.Del, never); err != nil {
		return err
	}
	if l.delWithoutAdd.left, err = b.leftAfter(ctx, now, l.residue); err != nil {
		return err
	}
	third, err := b.pod(ctx, "third")
	if err != nil {
		return err
	}
	if now, err = b.state(ctx, third); err != nil {
		return err
	}
	if _, err := b.add(ctx, third); err != nil {
		return err
	}
	if l.delWithoutPrevResult.call, err = b.must(ctx, cni.Del, third, withoutPrevResult); err != nil {
		return err
	}
	l.delWithoutPrevResult.left, err = b.leftAfter(ctx, now, l.residue, third)
	return err
}

func withoutPrevResult(inv *invocation) { delete(inv.config, "prevResult") }

// mislead calls CHECK without prevResult, and with a wrong one.
func (l *lifecycle) mislead(ctx context.Context, b *bench, p *pod) error {
	unsaid, err := b.call(ctx, cni.Check, p, withoutPrevResult)
	if err != nil {
		return err
	}
	l.checkWithoutPrevResult = &unsaid
	wrong, err := b.misleading(p)
	if err != nil {
		return err
	}
	for _, what := range slices.Sorted(maps.Keys(wrong)) {
		text, err := encode(wrong[what], b.version)
		if err != nil {
			return err
		}
		call, err := b.call(ctx, cni.Check, p, func(inv *invocation) { inv.config["prevResult"] = text })
		if err != nil {
			return err
		}
		l.misled = append(l.misled, misledCall{what, call})
	}
	return nil
}

// attachBefore attaches the plugins before the subject in the namespace of a pod.
func (b *bench) attachBefore(ctx context.Context, p *pod) error {
	if b.subject.Role == IPAM {
		return b.makeLink(ctx, p)
	}
	for i := range b.subject.index {
		call, err := b.exec(ctx, b.invocation(cni.Add, p, i, p.before))
		if err != nil {
			return err
		}
		if call.ExitCode != 0 || !json.Valid([]byte(call.Stdout)) {
			return fmt.Errorf("%s, which stands before %s: ADD at CNI %s: %s", b.subject.file.Plugins[i].Type,
				b.subject.Type, b.version, summary(call))
		}
		p.before = json.RawMessage(call.Stdout)
		p.results = append(p.results, p.before)
	}
	return nil
}

// end deletes what the plugins before the subject attached, and the namespace of the pod.
func (b *bench) end(ctx context.Context, p *pod) error {
	return errors.Join(b.release(ctx, p), b.node.Agent.RemoveNamespace(ctx, p.name))
}

// restless is how long a node may keep changing before it is compared nevertheless; on a busy machine the comparisons
// themselves take time.
const restless = 20 * time.Second

// patience is how long the kernel may take to remove the contents of a namespace, on a busy machine.
const patience = 6 * time.Second

// leftAfter returns the changes against the start, without earlier changes, once the state is stable.
func (b *bench) leftAfter(ctx context.Context, start snapshot.State, earlier []snapshot.Change,
	pods ...*pod,
) ([]snapshot.Change, error) {
	ctx, cancel := machinetime.WithTimeout(ctx, restless)
	defer cancel()
	take := func(ctx context.Context) (snapshot.State, error) { return b.state(ctx, pods...) }
	return snapshot.Settle(ctx, take, start, func(changes []snapshot.Change) []snapshot.Change {
		return snapshot.Beyond(ownChanges(changes), earlier)
	})
}

// leftInTheEnd returns the changes that matter after a namespace was removed: it compares again until none of them is
// left, or patience is over.
func (b *bench) leftInTheEnd(ctx context.Context, start snapshot.State, earlier []snapshot.Change,
	matters func(snapshot.Change) bool,
) ([]snapshot.Change, error) {
	for interval := machinetime.Start(); ; {
		left, err := b.leftAfter(ctx, start, earlier)
		left = slices.DeleteFunc(left, func(c snapshot.Change) bool { return !matters(c) })
		if err != nil || len(left) == 0 || interval.Given() > patience {
			return left, err
		}
	}
}

// leftOfFailure returns what a failed ADD left of an attachment, without what the first attachment of a node leaves
// permanently.
func (b *bench) leftOfFailure(ctx context.Context, before snapshot.State, p *pod) ([]snapshot.Change, error) {
	var residue []snapshot.Change
	// If a plain ADD fails, there is no residue to compare with.
	if l, err := b.lifecycle(ctx); err == nil {
		residue = l.residue
	}
	left, err := b.leftAfter(ctx, before, residue, p)
	return slices.DeleteFunc(left, func(c snapshot.Change) bool {
		return strings.HasPrefix(c.Item.Name, stub.Dir)
	}), err
}

// ownChanges leaves out the namespaces of the pods themselves, which the suite made.
func ownChanges(changes []snapshot.Change) []snapshot.Change {
	var own []snapshot.Change
	for _, c := range changes {
		if c.Item.Kind == snapshot.Namespace || c.Item.Kind == snapshot.Mount &&
			strings.HasPrefix(c.Item.Name, agent.NamespaceDir) {
			continue
		}
		if c.Item.Kind == snapshot.File && strings.HasPrefix(c.Item.Name, agent.NamespaceDir) {
			continue
		}
		own = append(own, c)
	}
	return own
}

// isDir reports whether a file is a directory.
func isDir(i snapshot.Item) bool { return i.Kind == snapshot.File && strings.HasPrefix(i.Text, "d") }

// lines lists changes for people, one per line.
func lines(changes []snapshot.Change) string {
	var text []string
	for _, c := range changes {
		text = append(text, c.String())
	}
	return strings.Join(text, "\n")
}

// first returns the first of several changes, and the number of the others.
func first(changes []snapshot.Change) string {
	if len(changes) == 0 {
		return "nothing"
	}
	if len(changes) == 1 {
		return changes[0].String()
	}
	return fmt.Sprintf("%s, and %d more", changes[0], len(changes)-1)
}
