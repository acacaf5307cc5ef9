package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// probesAtOnce bounds the probes of a step that names many pods.
const probesAtOnce = 16

// probe sends traffic from each of the places of From to each of those of To, in every family that both have.
func (r *run) probe(ctx context.Context, p scenario.Probe) error {
	from, err := r.env.Places(p.From)
	if err != nil {
		return err
	}
	to, err := r.env.Places(p.To)
	if err != nil {
		return err
	}
	var (
		group errgroup.Group
		mu    sync.Mutex
		errs  []error
	)
	group.SetLimit(probesAtOnce)
	for _, f := range from {
		for _, t := range to {
			group.Go(func() error {
				err := r.probePair(ctx, p, f, t)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
				return nil
			})
		}
	}
	_ = group.Wait()
	return mostTelling(errs)
}

// mostTelling is the error with the way of the packets where one has it, else the first.
func mostTelling(errs []error) error {
	for _, err := range errs {
		var dead *environment.Failure
		if errors.As(err, &dead) && dead.Evidence != nil {
			return err
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) probePair(ctx context.Context, p scenario.Probe, from, to *cluster.Place) error {
	targets := r.env.Addresses(to, environment.TargetInterface(p, to))
	if len(targets) == 0 {
		return fmt.Errorf("%s has no address on %s", to.Name, environment.TargetInterface(p, to))
	}
	asked := 0
	for _, target := range targets {
		if !environment.HasFamily(from, target) {
			continue
		}
		asked++
		if err := r.probeAddress(ctx, p, from, to, target); err != nil {
			return err
		}
	}
	if asked == 0 {
		return fmt.Errorf("%s has no address of a family that %s has", from.Name, to.Name)
	}
	return nil
}

func (r *run) probeAddress(ctx context.Context, p scenario.Probe, from, to *cluster.Place, target netip.Addr) error {
	spec := probe.Spec{
		Protocol: probe.Protocol(p.Protocol), To: target.String(), Port: p.Port, Bytes: int(p.Bytes), Count: p.Count,
		Within: time.Duration(p.Within), Attempts: p.Attempts,
	}
	if p.FullMTU {
		mtu, err := pathMTU(ctx, from, target)
		if err != nil {
			return err
		}
		spec.Size, spec.DontFragment = mtu, true
	}
	result, err := from.Agent.Probe(ctx, from.Netns, spec)
	if err != nil {
		return err
	}
	if !result.OK {
		return r.explainer.Unanswered(ctx, packetpath.Failed{From: from, To: to, Spec: spec, Result: result})
	}
	answers := result.Answers
	if len(answers) == 0 {
		answers = []probe.Answer{{Server: result.Server, PeerSeen: result.PeerSeen}}
	}
	for _, answer := range answers {
		answered, seen := r.answeredBy(p, answer), r.seenAs(ctx, p, from, answer)
		if answered == nil && seen != nil {
			return r.explainer.WrongSource(ctx, seen, packetpath.Failed{From: from, To: to, Spec: spec, Result: result})
		}
		if err := errors.Join(answered, seen); err != nil {
			return err
		}
	}
	return nil
}

// answeredBy wants that the place which answered is the one that the probe names.
func (r *run) answeredBy(p scenario.Probe, answer probe.Answer) error {
	if p.Server == "" {
		return nil
	}
	servers, err := r.env.Places(p.Server)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(servers, func(s *cluster.Place) bool { return s.Name == answer.Server }) {
		return fmt.Errorf("%s answered, want %s", answer.Server, p.Server)
	}
	return nil
}

// seenAs wants that the far end saw an address of the place that the probe names as its source.
func (r *run) seenAs(ctx context.Context, p scenario.Probe, from *cluster.Place, answer probe.Answer) error {
	if p.Source == "" {
		return nil
	}
	sources, err := r.env.Places(p.Source)
	if err != nil {
		return err
	}
	seen, err := netip.ParseAddr(answer.PeerSeen)
	if err != nil {
		return fmt.Errorf("source that %s saw: %w", answer.Server, err)
	}
	for _, s := range sources {
		if s != from && p.Source == p.From {
			continue
		}
		own, err := environment.Owns(ctx, s, seen)
		if err != nil {
			return err
		}
		if own {
			return nil
		}
	}
	owner := ""
	if place := r.env.OwnerOf(ctx, seen); place != nil {
		owner = " (" + place.Name + ")"
	}
	return fmt.Errorf("%s saw %s%s as the source, want an address of %s", answer.Server, seen, owner, p.Source)
}

// pathMTU is the MTU of the interface by which a packet leaves.
func pathMTU(ctx context.Context, from *cluster.Place, to netip.Addr) (int, error) {
	route, err := from.Agent.Route(ctx, from.Netns, to.String())
	if err != nil {
		return 0, err
	}
	links, err := from.Agent.Links(ctx, from.Netns)
	if err != nil {
		return 0, err
	}
	link, found := agent.FindLink(links, route.Device)
	if !found {
		return 0, fmt.Errorf("%s: no link %s", from.Name, route.Device)
	}
	return link.MTU, nil
}

// flow is a running flow.
type flow struct {
	from, to string
	agent    *agent.Client
	id       int
}

func (r *run) startFlows(ctx context.Context, f scenario.Flows) error {
	var sources, targets []*cluster.Place
	for _, end := range []struct {
		names  []string
		places *[]*cluster.Place
	}{{f.Between, &sources}, {f.Between, &targets}, {[]string{f.From}, &sources}, {[]string{f.To}, &targets}} {
		for _, name := range end.names {
			if name == "" {
				continue
			}
			found, err := r.env.Places(name)
			if err != nil {
				return err
			}
			*end.places = append(*end.places, found...)
		}
	}
	for _, from := range sources {
		for _, to := range targets {
			if from == to {
				continue
			}
			if err := r.startFlow(ctx, f, from, to); err != nil {
				return fmt.Errorf("flow %s to %s: %w", from.Name, to.Name, err)
			}
		}
	}
	return nil
}

// startFlow starts one in each family.
func (r *run) startFlow(ctx context.Context, f scenario.Flows, from, to *cluster.Place) error {
	for _, target := range to.Interfaces[environment.TargetInterface(scenario.Probe{}, to)] {
		if !environment.HasFamily(from, target) {
			continue
		}
		id, err := from.Agent.StartFlow(ctx, from.Netns, probe.FlowSpec{
			Protocol: probe.Protocol(f.Protocol), To: target.String(), Port: f.Port, Interval: time.Duration(f.Interval),
		})
		if err != nil {
			return err
		}
		r.flows = append(r.flows, flow{from: from.Name, to: to.Name + " " + target.String(), agent: from.Agent, id: id})
	}
	return nil
}

// stopFlows ends all flows and says which lost more than they may.
func (r *run) stopFlows(ctx context.Context, s scenario.Stop) error {
	flows := r.flows
	r.flows = nil
	errs := make([]error, len(flows))
	group, ctx := errgroup.WithContext(ctx)
	for i, f := range flows {
		group.Go(func() error {
			result, err := f.agent.StopFlow(ctx, f.id)
			gap := time.Duration(s.Gap)
			switch {
			case err != nil:
				return err
			case gap > 0 && result.LongestGap > gap:
				errs[i] = fmt.Errorf("flow %s to %s had no reply for %s, want at most %s", f.from, f.to, result.LongestGap.Round(time.Millisecond), gap)
			case gap > 0 && result.Received > 0:
				// What was lost on the way there is what the gap allows.
			case result.Error != "":
				errs[i] = fmt.Errorf("flow %s to %s broke: %s", f.from, f.to, result.Error)
			case result.Sent == 0:
				errs[i] = fmt.Errorf("flow %s to %s sent nothing", f.from, f.to)
			case result.Lost > s.Lost:
				errs[i] = fmt.Errorf("flow %s to %s lost %d of %d requests, want at most %d; longest silence %s",
					f.from, f.to, result.Lost, result.Sent, s.Lost, result.LongestGap.Round(time.Millisecond))
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(errs...))
}

// neighbour wants that a machine on the underlay holds the right link-layer address of another.
func (r *run) neighbour(ctx context.Context, n scenario.Neighbour) error {
	of, err := r.env.Places(n.Of)
	if err != nil {
		return err
	}
	knows, err := r.env.Places(n.Knows)
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

func (r *run) neighbourEntry(ctx context.Context, from, to *cluster.Place, addr netip.Addr) error {
	route, err := from.Agent.Route(ctx, from.Netns, addr.String())
	if err != nil {
		return err
	}
	if route.Gateway != "" {
		// The neighbour is the gateway then, which tells nothing of this address.
		return nil
	}
	entry, err := from.Agent.Neighbour(ctx, agent.NeighbourArgs{Netns: from.Netns, Interface: route.Device, Address: addr.String()})
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
	return fmt.Errorf("%s has %s of %s at %s, the address of %s, want %s of %s: somebody answered or asked with it in its place",
		from.Name, addr, to.Name, entry.Entry.MAC, whose, owner.MAC, owner.Name)
}

// nodeAnswersFor reports whether a MAC is that of the node behind which a pod is: where the pod has a veth alone, its node has the pod's place on
// the LAN, and answers for its address.
func (r *run) nodeAnswersFor(ctx context.Context, pod *cluster.Place, owner *agent.Link, mac string) (bool, error) {
	node := r.env.NodeOf(pod)
	if owner.Kind != "veth" || node == nil || &node.Place == pod {
		return false, nil
	}
	links, err := node.Agent.Links(ctx, "")
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(links, func(l agent.Link) bool { return l.Name == node.Uplink && l.MAC == mac }), nil
}

// advertise sends a router advertisement into the underlay. What must be unchanged later is compared with the state before it.
func (r *run) advertise(ctx context.Context, a scenario.Advertise) error {
	for _, node := range r.env.Cluster.Nodes() {
		state, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: unchangeableKinds()})
		if err != nil {
			return err
		}
		r.env.States[node.Name].Advertised = state
	}
	router, ok := r.env.Cluster.Hosts()["router"]
	if !ok {
		return errors.New("host/router: no such place in this cluster")
	}
	return router.Agent.Advertise(ctx, agent.AdvertiseArgs{
		Netns: router.Netns, Interface: "eth0",
		Advertisement: probe.Advertisement{Prefix: a.Prefix, RouterLifetime: 30 * time.Minute},
	})
}
