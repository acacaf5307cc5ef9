package runner

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// neighbour checks that a machine on the underlay has the right link-layer address of another one.
func (r *Runner) neighbour(ctx context.Context, n scenario.Neighbour) error {
	of, err := r.Env.Places(n.Of)
	if err != nil {
		return err
	}
	knows, err := r.Env.Places(n.Knows)
	if err != nil {
		return err
	}
	for _, from := range of {
		for _, to := range knows {
			for _, addr := range to.Interfaces[environment.TargetInterface(scenario.Probe{}, to)] {
				if !environment.HasFamily(from, addr) {
					continue
				}
				if err := r.neighbourEntry(ctx, from, to, addr); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *Runner) neighbourEntry(ctx context.Context, from, to *cluster.Place, addr netip.Addr) error {
	route, err := from.Agent.Route(ctx, from.Netns, addr.String())
	if err != nil {
		return err
	}
	if route.Gateway != "" {
		// The neighbour is the gateway then, which says nothing about this address.
		return nil
	}
	entry, err := from.Agent.Neighbour(ctx, agent.NeighbourArgs{
		Netns: from.Netns, Interface: route.Device, Address: addr.String(),
	})
	if err != nil {
		return err
	}
	links, err := to.Agent.Links(ctx, to.Netns)
	if err != nil {
		return err
	}
	owner := environment.LinkWith(links, addr)
	if owner == nil {
		return fmt.Errorf("%s: no link has %s", to.Name, addr)
	}
	if !entry.Found || entry.Entry.MAC == "" {
		return fmt.Errorf("%s has no neighbour entry for %s of %s, want %s", from.Name, addr, to.Name, owner.MAC)
	}
	if entry.Entry.MAC == owner.MAC {
		return nil
	}
	if answers, err := r.nodeAnswersFor(ctx, to, owner, entry.Entry.MAC); err != nil || answers {
		return err
	}
	whose := "no link of " + to.Name
	for _, l := range links {
		if l.MAC == entry.Entry.MAC {
			whose = fmt.Sprintf("%s (%s)", l.Name, l.Kind)
		}
	}
	return fmt.Errorf("%s has %s of %s at %s, the address of %s, want %s of %s: somebody answered or asked with it "+
		"in its place",
		from.Name, addr, to.Name, entry.Entry.MAC, whose, owner.MAC, owner.Name)
}

// nodeAnswersFor reports whether a MAC belongs to the node of a pod: if the pod has only a veth, its node answers for
// its address on the LAN.
func (r *Runner) nodeAnswersFor(ctx context.Context, pod *cluster.Place, owner *agent.Link, mac string) (bool, error) {
	node := r.Env.NodeOf(pod)
	if owner.Kind != "veth" || node == nil || &node.Place == pod {
		return false, nil
	}
	links, err := node.Agent.Links(ctx, "")
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(links, func(l agent.Link) bool { return l.Name == node.Uplink && l.MAC == mac }), nil
}
