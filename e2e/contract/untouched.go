package contract

import (
	"context"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// asking returns the verbs that only answer a question, as far as a version has them.
func (b *bench) asking(attached bool) []cni.Verb {
	verbs := []cni.Verb{cni.Version}
	if attached && cni.Check.In(b.version) {
		verbs = append(verbs, cni.Check)
	}
	if cni.Status.In(b.version) {
		verbs = append(verbs, cni.Status)
	}
	return verbs
}

func checkAskingChangesNothing(ctx context.Context, t *trial) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	// On a node without pods the plugin may make the directory for its files, as the first ADD does.
	if err := b.changesNothing(ctx, p, false, func(c snapshot.Change) bool {
		return c.Item.Kind == snapshot.File &&
			(isDir(c.Item) || isLog(c.Item) || len(snapshot.Beyond([]snapshot.Change{c}, l.residue)) == 0)
	}); err != nil {
		return err
	}
	if _, err := b.add(ctx, p); err != nil {
		return err
	}
	return b.changesNothing(ctx, p, true, func(c snapshot.Change) bool { return isLog(c.Item) })
}

// isLog reports whether an item is a file in which a plugin writes what it does, by its name.
func isLog(i snapshot.Item) bool {
	return i.Kind == snapshot.File && (strings.HasSuffix(i.Name, ".log") || strings.Contains(i.Name, "/log/"))
}

// changesNothing calls each verb that only answers, and checks that node and pod stay as they are, except for changes
// that allowed accepts.
func (b *bench) changesNothing(ctx context.Context, p *pod, attached bool, allowed func(snapshot.Change) bool) error {
	when := "on a node without pods"
	if attached {
		when = "with a pod attached"
	}
	for _, verb := range b.asking(attached) {
		before, err := b.state(ctx, p)
		if err != nil {
			return err
		}
		call, err := b.call(ctx, verb, p)
		if err != nil {
			return err
		}
		left, err := b.leftAfter(ctx, before, nil, p)
		if err != nil {
			return err
		}
		if left = slices.DeleteFunc(left, allowed); len(left) > 0 {
			b.wrong([]cni.Call{call}, "%s %s changes something, which ADD, DEL and GC alone do: %s", verb, when,
				first(left))
		}
	}
	return nil
}

func checkLeavesOthers(ctx context.Context, t *trial) error {
	l, err := t.lifecycle(ctx)
	if err != nil {
		return err
	}
	before, _, ok := l.results()
	if !ok {
		return nil // ADD-2 reports it
	}
	// lo and what the runtime made belong to no attachment.
	adjustable := map[string]bool{l.pod.ifName: true}
	for _, i := range before.Interfaces {
		adjustable[i.Name] = true
	}
	for _, c := range l.made {
		if c.Item.Scope != l.pod.name || c.Op == snapshot.Added {
			continue
		}
		name := c.Item.Name
		if c.Item.Kind == snapshot.Address {
			name = following(c.Item.Name, "dev")
		}
		if (c.Item.Kind == snapshot.Link || c.Item.Kind == snapshot.Address) && !adjustable[name] {
			t.wrong([]cni.Call{l.add}, "ADD changes an interface in the pod that is not of this network: %s",
				strings.TrimSpace(c.String()))
		}
	}
	return t.givesNamesake(ctx)
}

// givesNamesake checks a plugin that gives pods devices of the node with a pod that has another interface of the same
// name as its device.
func (t *trial) givesNamesake(ctx context.Context) error {
	key, _ := t.subject.file.DeviceKey()
	if key == "" || t.subject.index != 0 || t.subject.Role != Main {
		return nil
	}
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	name, _ := b.subjectInvocation(cni.Add, p).config[key].(string)
	links, err := b.node.Agent.Links(ctx, b.node.Netns)
	if err != nil || !slices.ContainsFunc(links, func(l agent.Link) bool { return l.Name == name }) {
		return err // it is named otherwise, such as by its place on a bus
	}
	if err := b.node.Agent.AddLink(ctx, agent.AddLinkArgs{
		Netns: p.netns, Name: name, PeerNetns: p.netns, PeerName: "cnitest-peer",
	}); err != nil {
		return err
	}
	call, err := b.must(ctx, cni.Add, p)
	if err == nil && call.ExitCode != 0 {
		t.wrong([]cni.Call{call}, "ADD of the device %s to a pod that has another interface of this name: want "+
			"success, got %s", name, summary(call))
	}
	return err
}
