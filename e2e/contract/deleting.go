package contract

import (
	"context"
	"fmt"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// deleting returns the requirements about DEL.
func deleting() []Requirement {
	return []Requirement{
		{
			ID: "DEL-1", Level: Should, Section: "2, DEL", Roles: everyPlugin(), Covers: []string{"E07", "D13", "I05"},
			Text: "DEL deletes the interface, and undoes what ADD changed.",
			Why:  "Rules, routes and files that stay behind pile up until a node is full of them.",
			How: "Attaches and deletes two pods in turn, the plugin alone, and compares the whole node: what the " +
				"second leaves beyond the first counts. DEL of a chained plugin also gives back the pod's links as " +
				"they were. DEL of the second attachment of a pod leaves what the first has on the node; a plugin " +
				"that refuses a second interface is exempt from this.",
			each: true, check: checkUndoes,
		},
		{
			ID: "DEL-2", Level: Should, Section: "2, DEL", Roles: everyPlugin(), Covers: []string{"E09", "K02", "F02"},
			Text: "DEL without prevResult succeeds, and deletes.",
			Why: "After an ADD that failed further down the chain there is no result, and a kubelet's garbage " +
				"collection has none either.",
			How:  "ADD, DEL without prevResult; node and pod look as after a common DEL.",
			each: true, check: checkWithoutPrevResult,
		},
		{
			ID: "DEL-3", Level: Should, Section: "2, DEL", Roles: everyPlugin(), Covers: []string{"E01", "E16"},
			Text: "DEL succeeds if something is missing, and deletes the rest.",
			Why: "DEL of a chain ends at the first error: what the earlier plugins would have deleted stays, and so " +
				"does the sandbox.",
			How: "Removes each object that ADD was seen to make, one at a time on a fresh node, then all of them on " +
				"another one, and all files alone, as when /run or /tmp was emptied, and calls DEL. Also gives the " +
				"uplink another name before DEL.",
			check: checkToleratesLoss, long: true,
		},
		{
			ID: "DEL-4", Level: Must, Section: "2, DEL", Roles: everyPlugin(), Covers: []string{"E04", "E05"},
			Text: "DEL succeeds again and again, and without any ADD.",
			Why:  "Runtimes repeat DEL until it succeeds.",
			How:  "DEL of an attachment that never existed, and two DELs of one that did.",
			each: true, check: checkRepeats,
		},
		{
			ID: "DEL-5", Level: Should, Section: "2, DEL", Roles: everyPlugin(), Covers: []string{"D02", "E02", "E03"},
			Text: "DEL deletes what is on the node although the pod's namespace is gone or not named, and calls DEL " +
				"of the IPAM plugin.",
			Why:   "After a reboot no pod has a namespace, and all have addresses on the disk.",
			How:   "DEL with a path to nothing and with CNI_NETNS empty; the node looks as after a common DEL.",
			check: checkWithoutNamespace,
		},
	}
}

func checkUndoes(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	if len(l.left) > 0 {
		t.wrong(l.dels[:1], "DEL leaves something with each pod: %s", first(l.left))
	}
	if t.version == t.subject.newest() {
		if err := t.deletesOne(ctx); err != nil {
			return err
		}
	}
	if t.subject.Role != Chained {
		return nil
	}
	return t.restoresLinks(ctx)
}

// restoresLinks checks that DEL of a chained plugin gives the links of other plugins back as they were: they may be
// devices that the node or the next pod gets.
func (t *trial) restoresLinks(ctx context.Context) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.state(ctx, p)
	if err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	del, err := b.must(ctx, cni.Del, p)
	if err != nil || del.ExitCode != 0 {
		return err
	}
	left, err := b.leftAfter(ctx, before, nil, p)
	for _, c := range left {
		if c.Op == snapshot.Changed && c.Item.Kind == snapshot.Link && c.Item.Scope == p.name {
			t.wrong([]cni.Call{del}, "DEL leaves the pod's interface as ADD made it: %s", c)
		}
	}
	return err
}

// gone checks that a DEL succeeded, and that the node is as after an ordinary DEL.
func (b *bench) gone(ctx context.Context, call cni.Call, before snapshot.State, what string, pods ...*pod) error {
	l, err := b.lifecycle(ctx)
	if err != nil {
		return err
	}
	left, err := b.leftAfter(ctx, before, l.residue, pods...)
	if err == nil {
		b.clean(aftermath{call, left}, what)
	}
	return err
}

func checkWithoutPrevResult(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	t.clean(l.delWithoutPrevResult, "DEL without prevResult")
	return nil
}

// clean checks that a DEL succeeded and left nothing.
func (t *trial) clean(a aftermath, what string) {
	switch {
	case a.call.ExitCode != 0:
		t.wrong([]cni.Call{a.call}, "%s: want success, got %s", what, summary(a.call))
	case len(a.left) > 0:
		t.wrong([]cni.Call{a.call}, "%s leaves %s", what, first(a.left))
	}
}

func checkToleratesLoss(ctx context.Context, t *trial) error {
	list, err := t.provocations(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		switch {
		case p.skipped != "":
		case p.del.ExitCode != 0:
			t.wrong([]cni.Call{p.del}, "DEL with %s: want success, got %s", p.what, summary(p.del))
		case len(p.outlasting()) > 0:
			t.wrong([]cni.Call{p.del}, "DEL with %s leaves %s", p.what, first(p.outlasting()))
		}
	}
	if len(list) == 0 {
		return notApplicable("ADD made nothing that could be missing")
	}
	if t.subject.Role != IPAM {
		if err := t.deletesWithoutUplink(ctx); err != nil {
			return err
		}
	}
	if err := t.loseAll(ctx); err != nil {
		return err
	}
	return t.loseFiles(ctx)
}

func checkRepeats(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	for i, call := range l.dels {
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "DEL %s: want success, got %s", []string{"after ADD", "again"}[i], summary(call))
		}
	}
	t.clean(l.delWithoutAdd, "DEL without any ADD")
	return nil
}

func checkWithoutNamespace(ctx context.Context, t *trial) error {
	for _, tt := range []struct {
		what string
		edit func(*invocation)
	}{
		{"DEL with the namespace gone", func(*invocation) {}},
		{"DEL with CNI_NETNS empty", func(inv *invocation) { inv.env["CNI_NETNS"] = "" }},
	} {
		b, err := t.bench(ctx, nil)
		if err != nil {
			return err
		}
		p, err := b.pod(ctx, "first")
		if err != nil {
			return err
		}
		before, err := b.state(ctx)
		if err != nil {
			return err
		}
		if _, err := b.add(ctx, p); err != nil {
			return err
		}
		if err := b.node.Agent.RemoveNamespace(ctx, p.name); err != nil {
			return err
		}
		call, err := b.call(ctx, cni.Del, p, tt.edit)
		if err != nil {
			return err
		}
		if _, leased := b.subject.file.DHCP(); leased {
			// The daemon of dhcp holds the namespace, and all that is in it, until its own DEL.
			if err := b.release(ctx, p); err != nil {
				return err
			}
		}
		if err := b.goneBut(ctx, call, before, tt.what); err != nil {
			return fmt.Errorf("%s: %w", tt.what, err)
		}
	}
	return nil
}

// goneBut does the same as gone for a pod whose namespace was removed: state of the plugins before the subject that is
// connected with the namespace has disappeared too.
func (b *bench) goneBut(ctx context.Context, call cni.Call, before snapshot.State, what string) error {
	if call.ExitCode != 0 {
		b.wrong([]cni.Call{call}, "%s: want success, got %s", what, summary(call))
		return nil
	}
	l, err := b.lifecycle(ctx)
	if err != nil {
		return err
	}
	// The subject took nothing of what existed before ADD that its DEL could give back.
	left, err := b.leftInTheEnd(ctx, before, l.residue, func(c snapshot.Change) bool {
		return c.Op == snapshot.Added || c.Op == snapshot.Changed && c.Item.Kind != snapshot.Link
	})
	if err != nil {
		return err
	}
	if len(left) > 0 {
		b.wrong([]cni.Call{call}, "%s leaves %s", what, left[0])
	}
	return nil
}
