// Package residue finds what stays on a node after everything was deleted, and which plugin left it.
//
// What a first attachment leaves and later ones do not add to, such as a shared link, is residue, which the report
// lists apart. What a scenario leaves beyond that is a leftover, and fails the requirement that nothing may stay.
//
// Run its tests: go test ./e2e/internal/residue
package residue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// Config says how a tracker gets clusters.
type Config struct {
	// Start starts a cluster. The caller closes it.
	Start func(ctx context.Context, nodes []scenario.Node, chain scenario.Chain) (cluster.Cluster, error)
	// Runner is the configuration of the scenarios' runners.
	Runner runner.Config
	// Shared says that the backend uses machines that exist: starting a cluster undoes what is on them.
	Shared bool
}

// Tracker keeps, for all scenarios of a run, what a first attachment leaves and what scenarios left. Its methods may be
// called concurrently.
type Tracker struct {
	config   Config
	searches singleflight.Group

	mu         sync.Mutex
	residues   map[string]*residue // by the cluster and the networks that they were found on
	leftovers  []leftover
	uncompared []uncompared
	compared   map[string]bool // the scenarios that were looked at
}

// leftover is an item or a change that a scenario left on a node after everything was deleted twice.
type leftover struct {
	scenario, node, plugin string
	change                 snapshot.Change
}

// uncompared is a scenario after which a node could not be compared with its state before, and the reason.
type uncompared struct{ scenario, why string }

// New returns an empty tracker.
func New(config Config) *Tracker {
	return &Tracker{config: config, residues: map[string]*residue{}, compared: map[string]bool{}}
}

// First attaches a first pod on each of two plain nodes, to find what it leaves, unless that is known.
func (t *Tracker) First(ctx context.Context) error {
	_, err := t.residueOf(ctx, environment.PlainNodes(), scenario.Chain{}, plainly())
	return err
}

// Known returns what a first attachment leaves on a plain node, and whether that was found.
func (t *Tracker) Known() (list []report.Residue, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, known := t.residues[idOf(environment.PlainNodes(), scenario.Chain{}, plainly())]
	if known {
		list = found.list
	}
	return list, known
}

// plainly is the list of networks of a pod that is attached to the conflist alone.
func plainly() []string { return []string{""} }

// CleanUp deletes everything that a scenario attached, twice, and keeps the differences of each node from its state
// before the first step, unless ignore is set. It returns the failure of a DEL; nil if all succeeded.
func (t *Tracker) CleanUp(ctx context.Context, r *runner.Runner, ignore bool) (failure *environment.Failure) {
	name := r.Env.Scenario.Name
	before := r.Calls()
	left, err := t.deleteAll(ctx, r)
	// DEL of a chain ends at the first plugin that fails (SPEC.md, section 3): it is the fault of that plugin if the
	// plugins before it left something.
	culprit := ""
	var halted *cni.Error
	if errors.As(err, &halted) {
		culprit = cmp.Or(r.Halted(), halted.Plugin)
		for i := range left {
			left[i].plugin = culprit
		}
	}
	if err != nil {
		failure = &environment.Failure{
			Err: fmt.Errorf("when everything was deleted twice at the end: %w", err), Plugin: culprit,
			Evidence: r.CallEvidence(before),
		}
		failure.Explain(r.Explain(ctx, err))
	}
	if ignore {
		return failure
	}
	if err := errors.Join(r.ResetServices(ctx), r.RestoreClouds(ctx), r.UndoEvents(ctx)); err != nil {
		t.keepUncompared(name, err)
	}
	for _, d := range t.differences(ctx, r) {
		if d.err != nil {
			t.keepUncompared(name, d.err)
		}
		for _, c := range d.changes {
			maker := cmp.Or(culprit, r.Env.States[d.node.Name].Maker(c))
			if maker == report.Chain {
				maker = d.common.maker(c)
			}
			left = append(left, leftover{name, d.node.Name, maker, c})
		}
	}
	if ctx.Err() == nil { // else what was still to go is no leftover
		t.keepLeftovers(name, left)
	}
	return failure
}

// deleteAll deletes every attachment, twice, and returns what stays in the pods' namespaces, which it then removes. The
// pods of a node come one after the other, the nodes at the same time.
func (t *Tracker) deleteAll(ctx context.Context, r *runner.Runner) (left []leftover, err error) {
	var nodes []*cluster.Node
	on := map[*cluster.Node][]*environment.Pod{}
	for _, p := range r.Env.Pods {
		if on[p.Node] == nil {
			nodes = append(nodes, p.Node)
		}
		on[p.Node] = append(on[p.Node], p)
	}
	stays, errs := make([][]leftover, len(nodes)), make([]error, len(nodes))
	var all sync.WaitGroup
	for i, node := range nodes {
		pods := on[node]
		all.Go(func() {
			deleted := deleteTwice(ctx, r, pods)
			var removed error
			stays[i], removed = removeNamespaces(ctx, r, pods)
			errs[i] = errors.Join(deleted, removed)
		})
	}
	all.Wait()
	return slices.Concat(stays...), errors.Join(errs...)
}

// deleteTwice deletes every attachment of pods, twice.
func deleteTwice(ctx context.Context, r *runner.Runner, pods []*environment.Pod) error {
	var errs []error
	for _, p := range pods {
		for _, name := range p.Attached() {
			for range 2 {
				if err := r.Del(ctx, p, name, runner.Deletion{}); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// removeNamespaces removes the namespaces of pods that have one, and returns what was left in them.
func removeNamespaces(ctx context.Context, r *runner.Runner, pods []*environment.Pod) (left []leftover, err error) {
	for _, p := range pods {
		if !p.Exists {
			continue
		}
		state := r.Env.States[p.Node.Name]
		now, err := environment.TakePod(ctx, p.Node, p.Netns)
		if err != nil {
			return left, err
		}
		for _, c := range snapshot.Diff(state.FreshPod, now) {
			if p.Spec.Redirect != nil && strings.Contains(c.Item.Name, agent.FirewallTable) {
				continue // the lab's own
			}
			left = append(left, leftover{r.Env.Scenario.Name, p.Name, state.Maker(c), c})
		}
		if err := r.RemoveNamespace(ctx, p); err != nil {
			return left, err
		}
	}
	return left, nil
}

// keepUncompared records that a node could not be compared with its state before the scenario.
func (t *Tracker) keepUncompared(scenario string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uncompared = append(t.uncompared, uncompared{scenario, err.Error()})
}

// Left says what a scenario left, or why a node could not be compared, a line for each; empty if neither is so.
func (t *Tracker) Left(scenario string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, l := range t.leftovers {
		if l.scenario == scenario {
			lines = append(lines, l.node+" "+l.plugin+" "+l.change.String())
		}
	}
	for _, u := range t.uncompared {
		if u.scenario == scenario {
			lines = append(lines, u.why)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Forget forgets a scenario, which runs again.
func (t *Tracker) Forget(scenario string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.compared, scenario)
	t.leftovers = slices.DeleteFunc(t.leftovers, func(l leftover) bool { return l.scenario == scenario })
	t.uncompared = slices.DeleteFunc(t.uncompared, func(u uncompared) bool { return u.scenario == scenario })
}

// Dismiss drops what a scenario was seen to leave, if anything. why says that nobody can know what left it.
func (t *Tracker) Dismiss(scenario, why string) {
	if t.Left(scenario) == "" {
		return
	}
	t.Forget(scenario)
	t.keepUncompared(scenario, errors.New(why))
}

func (t *Tracker) keepLeftovers(scenario string, left []leftover) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.compared[scenario] = true
	t.leftovers = append(t.leftovers, left...)
}

// Compared reports whether any scenario ran to its end.
func (t *Tracker) Compared() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.compared)+len(t.uncompared) > 0
}

// cause returns the change that a reader should see first: that of a link, since its addresses and routes go with it.
func cause(left []leftover) leftover {
	isLink := func(l leftover) bool { return l.change.Item.Kind == snapshot.Link }
	return left[max(0, slices.IndexFunc(left, isLink))]
}

// Results returns a result for each plugin of the chain, and for each other plugin that left something. An item of an
// IPAM plugin appears after the call of the plugin that delegates to it, and counts as left by that one. The results
// are copies of like, which has the id.
func (t *Tracker) Results(like report.Result, plugins []string) []report.Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	byPlugin := map[string][]leftover{}
	for _, p := range plugins {
		byPlugin[p] = nil
	}
	for _, l := range t.leftovers {
		byPlugin[l.plugin] = append(byPlugin[l.plugin], l)
	}
	var reasons []string
	for _, u := range t.uncompared {
		reasons = append(reasons, u.scenario+": "+u.why)
	}
	var results []report.Result
	for _, plugin := range slices.Sorted(maps.Keys(byPlugin)) {
		result := like
		result.Plugin, result.Result = plugin, report.Pass
		left := byPlugin[plugin]
		switch {
		case len(t.compared) == 0 && len(t.uncompared) == 0:
			result.Result, result.Reason = report.Skipped, "no scenario ran to its end"
		case len(left) > 0:
			result.Result = report.Fail
			first := cause(left)
			result.Reason = fmt.Sprintf("%d objects stayed behind after everything was deleted twice; first in %s on "+
				"%s: %s",
				len(left), first.scenario, first.node, first.change)
			var lines []string
			for _, l := range left {
				lines = append(lines, fmt.Sprintf("%s %s: %s", l.scenario, l.node, l.change))
			}
			result.Evidence = []report.Evidence{{Title: "left behind", Text: strings.Join(lines, "\n")}}
		case len(t.uncompared) > 0:
			result.Result = report.Skipped
			result.Reason = "nodes could not be compared with their earlier state: " + strings.Join(reasons, "; ")
		}
		results = append(results, result)
	}
	return results
}
