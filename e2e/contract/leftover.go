package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// oldDevice is the interface of the predecessor to which planted routes lead, and its other end.
const (
	oldDevice     = "cnitest-old"
	oldDevicePeer = "cnitest-old2"
)

// checkLeftovers plants what a predecessor of the same name and address may have left, and attaches the next pod.
func checkLeftovers(ctx context.Context, t *trial) error {
	edit := manyPods
	if t.hasPool() == nil {
		edit = onlyOne
	}
	b, err := t.bench(ctx, edit)
	if err != nil {
		return err
	}
	b = b.called(podName)
	first, err := b.itemsOf(ctx, "old-1")
	if err != nil {
		return err
	}
	second, err := b.itemsOf(ctx, "old-2")
	if err != nil {
		return err
	}
	second = slices.DeleteFunc(second, func(i snapshot.Item) bool {
		return !slices.ContainsFunc(first, func(o snapshot.Item) bool {
			return snapshot.Same(o, i) || o.Key() == i.Key() &&
				i.Kind != snapshot.Rule
		})
	})
	if err := b.node.Agent.AddLink(ctx, agent.AddLinkArgs{
		Netns: ownNetns, Name: oldDevice, PeerNetns: ownNetns, PeerName: oldDevicePeer,
	}); err != nil {
		return err
	}
	planted := 0
	for i, item := range second {
		if planted == leftoversTried {
			break
		}
		done, err := b.meets(ctx, fmt.Sprintf("next-%d", i), item)
		if err != nil {
			return err
		}
		if done {
			planted++
		}
	}
	if planted == 0 {
		return notApplicable("no pod has a link, rule, IPv4 route or neighbour on the node that the next one of its " +
			"name and address would have, too")
	}
	t.note("%d things of a predecessor planted", planted)
	return nil
}

// leftoversTried is the largest number of things that are planted.
const leftoversTried = 6

// ownNetns is the network namespace of a node's agent.
const ownNetns = "/proc/self/ns/net"

// itemsOf attaches and deletes a pod, and returns what of it was on the node meanwhile.
func (b *bench) itemsOf(ctx context.Context, name string) ([]snapshot.Item, error) {
	p, err := b.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	before, err := b.state(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := b.addPatiently(ctx, p); err != nil {
		return nil, err
	}
	after, err := b.state(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := b.must(ctx, cni.Del, p); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(without(after.Items, before.Items), func(i snapshot.Item) bool {
		return strings.Contains(i.Text, "proto kernel")
	}), b.end(ctx, p)
}

// addPatiently attaches a pod; addresses may rest for a while (code 11).
func (b *bench) addPatiently(ctx context.Context, p *pod) (call cni.Call, err error) {
	for range 10 {
		call, err = b.must(ctx, cni.Add, p)
		if answer, ok := failure(call); err != nil || !ok || answer.Code != tryAgain {
			break
		}
		if err := timing.Sleep(ctx, snapshot.Quiet*2); err != nil {
			return call, err
		}
	}
	if err == nil && call.ExitCode != 0 {
		err = &addError{call}
	}
	return call, err
}

// plantBefore makes something in the way of an item, and reports whether it could.
func (b *bench) plantBefore(ctx context.Context, item snapshot.Item) bool {
	if item.Kind == snapshot.Link {
		return b.node.Agent.AddLink(ctx, agent.AddLinkArgs{
			Netns: ownNetns, Name: item.Name, PeerNetns: ownNetns, PeerName: "cnitest-old3",
		}) == nil
	}
	return b.node.Agent.Plant(ctx, agent.PlantArgs{Item: item, Device: oldDevice}) == nil
}

// isPlanted reports whether an item is what was planted in the way of another one.
func isPlanted(i, item snapshot.Item) bool {
	if i.Kind != item.Kind || i.Scope != "" || i.Name != item.Name {
		return false
	}
	switch i.Kind {
	case snapshot.Rule:
		return strings.Contains(i.Text, fmt.Sprintf("lookup %d", agent.PlantedTable))
	case snapshot.Route:
		return following(i.Text, "dev") == oldDevice
	case snapshot.Neighbour:
		return following(i.Text, "lladdr") == agent.PlantedMAC
	}
	return false
}

// meets attaches a pod that finds a leftover in its way, and reports whether there could be one.
func (b *bench) meets(ctx context.Context, name string, item snapshot.Item) (bool, error) {
	if !b.plantBefore(ctx, item) {
		return false, nil
	}
	p, err := b.pod(ctx, name)
	if err != nil {
		return false, err
	}
	add, err := b.addTwice(ctx, p)
	if err != nil {
		return false, err
	}
	now, err := b.state(ctx)
	if err != nil {
		return false, err
	}
	what := fmt.Sprintf("a %s that a predecessor left (%s)", item.Kind, item.Name)
	at := slices.IndexFunc(now.Items, func(i snapshot.Item) bool { return isPlanted(i, item) })
	switch {
	case add.ExitCode != 0:
		b.wrong([]cni.Call{add}, "ADD with %s, also after DEL: want success, got %s", what, summary(add))
	case at >= 0:
		b.wrong([]cni.Call{add}, "ADD succeeds with %s, which still decides what happens to packets: %s %s: %s", what,
			item.Kind, now.Items[at].Name, now.Items[at].Text)
	}
	if _, err := b.must(ctx, cni.Del, p); err != nil {
		return false, err
	}
	if at >= 0 {
		_ = b.node.Agent.Revert(ctx, agent.RevertArgs{Change: snapshot.Change{Op: snapshot.Added, Item: now.Items[at]}})
	}
	if item.Kind == snapshot.Link {
		_ = b.node.Agent.Revert(ctx, agent.RevertArgs{Change: snapshot.Change{Op: snapshot.Added, Item: item}})
	}
	return true, b.end(ctx, p)
}

// addTwice attaches a pod as a runtime does: after an ADD that failed it calls DEL and tries again.
func (b *bench) addTwice(ctx context.Context, p *pod) (cni.Call, error) {
	call, err := b.addPatiently(ctx, p)
	failed, ok := asAddError(err)
	if !ok {
		return call, err
	}
	if _, err := b.must(ctx, cni.Del, p); err != nil {
		return failed.call, err
	}
	call, err = b.addPatiently(ctx, p)
	if failed, ok := asAddError(err); ok {
		return failed.call, nil
	}
	return call, err
}
