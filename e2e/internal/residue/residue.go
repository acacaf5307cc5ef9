package residue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// residue is what a first attachment leaves on the nodes of a cluster, without later ones adding to it.
type residue struct {
	// changes are the changes of the node that has most of each key: the rules of one priority share a key, and so do
	// the processes of one command.
	changes []snapshot.Change
	list    []report.Residue
	// makers has the plugin after whose calls something changed, by key: all kinds of state are traced here.
	makers map[string]string
}

// maker returns the plugin after whose call a change was seen when the residue was searched for, or report.Chain if
// there was none.
func (f *residue) maker(c snapshot.Change) string {
	return cmp.Or(f.makers[c.Item.Key()], report.Chain)
}

// beyond returns the changes that are not residue; all of them if f is nil.
func (f *residue) beyond(changes []snapshot.Change) []snapshot.Change {
	if f == nil {
		return changes
	}
	return snapshot.Beyond(changes, f.changes)
}

// residueOf attaches and deletes a pod on each node of a new cluster, and then another one. What the first pod leaves
// is residue, unless the second one leaves more of its kind. It is searched for once for each kind of cluster.
func (t *Tracker) residueOf(ctx context.Context, nodes []scenario.Node, chain scenario.Chain,
	networks []string,
) (*residue, error) {
	id := idOf(nodes, chain, networks)
	t.mu.Lock()
	known, ok := t.residues[id]
	t.mu.Unlock()
	if ok {
		return known, nil
	}
	// Scenarios that run at the same time may need the same residue. One that got only the error of another's search
	// searches itself.
	for last := false; ; last = true {
		found, err, shared := t.searches.Do(id, func() (any, error) {
			return t.search(ctx, id, nodes, chain, networks)
		})
		switch {
		case err == nil:
			return found.(*residue), nil
		case last || !shared || ctx.Err() != nil:
			return nil, err
		}
	}
}

// idOf distinguishes kinds of clusters, and what pods are attached to.
func idOf(nodes []scenario.Node, chain scenario.Chain, networks []string) string {
	id, _ := json.Marshal([]any{unattended(nodes), chain, networks}) // it has nothing that JSON cannot say
	return string(id)
}

// unattended returns nodes that nobody sends requests to: on machines that exist the ports may still be in use.
func unattended(nodes []scenario.Node) []scenario.Node {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		nodes[i].Listen = nil
	}
	return nodes
}

// search makes a cluster and finds the residue of one kind of clusters on it.
func (t *Tracker) search(ctx context.Context, id string, nodes []scenario.Node, chain scenario.Chain,
	networks []string,
) (*residue, error) {
	nodes = unattended(nodes)
	c, err := t.config.Start(ctx, nodes, chain)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	found, err := t.find(ctx, c, nodes, networks)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.residues[id] = found
	return found, nil
}

// find attaches two rounds of pods on all nodes, one pod for each network.
func (t *Tracker) find(ctx context.Context, c cluster.Cluster, nodes []scenario.Node,
	networks []string,
) (*residue, error) {
	sc := &scenario.Scenario{Name: "first-attachment", Nodes: nodes}
	for _, n := range nodes {
		for _, round := range []string{"first", "second"} {
			for i, network := range networks {
				sc.Pods = append(sc.Pods, scenario.Pod{
					Name: fmt.Sprintf("%s-%d-on-%s", round, i, n.Name), Node: n.Name, Network: network,
				})
			}
		}
	}
	r := runner.New(t.config.Runner, environment.New(sc, c))
	r.TraceAll()
	if err := r.Prepare(ctx); err != nil {
		return nil, err
	}
	found := &residue{makers: map[string]string{}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range c.Nodes() {
		group.Go(func() error {
			pods := r.Env.Pods[2*len(networks)*i:][:2*len(networks)]
			first, err := t.cycle(ctx, r, node, pods[:len(networks)], nil)
			if err != nil {
				return err
			}
			second, err := t.cycle(ctx, r, node, pods[len(networks):], &residue{changes: first})
			if err != nil {
				return err
			}
			// What the kernel removed late after the first round is gone by now.
			if first, err = t.remaining(ctx, r, node, first); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found.add(r.Env.States[node.Name], first, second)
			return nil
		})
	}
	return found, group.Wait()
}

// cycle attaches and deletes pods and returns the differences from the start. Whether attaching works is for the
// scenarios to judge.
func (t *Tracker) cycle(
	ctx context.Context, r *runner.Runner, node *cluster.Node, pods []*environment.Pod, known *residue,
) ([]snapshot.Change, error) {
	var all sync.WaitGroup
	for _, p := range pods {
		all.Go(func() {
			_ = r.Add(ctx, p, scenario.DefaultInterface)
			_ = r.Del(ctx, p, scenario.DefaultInterface, runner.Deletion{})
			_ = r.RemoveNamespace(ctx, p)
		})
	}
	all.Wait()
	d := &difference{node: node, common: known}
	if d.changes, d.err = t.changes(ctx, r, node, known); d.err == nil && known != nil {
		d.err = t.settle(ctx, r, d, nil)
	}
	return d.changes, d.err
}

// remaining returns those changes of a node, found earlier, that are still there.
func (t *Tracker) remaining(ctx context.Context, r *runner.Runner, node *cluster.Node,
	earlier []snapshot.Change,
) ([]snapshot.Change, error) {
	if len(earlier) == 0 {
		return nil, nil
	}
	now, err := t.changes(ctx, r, node, nil)
	return slices.DeleteFunc(slices.Clone(earlier), func(c snapshot.Change) bool {
		return !slices.ContainsFunc(now, func(n snapshot.Change) bool { return n.Item.Key() == c.Item.Key() })
	}), err
}

// add adds what a first round of pods left on a node, except for kinds of items of which a plugin left more in the
// second round: these grow.
func (f *residue) add(state *environment.NodeState, first, second []snapshot.Change) {
	for _, change := range slices.Concat(first, second) {
		f.makers[change.Item.Key()] = state.Maker(change)
	}
	type source struct{ plugin, kind string }
	grows := map[source]bool{}
	for _, change := range second {
		grows[source{state.Maker(change), change.Item.Kind}] = true
	}
	var stays []snapshot.Change
	for _, change := range first {
		if !grows[source{state.Maker(change), change.Item.Kind}] && canStay(change) {
			stays = append(stays, change)
		}
	}
	// Another node may have added the same.
	for _, change := range snapshot.Beyond(stays, f.changes) {
		f.changes = append(f.changes, change)
		f.list = append(f.list, report.Residue{
			Plugin: state.Maker(change), Item: itemName(change), Change: change.String(),
		})
	}
}

// canStay reports whether a change can be residue: a new item, or a change that is declared with a reason. An item that
// existed before the first pod and disappeared or changed is damage.
func canStay(c snapshot.Change) bool {
	switch {
	case c.Op == snapshot.Added:
		return true
	case c.Op == snapshot.Changed && c.Item.Kind == snapshot.Sysctl:
		// Settings that a plugin needs on a node are listed as its side effects (failure mode I07).
		return true
	case c.Op == snapshot.Changed && c.Item.Kind == snapshot.Link:
		// A link is promiscuous as long as it has a child with a MAC of its own.
		return withoutPromiscuity(c.Before) == withoutPromiscuity(c.Item.Text)
	case c.Op == snapshot.Changed && c.Item.Kind == snapshot.File:
		// If pods of others run there, the file in which an allocator keeps its position exists already.
		return strings.HasPrefix(c.Item.Name, cni.CacheDir+"/")
	}
	return false
}

// withoutPromiscuity returns the text of a link without its counter of promiscuity.
func withoutPromiscuity(text string) string {
	words := strings.Fields(text)
	if i := slices.Index(words, "promiscuity"); i >= 0 && i+1 < len(words) {
		words = slices.Delete(words, i, i+2)
	}
	return strings.Join(words, " ")
}

// itemName returns the name of an item, followed by the words that changed if the item existed before. The text of a
// file is a checksum, which is left out.
func itemName(c snapshot.Change) string {
	switch {
	case c.Op == snapshot.Added:
		return c.Item.Kind + " " + c.Item.Name
	case c.Item.Kind == snapshot.File:
		return c.Item.Kind + " " + c.Item.Name + ": other content"
	}
	var was, is []string
	before, after := strings.Fields(c.Before), strings.Fields(c.Item.Text)
	for _, word := range before {
		if !slices.Contains(after, word) {
			was = append(was, word)
		}
	}
	for _, word := range after {
		if !slices.Contains(before, word) {
			is = append(is, word)
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s -> %s", c.Item.Kind, c.Item.Name, strings.Join(was, " "),
		strings.Join(is, " ")))
}
