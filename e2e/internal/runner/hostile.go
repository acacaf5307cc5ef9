package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// assault is a hostile step with its places.
type assault struct {
	scenario.Hostile
	pod, as, to *cluster.Place // as is nil if the pod pretends nothing
	node        *cluster.Node  // of the pod
	attack      probe.Attack
}

// hostile makes a pod do what harms others, and returns an error if it did.
func (r *Runner) hostile(ctx context.Context, h scenario.Hostile) error {
	a, err := r.newAssault(ctx, h)
	if err != nil {
		return err
	}
	switch h.Does {
	case scenario.HostileDaemon:
		return r.reachDaemon(ctx, a)
	case scenario.HostileMetadata:
		return a.reachMetadata(ctx)
	case scenario.HostileForward:
		return a.forward(ctx)
	case scenario.HostileConnect:
		return a.join(ctx)
	case scenario.HostileClaim:
		return r.claim(ctx, a)
	case scenario.HostileFlood:
		return r.flood(ctx, a)
	case scenario.HostileRouter:
		state, err := a.node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: unchangeableKinds()})
		if err != nil {
			return err
		}
		r.Env.States[a.node.Name].Advertised = state
		if err := a.send(ctx); err != nil {
			return err
		}
		return r.unchanged(ctx, a.node, []string{scenario.UnchangedAddresses, scenario.UnchangedDefaultRoutes})
	}
	return a.intrude(ctx)
}

// attackOf returns the kind of attack for each deed.
func attackOf(does string) string {
	return map[string]string{
		scenario.HostileSpoof: probe.AttackSpoof, scenario.HostileAnswer: probe.AttackSpoof,
		scenario.HostileConnect: probe.AttackConnect,
		scenario.HostileClaim:   probe.AttackClaim, scenario.HostileMAC: probe.AttackMAC,
		scenario.HostileTag: probe.AttackTag, scenario.HostileForward: probe.AttackSpoof,
		scenario.HostileDHCP: probe.AttackDHCP, scenario.HostileLoopback: probe.AttackLoopback,
		scenario.HostileFlood: probe.AttackFlood, scenario.HostileRouter: probe.AttackRouter,
	}[does]
}

func (r *Runner) newAssault(ctx context.Context, h scenario.Hostile) (*assault, error) {
	a := &assault{Hostile: h, attack: probe.Attack{Kind: attackOf(h.Does)}}
	var err error
	if a.pod, err = r.onlyPlace(h.Pod); err != nil {
		return nil, err
	}
	if a.to, err = r.onlyPlace(h.To); err != nil {
		return nil, err
	}
	a.node = r.Env.NodeOf(a.pod)
	a.attack.Own, a.attack.To = addressesOf(a.pod), addressesOf(a.to)
	if h.As != "" {
		if a.as, err = r.onlyPlace(h.As); err != nil {
			return nil, err
		}
		a.attack.As = addressesOf(a.as)
		links, err := a.as.Agent.Links(ctx, a.as.Netns)
		if err != nil {
			return nil, err
		}
		if l := environment.LinkWith(links, a.attack.As[0]); l != nil {
			a.attack.AsMAC = l.MAC
		}
	}
	for _, place := range []*cluster.Place{&a.node.Place, a.to} {
		links, err := place.Agent.Links(ctx, place.Netns)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if l.Name == "lo" || l.MAC == "" {
				continue
			}
			a.attack.MACs = append(a.attack.MACs, l.MAC)
			if place == a.to && h.Does == scenario.HostileFlood {
				for _, p := range l.Prefixes() {
					a.attack.To = append(a.attack.To, p.Addr())
				}
			}
		}
	}
	return a, nil
}

// onlyPlace returns the one place of a name; of pods with a count, the first.
func (r *Runner) onlyPlace(name string) (*cluster.Place, error) {
	places, err := r.Env.Places(name)
	if err != nil {
		return nil, err
	}
	return places[0], nil
}

// addressesOf returns the addresses by which others know a place.
func addressesOf(p *cluster.Place) []netip.Addr {
	return slices.Clone(p.Interfaces[environment.TargetInterface(scenario.Probe{}, p)])
}

// send makes the pod send, and waits until it did harm if it can.
func (a *assault) send(ctx context.Context) error { return a.sendFrom(ctx, a.pod) }

// sendFrom makes a place send in place of the pod.
func (a *assault) sendFrom(ctx context.Context, from *cluster.Place) error {
	if _, err := from.Agent.Attack(ctx, agent.AttackArgs{Netns: from.Netns, Attack: a.attack}); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &cluster.UnfitError{Reason: fmt.Sprintf("this machine cannot tell what a plugin prevents: %v", err)}
	}
	return timing.Sleep(ctx, probe.AttackSettles)
}

// intrude sends packets that must not arrive.
func (a *assault) intrude(ctx context.Context) error {
	// A filter of the node is passed only by what its sockets get.
	args := agent.TrapArgs{Netns: a.to.Netns, Frames: a.to != &a.node.Place}
	if a.Does == scenario.HostileAnswer {
		args.Asks = a.attack.As
	}
	trap, err := a.to.Agent.StartTrap(ctx, args)
	if err != nil {
		return err
	}
	sent := a.send(ctx)
	seen, err := a.to.Agent.StopTrap(ctx, trap)
	if err := errors.Join(sent, err); err != nil {
		return err
	}
	for _, s := range seen {
		switch {
		case a.attack.Kind == probe.AttackSpoof && !slices.Contains(a.attack.As, s.Source):
			// Somebody translated the source, so that it is not that of another any more.
		case a.Does == scenario.HostileMAC && s.SourceMAC != a.attack.AsMAC:
			// A router forwarded it.
		default:
			return fmt.Errorf("%s got %s, which %s sent %s", a.to.Name, s, a.pod.Name, a.how())
		}
	}
	return nil
}

// how says what was wrong with what a pod sent.
func (a *assault) how() string {
	switch a.Does {
	case scenario.HostileSpoof:
		return fmt.Sprintf("with an address of %s in place of its own, %v", a.as.Name, a.attack.Own)
	case scenario.HostileAnswer:
		return fmt.Sprintf("with an address of %s, which %s had asked", a.as.Name, a.to.Name)
	case scenario.HostileMAC:
		return fmt.Sprintf("with the MAC of %s, %s", a.as.Name, a.attack.AsMAC)
	case scenario.HostileTag:
		return "with a VLAN tag"
	case scenario.HostileDHCP:
		return "as a DHCP server"
	}
	return "to the loopback of its node"
}

// flood checks that the node knows nobody who does not exist.
func (r *Runner) flood(ctx context.Context, a *assault) error {
	if err := a.send(ctx); err != nil {
		return err
	}
	known, err := a.to.Agent.KnownNeighbours(ctx, agent.KnownNeighboursArgs{Netns: a.to.Netns, Of: probe.Invented()})
	if err != nil || len(known) == 0 {
		return err
	}
	return fmt.Errorf("%s keeps neighbour entries for %d of %d machines that do not exist and in whose names %s "+
		"asked: %s", a.to.Name, len(known), len(probe.Invented()), a.pod.Name, strings.Join(known, ", "))
}

// claim checks that the victim does not believe the pod.
func (r *Runner) claim(ctx context.Context, a *assault) error {
	before, err := a.entries(ctx)
	if err != nil {
		return err
	}
	if err := a.send(ctx); err != nil {
		return err
	}
	after, err := a.entries(ctx)
	if err != nil {
		return err
	}
	links, err := a.pod.Agent.Links(ctx, a.pod.Netns)
	if err != nil {
		return err
	}
	for _, addr := range a.attack.As {
		now := after[addr]
		mine := slices.ContainsFunc(links, func(l agent.Link) bool { return l.MAC == now })
		if mine && now != before[addr] {
			return fmt.Errorf("%s has %s of %s at %s, the MAC of %s, which claimed it; it had it at %s", a.to.Name,
				addr, a.as.Name, now, a.pod.Name, before[addr])
		}
	}
	return nil
}

// entries returns the MACs at which the victim knows the addresses that the pod claims, except for those that it
// reaches by way of a router.
func (a *assault) entries(ctx context.Context) (map[netip.Addr]string, error) {
	known := map[netip.Addr]string{}
	for _, addr := range a.attack.As {
		route, err := a.to.Agent.Route(ctx, a.to.Netns, addr.String())
		if err != nil {
			return nil, err
		}
		if route.Gateway != "" {
			continue
		}
		entry, err := a.to.Agent.Neighbour(ctx, agent.NeighbourArgs{
			Netns: a.to.Netns, Interface: route.Device, Address: addr.String(),
		})
		if err != nil {
			return nil, err
		}
		known[addr] = entry.Entry.MAC
	}
	return known, nil
}
