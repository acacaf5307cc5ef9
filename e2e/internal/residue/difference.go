package residue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// difference is the difference between a node and its state before the first step, without what a first attachment
// leaves.
type difference struct {
	node    *cluster.Node
	changes []snapshot.Change
	common  *residue
	err     error
}

// differences returns the differences of all nodes. What a first attachment leaves on two plain nodes is known from the
// start. If there is more, it looks for what a first attachment leaves on a cluster of the scenario's own kind, but
// only after it looked at all nodes: on machines that exist, that cluster undoes what is on them.
func (t *Tracker) differences(ctx context.Context, r *runner.Runner) []*difference {
	var all []*difference
	for _, node := range r.Env.Cluster.Nodes() {
		d := &difference{node: node}
		if d.common, d.err = t.residueOf(ctx, environment.PlainNodes(), scenario.Chain{}, plainly()); d.err == nil {
			d.changes, d.err = t.changes(ctx, r, node, d.common)
		}
		if d.err == nil && t.config.Shared {
			d.err = t.settle(ctx, r, d, nil)
		}
		all = append(all, d)
	}
	for _, d := range all {
		if d.err != nil || len(d.changes) == 0 {
			continue
		}
		sc := r.Env.Scenario
		particular, err := t.residueOf(ctx, sc.Nodes, sc.Chain, networks(sc))
		switch {
		case err != nil:
			d.changes, d.err = nil, err
		case t.config.Shared:
			d.changes = particular.beyond(d.changes)
		default:
			d.err = t.settle(ctx, r, d, particular)
		}
	}
	return all
}

// takenDown is how long the kernel may need to remove the contents of a removed namespace.
const takenDown = 2 * time.Second

// settle waits until only residue is left: the kernel removes the contents of a namespace some time after its end, and
// later on a busy machine.
func (t *Tracker) settle(ctx context.Context, r *runner.Runner, d *difference, particular *residue) error {
	interval := machinetime.Start()
	left := particular.beyond(d.changes)
	for len(left) > 0 && interval.Given() < takenDown {
		changes, err := t.changes(ctx, r, d.node, d.common)
		if err != nil {
			d.changes = nil
			return err
		}
		left = particular.beyond(changes)
	}
	d.changes = left
	return nil
}

// changes returns the changes of a node against its state before the first step that are not residue. It waits until
// there are none, or until they stay the same.
func (t *Tracker) changes(ctx context.Context, r *runner.Runner, node *cluster.Node,
	known *residue,
) ([]snapshot.Change, error) {
	take := func(ctx context.Context) (snapshot.State, error) {
		return node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
	}
	limit := 5 * time.Second
	if t.config.Shared {
		limit = time.Minute // emulated machines are slow to examine
	}
	ctx, cancel := machinetime.WithTimeout(ctx, limit)
	defer cancel()
	changes, err := snapshot.Settle(ctx, take, r.Env.States[node.Name].Before, known.beyond)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", node.Name, err)
	}
	return changes, nil
}

// networks returns the networks that the pods of a scenario are attached to.
func networks(sc *scenario.Scenario) []string {
	var kinds []string
	for _, p := range sc.Pods {
		if len(p.Networks) == 0 {
			kinds = append(kinds, p.Network)
		}
		for ifName := range p.Networks {
			kinds = append(kinds, p.On(ifName))
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
