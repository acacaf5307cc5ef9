package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/lab/event"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// events records what happened to nodes.
type events struct {
	others map[string][]netip.Addr // what takes the place of a node's addresses, by node
	former map[string][]netip.Addr // the addresses that a node had at the start, if it has others now
	since  map[string]*aftermath   // by node, until the next recovery
}

// aftermath is what a recovery compares with.
type aftermath struct {
	before snapshot.State // when the first event happened
	names  []string
}

// String returns the events in words.
func (a *aftermath) String() string { return strings.Join(a.names, " and ") }

// rehearseEvents makes each event of the scenario happen before any pod is attached. What a node has lost then is the
// lab's fault: its error is a failure of the lab.
func (r *Runner) rehearseEvents(ctx context.Context) error {
	for _, node := range r.Env.Cluster.Nodes() {
		var names []string
		for _, s := range r.Env.Scenario.Steps {
			here := s.Event != nil && scenario.NodePlace+"/"+s.Event.Node == node.Name
			if here && !slices.Contains(names, s.Event.Is) {
				names = append(names, s.Event.Is)
			}
		}
		if len(names) == 0 {
			continue
		}
		if err := r.remember(ctx, node, names); err != nil {
			return err
		}
		for _, name := range names {
			if err := r.rehearse(ctx, node, name); err != nil {
				return fmt.Errorf("%s: %s without any pod: %w", node.Name, name, err)
			}
		}
	}
	return nil
}

// remember tells the node's agent what will happen, and starts the programs that this needs.
func (r *Runner) remember(ctx context.Context, node *cluster.Node, names []string) error {
	before, err := r.stateOf(ctx, node)
	if err != nil {
		return err
	}
	others, err := r.otherAddresses(ctx, node)
	if err != nil {
		return err
	}
	r.events.others[node.Name] = others
	if err := node.Agent.RememberNode(ctx, event.Config{
		Uplink: node.Uplink, Others: others, Events: names, Programs: debian.Dir(),
	}); err != nil {
		return err
	}
	// A program that starts may have done already what it will do again.
	take := func(ctx context.Context) (snapshot.State, error) { return r.stateOf(ctx, node) }
	_, err = r.repaired(ctx, node, take, before, ofOthers)
	return err
}

// rehearse makes an event happen and takes it back.
func (r *Runner) rehearse(ctx context.Context, node *cluster.Node, name string) error {
	take := func(ctx context.Context) (snapshot.State, error) {
		return node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
	}
	before, err := take(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(node.Agent.Event(ctx, name), node.Agent.UndoEvents(ctx)); err != nil {
		return err
	}
	if err := r.syncServices(ctx); err != nil {
		return err
	}
	changes, err := r.repaired(ctx, node, take, before, nil)
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		return fmt.Errorf("%d items are not as before; the first: %s", len(changes), changes[0])
	}
	router, ok := r.Env.Cluster.Hosts()[scenario.RouterHost]
	if !ok {
		return nil
	}
	for _, a := range r.Env.Addresses(router, scenario.UplinkInterface) {
		if !environment.HasFamily(&node.Place, a) {
			continue
		}
		result, err := node.Agent.Probe(ctx, node.Netns, probe.Spec{Protocol: probe.ICMP, To: a.String()})
		if err != nil {
			return err
		}
		if !result.OK {
			return fmt.Errorf("it does not reach %s any more: %s", router.Name, result.Error)
		}
	}
	return nil
}

// repaired waits until the daemon has made again what an event removed, and returns what then differs. A daemon that
// restores nothing makes it when it starts again.
func (r *Runner) repaired(
	ctx context.Context, node *cluster.Node, take func(context.Context) (snapshot.State, error), before snapshot.State,
	beyond func([]snapshot.Change) []snapshot.Change,
) ([]snapshot.Change, error) {
	daemon := r.config.Target.GivenDaemon()
	changes, err := r.settleAfter(ctx, take, before, beyond)
	if err != nil || len(changes) == 0 || daemon == nil || r.repairs() > 0 {
		return changes, err
	}
	if err := node.Agent.StopDaemon(ctx, daemon.Name); err != nil {
		return nil, err
	}
	if err := cluster.StartDaemon(ctx, node, daemon); err != nil {
		return nil, err
	}
	return snapshot.Settle(ctx, take, before, beyond)
}

// settleAfter returns what differs from a state when the daemon had time to restore it.
func (r *Runner) settleAfter(
	ctx context.Context, take func(context.Context) (snapshot.State, error), before snapshot.State,
	beyond func([]snapshot.Change) []snapshot.Change,
) ([]snapshot.Change, error) {
	for interval := machinetime.Start(); ; {
		changes, err := snapshot.Settle(ctx, take, before, beyond)
		if err != nil || len(changes) == 0 || interval.Given() >= r.repairs() {
			return changes, err
		}
	}
}

// otherAddresses returns an address of each family that the node may get in place of its own: from the end of the
// underlay, where no allocator begins.
func (r *Runner) otherAddresses(ctx context.Context, node *cluster.Node) ([]netip.Addr, error) {
	links, err := node.Agent.Links(ctx, "")
	if err != nil {
		return nil, err
	}
	link, found := agent.FindLink(links, node.Uplink)
	if !found {
		return nil, fmt.Errorf("%s: no link %s", node.Name, node.Uplink)
	}
	var others []netip.Addr
	for _, prefix := range link.Prefixes() {
		a := netipx.RangeOfPrefix(prefix).To().Prev().Prev()
		for r.Env.OwnerOf(ctx, a) != nil && prefix.Contains(a) {
			a = a.Prev()
		}
		others = append(others, a)
	}
	return others, nil
}

// event makes an event happen.
func (r *Runner) event(ctx context.Context, e scenario.Event) error {
	node := r.Env.Node(scenario.NodePlace + "/" + e.Node)
	if r.events.since[node.Name] == nil {
		before, err := r.stateOf(ctx, node)
		if err != nil {
			return err
		}
		r.events.since[node.Name] = &aftermath{before: before}
	}
	after := r.events.since[node.Name]
	after.names = append(after.names, e.Is)
	if err := node.Agent.Event(ctx, e.Is); err != nil {
		if e.Is == event.RulesetListed {
			return &environment.Failure{Err: err, Plugin: r.soleMaker(ctx, node)}
		}
		return err
	}
	if e.Is == event.AddressesChange {
		r.events.former[node.Name] = node.Interfaces[scenario.UplinkInterface]
		node.Interfaces[scenario.UplinkInterface] = r.events.others[node.Name]
	}
	// A proxy restores its own rules.
	return r.syncServices(ctx)
}

// soleMaker returns the plugin that made all that is new in the node's ruleset; empty if that were several.
func (r *Runner) soleMaker(ctx context.Context, node *cluster.Node) (plugin string) {
	state := r.Env.States[node.Name]
	now, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: []string{snapshot.Nftables}})
	if err != nil {
		return ""
	}
	for _, c := range snapshot.Diff(state.Before, now) {
		if c.Op != snapshot.Added {
			continue
		}
		if maker := state.Maker(c); plugin != "" && maker != plugin {
			return ""
		} else {
			plugin = maker
		}
	}
	return plugin
}

// stateOf returns the part of a node's state with which a recovery compares.
func (r *Runner) stateOf(ctx context.Context, node *cluster.Node) (snapshot.State, error) {
	return node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: []string{
		snapshot.Link, snapshot.Address, snapshot.Rule, snapshot.Route, snapshot.Neighbour, snapshot.Nftables,
		snapshot.Iptables,
	}})
}

// UndoEvents gives the nodes back the settings and addresses that they had before the events.
func (r *Runner) UndoEvents(ctx context.Context) error {
	var errs []error
	for name := range r.events.others {
		node := r.Env.Node(name)
		errs = append(errs, node.Agent.UndoEvents(ctx))
		if former, ok := r.events.former[name]; ok {
			node.Interfaces[scenario.UplinkInterface] = former
			delete(r.events.former, name)
		}
	}
	return errors.Join(errs...)
}
