package contract

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// status returns the requirements about STATUS.
func status() []Requirement {
	list := []Requirement{
		{
			ID: "STA-1", Level: Must, Section: "2, STATUS", Roles: everyPlugin(), Covers: []string{"G06"},
			Text: "STATUS succeeds when the plugin is ready for ADD, and fails with an error on standard output when " +
				"it knows that it is not.",
			Why: "A node whose network is broken gets pods as long as STATUS succeeds.",
			How: "Takes away what ADD was seen to need: the uplink, the directories in which " +
				"it keeps files, the delegated plugin. " +
				"If ADD then fails, STATUS must fail too, and succeed again afterwards; if it fails for none of " +
				"them it is vacuous.",
			check: checkNotReady,
		},
		{
			ID: "STA-2", Level: MustNot, Section: "2, STATUS", Roles: inChain(),
			Text:  "ADD does not rely on STATUS having been called.",
			Why:   "Most runtimes never call it.",
			How:   "ADD on a fresh node, with no STATUS before.",
			check: checkWithoutStatus,
		},
		{
			ID: "STA-3", Level: Stated, Section: "2, STATUS", Roles: everyPlugin(),
			Text: "The other verbs work while STATUS fails.",
			Why:  "Pods must be deleted from a node that takes no new ones.",
			How: "With the pool of addresses used up, or the uplink gone, CHECK of an attachment works as before " +
				"and DEL succeeds.",
			check: checkServesOthers,
		},
		{
			ID: "STA-4", Level: Must, Section: "2, STATUS; 4", Roles: []Role{Main},
			Text:  "STATUS calls STATUS of the plugins that it delegates to; their error is its own.",
			Why:   "The delegated plugin is the one that has no addresses left.",
			How:   "A stub in place of the IPAM plugin records the call, and answers the next one with code 50.",
			check: checkDelegateStatus,
		},
		{
			ID: "STA-5", Level: Should, Section: "2, STATUS; 5, codes 50 and 51", Roles: []Role{Main, IPAM},
			Covers: []string{"G06"},
			Text:   "STATUS fails with code 50 or 51 when something that ADD needs is used up.",
			Why:    "A kubelet that knows it keeps pods away from a node without addresses.",
			How:    "A pool of one address, which a pod has; STATUS succeeds again when the pod is deleted.",
			check:  checkExhausted,
		},
		{
			ID: "STA-6", Level: Stated, Section: "2, STATUS; 5, codes 50 and 51", Roles: everyPlugin(),
			Text: "STATUS fails with 50 if only new containers are refused, and with 51 if attached ones suffer, " +
				"too; the code of a delegated plugin stays as it is.",
			Why: "A runtime may move the pods away from a node that says 51, which is too much for a node whose pool " +
				"is empty.",
			How: "An IPAM plugin whose pool is used up says 50; a stub in its place says 50 and 51, and the plugin " +
				"that delegates to it says the same. With the uplink down, without which a pod is seen to reach " +
				"nobody, others say 51. A plugin whose STATUS does not notice is exempt.",
			check: checkSeverity,
		},
	}
	for i := range list {
		list[i].Since = "1.1.0"
	}
	return list
}

func (b *bench) status(ctx context.Context, edits ...func(*invocation)) (cni.Call, error) {
	return b.call(ctx, cni.Status, nil, edits...)
}

// need is something without which ADD may not work.
type need struct {
	what   string
	take   func(ctx context.Context, b *bench) error
	give   func(ctx context.Context, b *bench) error
	change func(*invocation)
}

// needs returns what ADD was seen to use.
func (t *trial) needs(ctx context.Context) ([]need, error) {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	uplink := l.uplink
	list := []need{{
		what: "without the uplink",
		take: func(ctx context.Context, b *bench) error {
			return b.node.Agent.RenameLink(ctx, agent.RenameLinkArgs{Name: uplink, NewName: "cnitest-away"})
		},
		give: func(ctx context.Context, b *bench) error {
			return b.node.Agent.RenameLink(ctx, agent.RenameLinkArgs{Name: "cnitest-away", NewName: uplink})
		},
	}}
	var dirs []string
	for _, c := range l.made {
		if c.Op != snapshot.Added || c.Item.Kind != snapshot.File || isDir(c.Item) {
			continue
		}
		// A directory that is made for each attachment cannot be blocked beforehand.
		if dir := sharedDir(filepath.Dir(c.Item.Name), l.pod); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		list = append(list, need{
			what: "with a file in the place of " + dir,
			take: func(ctx context.Context, b *bench) error { return b.node.Agent.BlockDir(ctx, dir) },
			give: func(ctx context.Context, b *bench) error { return b.node.Agent.UnblockDir(ctx, dir) },
		})
	}
	if t.subject.ipam != "" && t.subject.Role != IPAM {
		list = append(list, need{what: "without the binary of " + t.subject.ipam, change: func(inv *invocation) {
			ipam, _ := inv.config["ipam"].(map[string]any)
			missing := maps.Clone(ipam)
			missing["type"] = "cnitest-missing"
			inv.config["ipam"] = missing
		}})
	}
	return list, nil
}

// sharedDir returns the innermost directory whose name has no part of the pod's name.
func sharedDir(dir string, p *pod) string {
	for part := dir; part != "/" && part != "."; part = filepath.Dir(part) {
		if strings.Contains(filepath.Base(part), p.id) || filepath.Base(part) == p.ifName {
			dir = filepath.Dir(part)
		}
	}
	return dir
}

func checkNotReady(ctx context.Context, t *trial) error {
	needs, err := t.needs(ctx)
	if err != nil {
		return err
	}
	asked, noticed := 0, 0
	for _, n := range needs {
		counted, seen, err := t.deprive(ctx, n)
		if err != nil {
			return fmt.Errorf("%s: %w", n.what, err)
		}
		if counted {
			asked++
		}
		if seen {
			noticed++
		}
	}
	if asked == 0 {
		return notApplicable("ADD works without everything that the check can take away")
	}
	if noticed == 0 {
		t.wrongs = nil
		return vacuousError("STATUS succeeds whatever ADD lacks")
	}
	return nil
}

// deprive removes something, and calls STATUS if ADD then fails.
func (t *trial) deprive(ctx context.Context, n need) (asked, noticed bool, err error) {
	b, err := t.bench(ctx, nil)
	if err != nil {
		return false, false, err
	}
	var edits []func(*invocation)
	if n.change != nil {
		edits = append(edits, n.change)
	}
	healthy, err := b.status(ctx)
	if err != nil {
		return false, false, err
	}
	if healthy.ExitCode != 0 {
		t.wrong([]cni.Call{healthy}, "STATUS of a plugin that is ready: want success, got %s", summary(healthy))
		return true, true, nil
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return false, false, err
	}
	if n.take != nil {
		if err := n.take(ctx, b); err != nil {
			return false, false, err
		}
	}
	add, err := b.call(ctx, cni.Add, p, edits...)
	if err != nil || add.ExitCode == 0 {
		return false, false, err
	}
	call, err := b.status(ctx, edits...)
	if err != nil {
		return true, false, err
	}
	noticed = call.ExitCode != 0
	t.subject.score(cni.Status, Provocation{requirement: t.requirement.ID, What: n.what, Noticed: noticed})
	if !noticed {
		t.wrong([]cni.Call{add, call}, "STATUS succeeds %s, and ADD fails: %s", n.what, summary(add))
	} else if _, ok := failure(call); !ok {
		t.wrong([]cni.Call{call}, "STATUS fails %s without an error object on stdout", n.what)
	}
	if n.give == nil {
		return true, noticed, nil
	}
	if err := n.give(ctx, b); err != nil {
		return true, noticed, err
	}
	if call, err = b.status(ctx); err == nil && call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "STATUS still fails when what it had to do %s is there again: %s", n.what,
			summary(call))
	}
	return true, noticed, err
}

func checkWithoutStatus(ctx context.Context, t *trial) error {
	_, err := t.lifecycle(ctx)
	failed, ok := asAddError(err)
	if !ok {
		return err
	}
	b, err := t.bench(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := b.status(ctx); err != nil {
		return err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return err
	}
	call, err := b.call(ctx, cni.Add, p)
	if err == nil && call.ExitCode == 0 {
		t.wrong([]cni.Call{failed.call, call}, "ADD succeeds after STATUS and fails without: %s", summary(failed.call))
		return nil
	}
	return failed
}

// onlyOne reduces the node's pool of addresses to one.
func onlyOne(req *cluster.Request) { req.Nodes[0].Addresses = 1 }

func checkServesOthers(ctx context.Context, t *trial) error {
	for _, tt := range []struct {
		what string
		edit func(*cluster.Request)
		fail func(ctx context.Context, b *bench) error
	}{
		{"with no address left", onlyOne, func(context.Context, *bench) error { return nil }},
		{"without the uplink", nil, func(ctx context.Context, b *bench) error {
			return b.node.Agent.RenameLink(ctx, agent.RenameLinkArgs{Name: b.node.Uplink, NewName: "cnitest-away"})
		}},
	} {
		b, err := t.bench(ctx, tt.edit)
		if err != nil {
			return err
		}
		p, err := b.attach(ctx, "first")
		if err != nil {
			return err
		}
		if err := tt.fail(ctx, b); err != nil {
			return err
		}
		call, err := b.status(ctx)
		if err != nil {
			return err
		}
		if call.ExitCode == 0 {
			continue // STA-1 and STA-5 report it
		}
		if call, err = b.must(ctx, cni.Check, p); err != nil {
			return err
		}
		if call.ExitCode != 0 && tt.edit != nil {
			t.wrong([]cni.Call{call}, "CHECK of an attached pod %s: want success, got %s", tt.what, summary(call))
		}
		if call, err = b.must(ctx, cni.Del, p); err != nil {
			return err
		}
		if call.ExitCode != 0 {
			t.wrong([]cni.Call{call}, "DEL %s: want success, got %s", tt.what, summary(call))
		}
	}
	return nil
}

func checkDelegateStatus(ctx context.Context, t *trial) error { return t.delegates(ctx, cni.Status) }

func checkExhausted(ctx context.Context, t *trial) error {
	if t.subject.Role == Main && t.subject.ipam == "" {
		return notApplicable("%s has no ipam", t.subject.Type)
	}
	if err := t.hasPool(); err != nil {
		return err
	}
	b, err := t.bench(ctx, onlyOne)
	if err != nil {
		return err
	}
	p, err := b.attach(ctx, "first")
	if err != nil {
		return err
	}
	second, err := b.pod(ctx, "second")
	if err != nil {
		return err
	}
	add, err := b.call(ctx, cni.Add, second)
	if err != nil {
		return err
	}
	if add.ExitCode == 0 {
		return notApplicable("the pool of %s cannot be made one address", t.subject.Type)
	}
	call, err := b.status(ctx)
	if err != nil {
		return err
	}
	t.subject.score(cni.Status, Provocation{
		requirement: t.requirement.ID, What: "with no address left", Noticed: call.ExitCode != 0,
	})
	answer, ok := failure(call)
	switch {
	case call.ExitCode == 0:
		t.wrong([]cni.Call{add, call}, "STATUS succeeds with no address left, and ADD fails: %s", summary(add))
	case !ok || answer.Code != 50 && answer.Code != 51:
		t.wrong([]cni.Call{call}, "STATUS with no address left: want code 50 or 51, got %s", summary(call))
	}
	if _, err := b.call(ctx, cni.Del, p); err != nil {
		return err
	}
	if call, err = b.status(ctx); err == nil && call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "STATUS still fails when an address is free again: %s", summary(call))
	}
	return err
}
