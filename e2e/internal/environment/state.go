package environment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// NodeState is the state of a node before the first step, and which plugin was seen to change what.
type NodeState struct {
	Before snapshot.State
	// Advertised is the state before the last router advertisement.
	Advertised snapshot.State
	// Devices are the names of the links that the node gives to pods.
	Devices []string
	// FreshPod is the state of a new pod namespace.
	FreshPod snapshot.State

	mu     sync.Mutex
	makers map[string]maker // by trait
	turn   int
	// trespassed contains, for each plugin, the last removal or change by another plugin of something that it had made
	// on the node.
	trespassed map[string]trespass
}

// trespass is a removal or change of something by a plugin that had not made it.
type trespass struct {
	by   string
	what snapshot.Change
}

// maker is a plugin and the number of its call.
type maker struct {
	plugin string
	turn   int
}

// Learn remembers the plugin after whose call these changes were seen.
func (n *NodeState) Learn(plugin string, changes []snapshot.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.makers == nil {
		n.makers = map[string]maker{}
	}
	n.turn++
	for _, c := range changes {
		n.noteTrespass(plugin, c)
		for _, t := range traits(c) {
			n.makers[t] = maker{plugin, n.turn}
		}
	}
}

// noteTrespass records removals and changes of things that another plugin was seen to make on the node. Links also
// change by themselves, as those on top of them come and go.
func (n *NodeState) noteTrespass(plugin string, c snapshot.Change) {
	owner := n.makers[snapshot.Added+"|"+c.Item.Key()].plugin
	if c.Op == snapshot.Added || c.Op == snapshot.Changed && c.Item.Kind == snapshot.Link || c.Item.Scope != "" ||
		owner == "" ||
		owner == plugin {
		return
	}
	if n.trespassed == nil {
		n.trespassed = map[string]trespass{}
	}
	n.trespassed[owner] = trespass{plugin, c}
}

// Trespasser returns the plugin that was last seen to remove or change something that owner had made on the node, and a
// sentence about it; empty strings if there is none.
func (n *NodeState) Trespasser(owner string) (plugin, how string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, ok := n.trespassed[owner]
	if !ok {
		return "", ""
	}
	return t.by, fmt.Sprintf("%s caused it: one of its calls changed what %s had made: %s", t.by, owner, t.what)
}

// Maker returns the plugin after whose call a change was last seen, or report.Chain if there was none.
func (n *NodeState) Maker(c snapshot.Change) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := maker{plugin: report.Chain}
	for _, t := range traits(c) {
		if m, ok := n.makers[t]; ok && m.turn > last.turn {
			last = m
		}
	}
	return last.plugin
}

// traits returns the parts of a change that can be attributed to a plugin: that an item appeared or disappeared, or
// each new word of its text.
func traits(c snapshot.Change) []string {
	if c.Op != snapshot.Changed {
		return []string{c.Op + "|" + c.Item.Key()}
	}
	var traits []string
	before := strings.Fields(c.Before)
	for _, word := range strings.Fields(c.Item.Text) {
		if !slices.Contains(before, word) {
			traits = append(traits, word+"|"+c.Item.Key())
		}
	}
	return traits
}

// TakeFreshPod returns the state of a new namespace on a node, which it removes again.
func TakeFreshPod(ctx context.Context, node *cluster.Node) (snapshot.State, error) {
	const name = "fresh"
	path, err := node.Agent.CreateNamespace(ctx, name)
	if err != nil {
		return snapshot.State{}, err
	}
	state, err := TakePod(ctx, node, path)
	return state, errors.Join(err, node.Agent.RemoveNamespace(ctx, name))
}

// TakePod returns the state of a pod's namespace without sysctls, which end with it.
func TakePod(ctx context.Context, node *cluster.Node, netns string) (snapshot.State, error) {
	kinds := snapshot.KindsThat(func(k snapshot.Kind) bool { return k.Network && !k.Many })
	state, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{
		Kinds: kinds, Namespaces: map[string]string{"pod": netns},
	})
	state.Items = slices.DeleteFunc(state.Items, func(i snapshot.Item) bool { return i.Scope != "pod" })
	return state, err
}
