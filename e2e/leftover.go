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

// residue is what the first attachment leaves on every node and later ones do not add to: a shared link, a lock file. It is
// reported apart from what grows with each attachment.
type residue struct {
	keys map[string]bool
	list []report.Residue
}

func residueKey(chain scenario.Chain) string {
	text, err := json.Marshal(chain)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// findResidue attaches and deletes a pod on each of two nodes, which differ in all that belongs to an attachment: address,
// MAC, container id, names. What both keep belongs to none.
func findResidue(ctx context.Context, s *Suite, c cluster.Cluster) (*residue, error) {
	r := newRun(s, &scenario.Scenario{
		Name:  "first-attachment",
		Nodes: []scenario.Node{{Name: "a"}, {Name: "b"}},
		Pods:  []scenario.Pod{{Name: "on-a", Node: "a"}, {Name: "on-b", Node: "b"}},
	}, c)
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	for _, p := range r.pods {
		// Whether attaching works is for the scenarios to say.
		_ = r.add(ctx, p, scenario.DefaultInterface)
	}
	_, _ = r.deleteAll(ctx)
	found := &residue{keys: map[string]bool{}}
	var first []string
	for i, node := range c.Nodes() {
		var here []string
		for _, change := range r.changes(ctx, node, found) {
			here = append(here, key(change.Item))
			if i == 0 || !slices.Contains(first, key(change.Item)) {
				continue
			}
			found.keys[key(change.Item)] = true
			found.list = append(found.list, report.Residue{
				Plugin: r.nodes[node.Name].maker(change), Item: change.Item.Kind + " " + change.Item.Name, Change: change.String(),
			})
		}
		if i == 0 {
			first = here
		}
	}
	return found, nil
}

// residueOf is what a chain leaves, found once for each chain that scenarios make of the conflist.
func (s *Suite) residueOf(ctx context.Context, chain scenario.Chain) (*residue, error) {
	id := residueKey(chain)
	s.mu.Lock()
	found, known := s.residues[id]
	s.mu.Unlock()
	if known {
		return found, nil
	}
	c, err := s.options.Backend.Start(ctx, s.request([]scenario.Node{{Name: "a"}, {Name: "b"}}, chain))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if found, err = findResidue(ctx, s, c); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.residues[id] = found
	return found, nil
}

// changes are what differs on a node from its state before the first step, beyond the residue. It waits until nothing does, or
// until nothing changes any more.
func (r *run) changes(ctx context.Context, node *cluster.Node, expected *residue) []snapshot.Change {
	take := func(ctx context.Context) (snapshot.State, error) {
		return node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	changes, err := snapshot.Settle(ctx, take, r.nodes[node.Name].before, func(c snapshot.Change) bool { return expected.keys[key(c.Item)] })
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
	expected, err := r.suite.residueOf(ctx, r.scenario.Chain)
	if err != nil {
		r.suite.keepLeftovers(append(left, leftover{r.scenario.Name, "", report.Chain, err.Error()}))
		return
	}
	found := make([][]leftover, len(r.cluster.Nodes()))
	var group errgroup.Group
	for i, node := range r.cluster.Nodes() {
		group.Go(func() error {
			for _, c := range r.changes(ctx, node, expected) {
				found[i] = append(found[i], leftover{r.scenario.Name, node.Name, cmp.Or(culprit, r.nodes[node.Name].maker(c)), c.String()})
			}
			return nil
		})
	}
	_ = group.Wait()
	r.suite.keepLeftovers(slices.Concat(append(found, left)...))
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
