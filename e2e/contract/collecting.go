package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// collecting returns the requirements about GC. Its checks make attachments that are in no cache: libcni calls DEL for
// those in its cache, and so the checks would test DEL.
func collecting() []Requirement {
	list := []Requirement{
		{
			ID: "GC-1", Level: Should, Section: "2, GC", Roles: everyPlugin(), Covers: []string{"G08", "G09", "D05"},
			Text: "GC deletes what belongs to no valid attachment, and nothing else.",
			Why: "After a crash of the runtime nobody else deletes it; and a GC that frees a live pod's address lets " +
				"the next pod get it.",
			How: "Attaches three pods, and calls GC with one of them in cni.dev/valid-attachments, which alone " +
				"counts; the namespace of another is gone. The node looks as if " +
				"only the valid one had been attached, its CHECK passes; again the same. Attaches its pod a second " +
				"time: GC with the first attachment deletes the second alone. A plugin that refuses a second " +
				"interface is exempt from this. With an empty list nothing is left.",
			check: checkCollects,
		},
		{
			ID: "GC-2", Level: Should, Section: "2, GC", Roles: everyPlugin(),
			Text: "GC goes on after an error, and reports it at the end.",
			Why:  "One file that cannot be removed would otherwise keep everything else.",
			How: "One of two stale attachments has a file that cannot be removed (a mount point): GC fails, and " +
				"the other is gone.",
			check: checkCollectsOn,
		},
		{
			ID: "GC-3", Level: Must, Section: "2, GC; 4", Roles: []Role{Main},
			Text: "GC is forwarded to the plugins that are delegated to.",
			Why:  "They hold the addresses.",
			How: "A stub in the place of the IPAM plugin records the call, with the valid attachments, and fails " +
				"the next.",
			check: checkDelegateGC,
		},
		{
			ID: "GC-4", Level: Stated, Section: "2, GC", Roles: everyPlugin(),
			Text:  "GC prints nothing on success.",
			Why:   "A runtime that reads an answer takes it for an error.",
			How:   "Examines every GC of the other checks.",
			audit: auditSilent,
		},
	}
	list = append(list, Requirement{
		ID: "GC-6", Level: Should, Section: "2, GC", Roles: everyPlugin(), Covers: []string{"G08"},
		Text: "GC of one network does not affect attachments of other networks.",
		Why: "A node has several networks, and GC is called for one at a time: the valid attachments of the others " +
			"are not in its list. The sentence was agreed on for 1.1.0 " +
			"(containernetworking/cni#1098), and lost when the text was merged.",
		How: "Attaches a pod to each of two networks of the same plugins; GC of the one, with its pod and with an " +
			"empty list: what the other's pod has is there, and its CHECK passes.",
		check: checkCollectsOwn,
	})
	for i := range list {
		list[i].Since = "1.1.0"
	}
	return list
}

func auditSilent(t *trial, c observedCall) {
	if c.Verb != cni.GC || c.ExitCode != 0 {
		return
	}
	t.seen = true
	if strings.TrimSpace(c.Stdout) != "" {
		t.wrong([]cni.Call{c.Call}, "GC succeeds and prints %q", strings.TrimSpace(c.Stdout))
	}
}

// planted contains attachments on a node, and what each of them added to it.
type planted struct {
	*bench
	pods []*pod
	made [][]snapshot.Change
}

// plant attaches pods one after the other.
func (b *bench) plant(ctx context.Context, names ...string) (*planted, error) {
	g := &planted{bench: b}
	for _, name := range names {
		p, err := b.pod(ctx, name)
		if err == nil {
			err = g.attach(ctx, p)
		}
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *planted) attach(ctx context.Context, p *pod) error {
	before, err := g.state(ctx)
	if err != nil {
		return err
	}
	if _, err := g.add(ctx, p); err != nil {
		return err
	}
	after, err := g.state(ctx)
	if err != nil {
		return err
	}
	g.pods, g.made = append(g.pods, p), append(g.made, ownChanges(snapshot.Diff(before, after)))
	return nil
}

// remaining returns what an attachment added to the node and is still there.
func (g *planted) remaining(ctx context.Context, i int) ([]snapshot.Change, error) {
	now, err := g.state(ctx)
	if err != nil {
		return nil, err
	}
	var left []snapshot.Change
	for _, c := range added(g.made[i]) {
		if slices.ContainsFunc(now.Items, func(i snapshot.Item) bool { return snapshot.Same(i, c.Item) }) {
			left = append(left, c)
		}
	}
	return left, nil
}

// lasting returns what remains when nothing disappears any more: the kernel needs time to remove a namespace.
func (g *planted) lasting(ctx context.Context, i int) ([]snapshot.Change, error) {
	left, err := g.remaining(ctx, i)
	for err == nil {
		if err = timing.Sleep(ctx, snapshot.Quiet); err != nil {
			break
		}
		was := len(left)
		if left, err = g.remaining(ctx, i); len(left) == was {
			break
		}
	}
	return left, err
}

// durable returns the changes that do not disappear with a link.
func durable(changes []snapshot.Change) []snapshot.Change {
	withLinks := snapshot.KindsThat(func(k snapshot.Kind) bool { return k.WithLink })
	return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool {
		return slices.Contains(withLinks, c.Item.Kind)
	})
}

// added returns the items that an attachment added.
func added(changes []snapshot.Change) []snapshot.Change {
	var list []snapshot.Change
	for _, c := range changes {
		if c.Op == snapshot.Added {
			list = append(list, c)
		}
	}
	return list
}

func checkCollects(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	g, err := b.plant(ctx, "live", "stale", "gone")
	if err != nil {
		return err
	}
	live, gone := g.pods[0], g.pods[2]
	if len(added(g.made[1])) == 0 {
		return notApplicable("an attachment adds nothing to a node that has one already")
	}
	if err := b.node.Agent.RemoveNamespace(ctx, gone.name); err != nil {
		return err
	}
	// A link between pod and node disappears with the namespace of the pod, and its addresses and routes with the link.
	withNamespace, err := g.lasting(ctx, 2)
	if err != nil {
		return err
	}
	whole, err := g.remaining(ctx, 0)
	if err != nil {
		return err
	}
	for round, what := range []string{"GC", "GC again"} {
		call, err := b.must(ctx, cni.GC, nil, keeping(live))
		if err != nil {
			return err
		}
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "%s: want success, got %s", what, summary(call))
			return nil
		}
		vacuous, err := g.judge(ctx, call, what, whole, len(durable(withNamespace)))
		switch {
		case err != nil:
			return err
		case vacuous && round == 0:
			return vacuousError("GC succeeds and deletes nothing of two stale attachments")
		}
		if call, err = b.must(ctx, cni.Check, live); err != nil {
			return err
		}
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "CHECK of the valid attachment after %s: %s", what, summary(call))
		}
	}
	if err := g.collectSecond(ctx, live); err != nil {
		return err
	}
	return g.collectAll(ctx, gone)
}

// collectSecond attaches a pod a second time and calls GC with its first attachment alone: the container of a stale
// attachment may be that of a valid one.
func (g *planted) collectSecond(ctx context.Context, valid *pod) error {
	const what = "GC with one of two attachments of a pod"
	call, err := g.endSecond(ctx, what, "what belongs to it", func() (cni.Call, error) {
		return g.must(ctx, cni.GC, nil, keeping(valid))
	})
	if call == nil || err != nil {
		return err
	}
	left, err := g.remaining(ctx, len(g.pods)-1)
	if err != nil {
		return err
	}
	l, err := g.lifecycle(ctx)
	if err != nil {
		return err
	}
	if left = snapshot.Beyond(left, l.residue); len(left) > 0 {
		g.wrong([]cni.Call{*call}, "%s leaves of the other: %s", what, first(left))
	}
	return nil
}

// collectAll calls GC with an empty list and checks that nothing of the planted attachments is left, except of the one
// whose namespace is gone.
func (g *planted) collectAll(ctx context.Context, gone *pod) error {
	call, err := g.must(ctx, cni.GC, nil, keeping())
	if err != nil {
		return err
	}
	if call.ExitCode != 0 {
		g.wrong([]cni.Call{call}, "GC with an empty list: want success, got %s", summary(call))
		return nil
	}
	for i, p := range g.pods {
		left, err := g.remaining(ctx, i)
		if err != nil {
			return err
		}
		l, err := g.lifecycle(ctx)
		if err != nil {
			return err
		}
		if left = snapshot.Beyond(left, l.residue); len(left) > 0 && p != gone {
			g.wrong([]cni.Call{call}, "GC with an empty list leaves of %s: %s", p.name, first(left))
		}
	}
	return nil
}

// judge checks that the stale attachments are gone and the valid one is complete. It reports whether nothing at all was
// deleted.
func (g *planted) judge(ctx context.Context, call cni.Call, what string, whole []snapshot.Change,
	wasGone int,
) (vacuous bool, err error) {
	l, err := g.lifecycle(ctx)
	if err != nil {
		return false, err
	}
	stale, err := g.remaining(ctx, 1)
	if err != nil {
		return false, err
	}
	gone, err := g.remaining(ctx, 2)
	if err != nil {
		return false, err
	}
	live, err := g.remaining(ctx, 0)
	if err != nil {
		return false, err
	}
	if missing := snapshot.Beyond(whole, live); len(missing) > 0 {
		g.wrong([]cni.Call{call}, "%s deletes what belongs to the valid attachment: %s", what, first(missing))
	}
	if len(stale) == len(added(g.made[1])) && len(durable(gone)) >= wasGone {
		return true, nil
	}
	for name, left := range map[string][]snapshot.Change{
		"a stale attachment": stale, "a stale attachment without a namespace": gone,
	} {
		if left = snapshot.Beyond(left, l.residue); len(left) > 0 {
			g.wrong([]cni.Call{call}, "%s leaves of %s: %s", what, name, first(left))
		}
	}
	return false, nil
}

func checkCollectsOn(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	g, err := b.plant(ctx, "live", "stuck", "stale")
	if err != nil {
		return err
	}
	var pinned []string
	for _, c := range added(g.made[1]) {
		if c.Item.Kind == snapshot.File && !isDir(c.Item) {
			if err := b.node.Agent.PinFile(ctx, c.Item.Name); err != nil {
				return err
			}
			pinned = append(pinned, c.Item.Name)
		}
	}
	if pinned == nil {
		return notApplicable("an attachment has no file on the node, and so nothing that cannot be removed")
	}
	call, err := b.call(ctx, cni.GC, nil, keeping(g.pods[0]))
	if err != nil {
		return err
	}
	left, err := g.remaining(ctx, 2)
	if err != nil {
		return err
	}
	if len(left) == len(added(g.made[2])) && call.ExitCode == 0 {
		return vacuousError("GC succeeds and deletes nothing")
	}
	if call.ExitCode == 0 {
		t.wrong([]cni.Call{call}, "GC could not remove %s and succeeds, want an error", strings.Join(pinned, ", "))
	}
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	if left = snapshot.Beyond(left, l.residue); len(left) > 0 {
		t.wrong([]cni.Call{call}, "GC could not remove %s and leaves of another stale attachment: %s",
			strings.Join(pinned, ", "), first(left))
	}
	for _, name := range pinned {
		if err := b.node.Agent.UnpinFile(ctx, name); err != nil {
			return fmt.Errorf("after GC: %w", err)
		}
	}
	return nil
}

func checkDelegateGC(ctx context.Context, t *trial) error { return t.delegates(ctx, cni.GC) }
