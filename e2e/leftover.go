package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// leavesNothingID is the result that says whether every node looked as before once all was deleted.
const leavesNothingID = "leaves-nothing"

// leftover is something that a scenario left on a node after everything was deleted twice.
type leftover struct {
	scenario, node, plugin, change string
}

// plainNodes are those of the cluster that every run begins with.
func plainNodes() []scenario.Node { return []scenario.Node{{Name: "a"}, {Name: "b"}} }

// podKinds are what is compared in a pod's namespace: not its sysctls, which end with it.
func podKinds() []string {
	return []string{
		snapshot.Link, snapshot.Address, snapshot.Route, snapshot.Rule, snapshot.Neighbour, snapshot.Qdisc, snapshot.Nftables, snapshot.Iptables,
	}
}

// freshPod is the state of a pod's namespace to which nothing was done yet.
func freshPod(ctx context.Context, node *cluster.Node) (snapshot.State, error) {
	const name = "fresh"
	path, err := node.Agent.CreateNamespace(ctx, name)
	if err != nil {
		return snapshot.State{}, err
	}
	state, err := podState(ctx, node, path)
	return state, errors.Join(err, node.Agent.RemoveNamespace(ctx, name))
}

func podState(ctx context.Context, node *cluster.Node, path string) (snapshot.State, error) {
	state, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: podKinds(), Namespaces: map[string]string{"pod": path}})
	state.Items = slices.DeleteFunc(state.Items, func(i snapshot.Item) bool { return i.Scope != "pod" })
	return state, err
}

// key names a thing wherever it appears.
func key(i snapshot.Item) string { return i.Scope + "|" + i.Kind + "|" + i.Name }

// learn notes after whose call things appeared or changed for the first time.
func (n *nodeState) learn(plugin string, changes []snapshot.Change) {
	for _, c := range changes {
		if _, known := n.makers[key(c.Item)]; !known && c.Op != snapshot.Removed {
			n.makers[key(c.Item)] = plugin
		}
	}
}

func (n *nodeState) maker(c snapshot.Change) string {
	if plugin, ok := n.makers[key(c.Item)]; ok {
		return plugin
	}
	return report.Chain
}

// residue is what the first attachment leaves on a node and later ones do not add to: a shared link, a lock file. It is reported
// apart from what grows with each attachment.
type residue struct {
	// counts are how many there are by key: the rules of one priority and the processes of one command share theirs.
	counts map[string]int
	list   []report.Residue
}

// beyond are the changes that are not of the residue.
func (f *residue) beyond(changes []snapshot.Change) []snapshot.Change {
	seen := map[string]int{}
	return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool {
		seen[key(c.Item)]++
		return f != nil && seen[key(c.Item)] <= f.counts[key(c.Item)]
	})
}

// residueOf attaches and deletes a pod on each node of a fresh cluster, and then another one. What the first leaves is residue,
// unless the second leaves more of its kind. It is found once for each cluster that scenarios ask for.
func (s *Suite) residueOf(ctx context.Context, nodes []scenario.Node, chain scenario.Chain, networks []string) (*residue, error) {
	id, err := json.Marshal([]any{nodes, chain, networks})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	found, known := s.residues[string(id)]
	s.mu.Unlock()
	if known {
		return found, nil
	}
	c, err := s.options.Backend.Start(ctx, s.request(nodes, chain))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if found, err = s.findResidue(ctx, c, nodes, networks); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.residues[string(id)] = found
	return found, nil
}

func (s *Suite) findResidue(ctx context.Context, c cluster.Cluster, nodes []scenario.Node, networks []string) (*residue, error) {
	story := &scenario.Scenario{Name: "first-attachment", Nodes: nodes}
	for _, n := range nodes {
		for _, round := range []string{"first", "second"} {
			for i, network := range networks {
				story.Pods = append(story.Pods, scenario.Pod{Name: fmt.Sprintf("%s-%d-on-%s", round, i, n.Name), Node: n.Name, Network: network})
			}
		}
	}
	r := newRun(s, story, c)
	r.traced = append(r.traced, snapshot.Sysctl, snapshot.Mount, snapshot.Qdisc)
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	found := &residue{counts: map[string]int{}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range c.Nodes() {
		group.Go(func() error {
			pods := r.pods[2*len(networks)*i:][:2*len(networks)]
			first := r.cycle(ctx, node, pods[:len(networks)], nil)
			expected := &residue{counts: map[string]int{}}
			for _, change := range first {
				expected.counts[key(change.Item)]++
			}
			type source struct{ plugin, kind string }
			grows := map[source]bool{}
			for _, change := range r.cycle(ctx, node, pods[len(networks):], expected) {
				grows[source{r.nodes[node.Name].maker(change), change.Item.Kind}] = true
			}
			mu.Lock()
			defer mu.Unlock()
			own := map[string]int{}
			for _, change := range first {
				plugin, id := r.nodes[node.Name].maker(change), key(change.Item)
				if grows[source{plugin, change.Item.Kind}] {
					continue
				}
				if own[id]++; own[id] <= found.counts[id] {
					continue // another node has it too
				}
				found.counts[id]++
				found.list = append(found.list, report.Residue{
					Plugin: plugin, Item: change.Item.Kind + " " + change.Item.Name, Change: change.String(),
				})
			}
			return nil
		})
	}
	return found, group.Wait()
}

// cycle attaches and deletes pods and returns what differs from the start then. Whether attaching works is for the scenarios to say.
func (r *run) cycle(ctx context.Context, node *cluster.Node, pods []*pod, expected *residue) []snapshot.Change {
	var all sync.WaitGroup
	for _, p := range pods {
		all.Go(func() {
			_ = r.add(ctx, p, scenario.DefaultInterface)
			_ = r.del(ctx, p, scenario.DefaultInterface, "", "")
			_ = r.removeNamespace(ctx, p)
		})
	}
	all.Wait()
	return r.changes(ctx, node, expected)
}

// changes are what differs on a node from its state before the first step, beyond the residue. It waits until nothing does, or
// until nothing changes any more.
func (r *run) changes(ctx context.Context, node *cluster.Node, expected *residue) []snapshot.Change {
	take := func(ctx context.Context) (snapshot.State, error) {
		return node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	changes, err := snapshot.Settle(ctx, take, r.nodes[node.Name].before, expected.beyond)
	if err != nil {
		r.note("%s: %v", node.Name, err)
	}
	return changes
}

// deleteAll deletes whatever is attached, twice, and looks at what stays in the pods' namespaces in between.
func (r *run) deleteAll(ctx context.Context) (left []leftover, err error) {
	var errs []error
	for _, p := range r.pods {
		for _, name := range slices.Sorted(maps.Keys(p.attached)) {
			for range 2 {
				if err := r.del(ctx, p, name, "", ""); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	for _, p := range r.pods {
		if !p.exists {
			continue
		}
		state := r.nodes[p.node.Name]
		now, err := podState(ctx, p.node, p.Netns)
		if err != nil {
			return left, err
		}
		for _, c := range snapshot.Diff(state.pod, now) {
			if p.spec.Redirect != nil && strings.Contains(c.Item.Name, agent.FirewallTable) {
				continue // the lab's own
			}
			left = append(left, leftover{r.scenario.Name, p.Name, state.maker(c), c.String()})
		}
		if err := r.removeNamespace(ctx, p); err != nil {
			return left, err
		}
	}
	return left, errors.Join(errs...)
}

// cleanUp deletes everything, compares each node with how it was, and keeps the difference for the result at the end. A DEL
// that fails here fails the scenario.
func (r *run) cleanUp(ctx context.Context, result *report.Result) {
	if len(r.flows) > 0 {
		_ = r.stopFlows(ctx, scenario.Stop{})
	}
	before := len(r.calls)
	left, err := r.deleteAll(ctx)
	// A chain's DEL ends at the first plugin that fails (SPEC.md, section 3): what those before it left is its fault.
	culprit := ""
	var halted *cni.Error
	if errors.As(err, &halted) {
		culprit = halted.Plugin
	}
	if err != nil && result.Result == report.Pass {
		result.Result, result.Reason = report.Fail, fmt.Sprintf("when everything was deleted twice at the end: %v", err)
		result.Evidence = r.callEvidence(before)
		result.Plugin = cmp.Or(culprit, result.Plugin)
	}
	if result.Result == report.KnownUpstream {
		return
	}
	for _, s := range r.services {
		s.endpoints = s.spec.Endpoints
	}
	if err := r.syncServices(ctx); err != nil {
		r.note("%v", err)
	}
	for _, node := range r.cluster.Nodes() {
		changes, err := r.growth(ctx, node)
		if err != nil {
			r.note("%s: %v", node.Name, err)
		}
		for _, c := range changes {
			left = append(left, leftover{r.scenario.Name, node.Name, cmp.Or(culprit, r.nodes[node.Name].maker(c)), c.String()})
		}
	}
	r.suite.keepLeftovers(left)
}

// growth is what differs on a node beyond what a first attachment leaves. What it leaves on two plain nodes is known from the start;
// only where there is more it is looked for on a cluster of the scenario's own kind.
func (r *run) growth(ctx context.Context, node *cluster.Node) ([]snapshot.Change, error) {
	common, err := r.suite.residueOf(ctx, plainNodes(), scenario.Chain{}, []string{""})
	if err != nil {
		return nil, err
	}
	changes := r.changes(ctx, node, common)
	if len(changes) == 0 {
		return nil, nil
	}
	particular, err := r.suite.residueOf(ctx, r.scenario.Nodes, r.scenario.Chain, r.networks())
	if err != nil {
		return nil, err
	}
	// The kernel takes down what was in a removed namespace some time after its end, longer on a busy machine.
	deadline := time.Now().Add(2 * time.Second)
	for changes = particular.beyond(changes); len(changes) > 0 && time.Now().Before(deadline); {
		changes = particular.beyond(r.changes(ctx, node, common))
	}
	return changes, nil
}

// networks are those that the scenario's pods are attached to.
func (r *run) networks() []string {
	var kinds []string
	for _, p := range r.scenario.Pods {
		kinds = append(kinds, p.Network)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func (s *Suite) keepLeftovers(left []leftover) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leftRuns++
	s.leftovers = append(s.leftovers, left...)
}

// leavesNothing is one result for each plugin of the chain, with what stayed behind after its calls.
func (s *Suite) leavesNothing() []report.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	byPlugin := map[string][]leftover{}
	for _, p := range s.report.Implementation.Plugins {
		byPlugin[p.Type] = nil
	}
	for _, l := range s.leftovers {
		byPlugin[l.plugin] = append(byPlugin[l.plugin], l)
	}
	var results []report.Result
	for _, plugin := range slices.Sorted(maps.Keys(byPlugin)) {
		result := report.Result{
			ID: leavesNothingID, Kind: "requirement", Plugin: plugin, Level: report.Must, Result: report.Pass, Covers: []string{"DEL-1", "E07"},
		}
		left := byPlugin[plugin]
		switch {
		case s.leftRuns == 0:
			result.Result, result.Reason = report.Skipped, "no scenario was run to its end"
		case len(left) > 0:
			result.Result = report.Fail
			first := left[0]
			result.Reason = fmt.Sprintf("%d things stayed behind after everything was deleted twice; first in %s on %s: %s",
				len(left), first.scenario, first.node, first.change)
			var lines []string
			for _, l := range left {
				lines = append(lines, fmt.Sprintf("%s %s: %s", l.scenario, l.node, l.change))
			}
			result.Evidence = []report.Evidence{{Title: "left behind", Text: strings.Join(lines, "\n")}}
		}
		results = append(results, result)
	}
	return results
}
