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
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// leavesNothingID is the result that says whether every node looked as before once all was deleted.
const leavesNothingID = contract.LeavesNothing

// leftover is something that a scenario left on a node after everything was deleted twice.
type leftover struct {
	scenario, node, plugin, change string
}

// plainNodes are those of the cluster that every run begins with.
func plainNodes() []scenario.Node { return []scenario.Node{{Name: "a"}, {Name: "b"}} }

// canStay reports whether a change can be residue: something new, or a change that is declared apart with its reason. What stood on
// the node before the first pod and is gone or different is damage.
func canStay(c snapshot.Change) bool {
	switch {
	case c.Op == snapshot.Added:
		return true
	case c.Op == snapshot.Changed && c.Item.Kind == snapshot.Sysctl:
		// Settings of a node that a plugin needs are listed as its side effects (failure mode I07).
		return true
	case c.Op == snapshot.Changed && c.Item.Kind == snapshot.Link:
		// A link is promiscuous as long as a child with a MAC of its own stands on it.
		return withoutPromiscuity(c.Before) == withoutPromiscuity(c.Item.Text)
	case c.Op == snapshot.Changed && c.Item.Kind == snapshot.File:
		// Where pods of others run, an allocator's record of where it goes on is there already.
		return strings.HasPrefix(c.Item.Name, cni.CacheDir+"/")
	}
	return false
}

func withoutPromiscuity(text string) string {
	words := strings.Fields(text)
	if i := slices.Index(words, "promiscuity"); i >= 0 && i+1 < len(words) {
		words = slices.Delete(words, i, i+2)
	}
	return strings.Join(words, " ")
}

// residue is what the first attachment leaves on a node and later ones do not add to: a shared link, a lock file. It is reported
// apart from what grows with each attachment.
type residue struct {
	// counts are how many there are by key: the rules of one priority and the processes of one command share theirs.
	counts map[string]int
	list   []report.Residue
	// makers are the plugins after whose calls things changed, by their keys: here all kinds of state are traced.
	makers map[string]string
}

// maker is the plugin that had a hand in a change when the residue was searched for; the chain where none was seen.
func (f *residue) maker(c snapshot.Change) string {
	return cmp.Or(f.makers[c.Item.Key()], report.Chain)
}

// beyond are the changes that are not of the residue.
func (f *residue) beyond(changes []snapshot.Change) []snapshot.Change {
	seen := map[string]int{}
	return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool {
		seen[c.Key()]++
		return f != nil && seen[c.Key()] <= f.counts[c.Key()]
	})
}

// residueOf attaches and deletes a pod on each node of a fresh cluster, and then another one. What the first leaves is residue,
// unless the second leaves more of its kind. It is found once for each cluster that scenarios ask for.
func (s *Suite) residueOf(ctx context.Context, nodes []scenario.Node, chain scenario.Chain, networks []string) (*residue, error) {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		// Nobody asks them, and on machines that exist once their ports may be taken still.
		nodes[i].Listen = nil
	}
	id, err := json.Marshal([]any{nodes, chain, networks})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	known, ok := s.residues[string(id)]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	// Scenarios that run at once ask for the same.
	found, err, _ := s.searches.Do(string(id), func() (any, error) {
		c, err := s.options.Backend.Start(ctx, s.request(nodes, chain))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		found, err := s.findResidue(ctx, c, nodes, networks)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.residues[string(id)] = found
		return found, nil
	})
	if err != nil {
		return nil, err
	}
	return found.(*residue), nil
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
	found := &residue{counts: map[string]int{}, makers: map[string]string{}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range c.Nodes() {
		group.Go(func() error {
			pods := r.env.Pods[2*len(networks)*i:][:2*len(networks)]
			first, err := r.cycle(ctx, node, pods[:len(networks)], nil)
			if err != nil {
				return err
			}
			expected := &residue{counts: map[string]int{}}
			for _, change := range first {
				expected.counts[change.Key()]++
			}
			type source struct{ plugin, kind string }
			grows := map[source]bool{}
			second, err := r.cycle(ctx, node, pods[len(networks):], expected)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, change := range slices.Concat(first, second) {
				found.makers[change.Item.Key()] = r.env.States[node.Name].Maker(change)
			}
			for _, change := range second {
				grows[source{r.env.States[node.Name].Maker(change), change.Item.Kind}] = true
			}
			own := map[string]int{}
			for _, change := range first {
				plugin, id := r.env.States[node.Name].Maker(change), change.Key()
				if grows[source{plugin, change.Item.Kind}] || !canStay(change) {
					continue
				}
				if own[id]++; own[id] <= found.counts[id] {
					continue // another node has it too
				}
				found.counts[id]++
				found.list = append(found.list, report.Residue{Plugin: plugin, Item: residueName(change), Change: change.String()})
			}
			return nil
		})
	}
	return found, group.Wait()
}

// residueName is a thing that came by its name, one that changed by how, unless it is a file, of which sums tell nobody anything.
func residueName(c snapshot.Change) string {
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
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s -> %s", c.Item.Kind, c.Item.Name, strings.Join(was, " "), strings.Join(is, " ")))
}

// cycle attaches and deletes pods and returns what differs from the start then. Whether attaching works is for the scenarios to say.
func (r *run) cycle(ctx context.Context, node *cluster.Node, pods []*environment.Pod, expected *residue) ([]snapshot.Change, error) {
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
func (r *run) changes(ctx context.Context, node *cluster.Node, expected *residue) ([]snapshot.Change, error) {
	take := func(ctx context.Context) (snapshot.State, error) {
		return node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
	}
	limit := 5 * time.Second
	if cluster.IsExclusive(r.suite.options.Backend) {
		limit = time.Minute // machines that are emulated are slow to look at
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	changes, err := snapshot.Settle(ctx, take, r.env.States[node.Name].Before, expected.beyond)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", node.Name, err)
	}
	return changes, nil
}

// deleteAll deletes whatever is attached, twice, and looks at what stays in the pods' namespaces in between.
func (r *run) deleteAll(ctx context.Context) (left []leftover, err error) {
	var errs []error
	for _, p := range r.env.Pods {
		for _, name := range p.Attached() {
			for range 2 {
				if err := r.del(ctx, p, name, "", ""); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	for _, p := range r.env.Pods {
		if !p.Exists {
			continue
		}
		state := r.env.States[p.Node.Name]
		now, err := environment.TakePod(ctx, p.Node, p.Netns)
		if err != nil {
			return left, err
		}
		for _, c := range snapshot.Diff(state.FreshPod, now) {
			if p.Spec.Redirect != nil && strings.Contains(c.Item.Name, agent.FirewallTable) {
				continue // the lab's own
			}
			left = append(left, leftover{r.env.Scenario.Name, p.Name, state.Maker(c), c.String()})
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
	switch err := r.checkDaemons(ctx); {
	case err != nil && result.Result == report.Pass:
		result.Result, result.Reason, result.Evidence = report.Fail, err.Error(), r.daemonEvidence(ctx)
	case err != nil && result.Result == report.Fail:
		result.Reason += "; " + err.Error()
	}
	before := len(r.calls)
	left, err := r.deleteAll(ctx)
	// A chain's DEL ends at the first plugin that fails (SPEC.md, section 3): what those before it left is its fault.
	culprit := ""
	var halted *cni.Error
	if errors.As(err, &halted) {
		culprit = halted.Plugin
		for i := range left {
			left[i].plugin = culprit
		}
	}
	if err != nil && result.Result == report.Pass {
		result.Result, result.Reason = report.Fail, fmt.Sprintf("when everything was deleted twice at the end: %v", err)
		result.Evidence = r.callEvidence(before)
		result.Plugin = cmp.Or(culprit, result.Plugin)
	}
	if result.Result == report.KnownUpstream {
		return // what a chain leaves that cannot work says nothing about the plugins under test
	}
	for _, s := range r.env.Services {
		s.Endpoints = s.Spec.Endpoints
	}
	if err := errors.Join(r.syncServices(ctx), r.restoreClouds(ctx)); err != nil {
		r.suite.keepUncompared(r.env.Scenario.Name, err)
	}
	for _, g := range r.growths(ctx) {
		if g.err != nil {
			r.suite.keepUncompared(r.env.Scenario.Name, g.err)
		}
		for _, c := range g.changes {
			maker := cmp.Or(culprit, r.env.States[g.node.Name].Maker(c))
			if maker == report.Chain {
				maker = g.common.maker(c)
			}
			left = append(left, leftover{r.env.Scenario.Name, g.node.Name, maker, c.String()})
		}
	}
	if ctx.Err() != nil {
		return // what was still to go is no leftover
	}
	r.suite.keepLeftovers(left)
}

// growth is what differs on a node beyond what a first attachment leaves.
type growth struct {
	node    *cluster.Node
	changes []snapshot.Change
	common  *residue
	err     error
}

// growths are those of all nodes. What a first attachment leaves on two plain nodes is known from the start; only where there is more it is
// looked for on a cluster of the scenario's own kind, after all nodes were looked at: on machines that exist once that cluster undoes what is on them.
func (r *run) growths(ctx context.Context) []*growth {
	var all []*growth
	for _, node := range r.env.Cluster.Nodes() {
		g := &growth{node: node}
		if g.common, g.err = r.suite.residueOf(ctx, plainNodes(), scenario.Chain{}, []string{""}); g.err == nil {
			g.changes, g.err = r.changes(ctx, node, g.common)
		}
		if g.err == nil && cluster.IsExclusive(r.suite.options.Backend) {
			g.err = r.settleGrowth(ctx, g, nil)
		}
		all = append(all, g)
	}
	for _, g := range all {
		if g.err != nil || len(g.changes) == 0 {
			continue
		}
		particular, err := r.suite.residueOf(ctx, r.env.Scenario.Nodes, r.env.Scenario.Chain, r.networks())
		switch {
		case err != nil:
			g.changes, g.err = nil, err
		case cluster.IsExclusive(r.suite.options.Backend):
			g.changes = particular.beyond(g.changes)
		default:
			g.err = r.settleGrowth(ctx, g, particular)
		}
	}
	return all
}

// settleGrowth waits until nothing is left beyond a residue: the kernel takes down what was in a removed namespace some time after its end,
// longer on a busy machine.
func (r *run) settleGrowth(ctx context.Context, g *growth, particular *residue) error {
	deadline := time.Now().Add(2 * time.Second)
	left := particular.beyond(g.changes)
	for len(left) > 0 && time.Now().Before(deadline) {
		changes, err := r.changes(ctx, g.node, g.common)
		if err != nil {
			g.changes = nil
			return err
		}
		left = particular.beyond(changes)
	}
	g.changes = left
	return nil
}

// networks are those that the scenario's pods are attached to.
func (r *run) networks() []string {
	var kinds []string
	for _, p := range r.env.Scenario.Pods {
		kinds = append(kinds, p.Network)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// keepUncompared remembers that a node could not be compared with how it was.
func (s *Suite) keepUncompared(scenario string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncompared = append(s.uncompared, fmt.Sprintf("%s: %v", scenario, err))
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
	if !slices.ContainsFunc(s.report.Results, func(r report.Result) bool { return r.Kind == "scenario" }) {
		return nil // requirements alone were asked for
	}
	byPlugin := map[string][]leftover{}
	// What an IPAM plugin leaves appears after the call of the plugin that delegates to it, and is laid at its door.
	for _, p := range s.file.Plugins {
		byPlugin[p.Type] = nil
	}
	for _, l := range s.leftovers {
		byPlugin[l.plugin] = append(byPlugin[l.plugin], l)
	}
	var results []report.Result
	for _, plugin := range slices.Sorted(maps.Keys(byPlugin)) {
		result := report.Result{
			ID: leavesNothingID, Kind: "requirement", Plugin: plugin, Level: report.Must, Result: report.Pass, Covers: contract.Find(leavesNothingID).Covers,
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
		case len(s.uncompared) > 0:
			result.Result = report.Skipped
			result.Reason = "nodes could not be compared with how they were: " + strings.Join(s.uncompared, "; ")
		}
		results = append(results, result)
	}
	return results
}
