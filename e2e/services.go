package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// serviceRanges are where cluster addresses come from: the first that overlaps no network of the cluster.
func serviceRanges() map[bool][]netip.Prefix {
	return map[bool][]netip.Prefix{
		true:  {netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("172.20.0.0/16")},
		false: {netip.MustParsePrefix("fd00:10:96::/112"), netip.MustParsePrefix("fd00:172:20::/112")},
	}
}

// makeServices makes the scenario's services, each with its addresses.
func (r *run) makeServices(ctx context.Context) error {
	for i, spec := range r.env.Scenario.Services {
		addrs, err := r.serviceAddresses(ctx, i, spec)
		if err != nil {
			return err
		}
		r.env.Services = append(r.env.Services, &environment.Service{
			Place: cluster.Place{Name: scenario.ServicePlace + "/" + spec.Name, Interfaces: map[string][]netip.Addr{"uplink": addrs}},
			Spec:  spec, Endpoints: spec.Endpoints,
		})
	}
	return nil
}

// serviceAddresses are those that a cluster's own API server gives a service; without one, the next of each family that the nodes have.
func (r *run) serviceAddresses(ctx context.Context, index int, spec scenario.Service) ([]netip.Addr, error) {
	if runtime := cluster.RuntimeOf(r.env.Cluster); runtime != nil {
		addrs, err := runtime.MakeService(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("service/%s: %w", spec.Name, err)
		}
		return addrs, nil
	}
	var addrs []netip.Addr
	for _, is4 := range []bool{true, false} {
		if _, err := r.env.Cluster.Nodes()[0].Address("uplink", is4); err != nil {
			continue
		}
		network, err := r.serviceRange(is4)
		if err != nil {
			return nil, err
		}
		addr := network.Addr()
		for range 10 + index {
			addr = addr.Next()
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

func (r *run) serviceRange(is4 bool) (netip.Prefix, error) {
	for _, candidate := range serviceRanges()[is4] {
		overlaps := func(n *cluster.Node) bool {
			return slices.ContainsFunc(n.Networks, func(p netip.Prefix) bool { return p.Overlaps(candidate) })
		}
		if !slices.ContainsFunc(r.env.Cluster.Nodes(), overlaps) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no range for services beside the networks of the conflist; tried %v", serviceRanges()[is4])
}

// syncServices programs every node's proxy with the endpoints as they are.
func (r *run) syncServices(ctx context.Context) error {
	if len(r.env.Services) == 0 {
		return nil
	}
	r.syncing.Lock()
	defer r.syncing.Unlock()
	if runtime := cluster.RuntimeOf(r.env.Cluster); runtime != nil {
		return r.syncServicesByRuntime(ctx, runtime)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range r.env.Cluster.Nodes() {
		var seen []service.Service
		for _, s := range r.env.Services {
			seen = append(seen, r.seenFrom(node, s))
		}
		group.Go(func() error {
			args := agent.ServicesArgs{Options: service.Options{Dataplane: r.suite.options.Dataplane}, Services: seen}
			if err := node.Agent.Services(ctx, args); err != nil {
				return fmt.Errorf("%s: services: %w", node.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// followPods programs the proxies anew after a step that attached or deleted pods.
func (r *run) followPods(ctx context.Context, err *error) {
	if *err == nil {
		*err = r.syncServices(ctx)
	}
}

// seenFrom is a service as a node's proxy has it.
func (r *run) seenFrom(node *cluster.Node, s *environment.Service) service.Service {
	seen := service.Service{
		Name: s.Spec.Name, Protocol: s.Spec.Protocol, ClusterIPs: s.Interfaces["uplink"], Port: s.Spec.Port, NodePort: s.Spec.NodePort,
		LocalOnly: s.Spec.ExternalTrafficPolicy == scenario.LocalPolicy,
	}
	for _, e := range r.env.EndpointsOf(s) {
		for _, addr := range e.Addresses {
			seen.Endpoints = append(seen.Endpoints, service.Endpoint{Address: addr, Port: s.Spec.EndpointPort(), Local: r.env.RunsOn(e.Place, node)})
		}
	}
	return seen
}

// replaceEndpoints changes the endpoints of a service.
func (r *run) replaceEndpoints(ctx context.Context, e scenario.Endpoints) error {
	s := r.env.Service(e.Of)
	if s == nil {
		return fmt.Errorf("%s: no such service", e.Of)
	}
	s.Endpoints = e.Are
	return r.syncServices(ctx)
}

// equipNodes gives the nodes what the scenario says of them beyond their interfaces.
func (r *run) equipNodes(ctx context.Context) error {
	for i, node := range r.env.Cluster.Nodes() {
		spec := r.env.Scenario.Nodes[i]
		for _, text := range spec.Local {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			if err := node.Agent.AddAddress(ctx, agent.AddressArgs{Interface: "lo", Address: netip.PrefixFrom(addr, addr.BitLen())}); err != nil {
				return fmt.Errorf("%s: %w", node.Name, err)
			}
			if !slices.Contains(node.Interfaces["local"], addr) {
				node.Interfaces["local"] = append(node.Interfaces["local"], addr)
			}
		}
		if spec.Forward == "" {
			continue
		}
		var args agent.ForwardArgs
		if spec.Forward == "drop-but-pods" {
			args.Accept = node.Networks
		}
		if err := node.Agent.DropForwarded(ctx, args); err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	return nil
}

// capture is a running capture of packets to a service.
type capture struct {
	place *cluster.Place
	what  string
	id    int
}

func (r *run) startCapture(ctx context.Context, c scenario.Capture) error {
	places, err := r.env.Places(c.At)
	if err != nil {
		return err
	}
	s := r.env.Service(c.To)
	if s == nil {
		return fmt.Errorf("%s: no such service", c.To)
	}
	match := probe.Match{}
	for _, addr := range s.Interfaces["uplink"] {
		match.Hosts = append(match.Hosts, addr.String())
	}
	for _, place := range places {
		id, err := place.Agent.StartCapture(ctx, place.Netns, match)
		if err != nil {
			return err
		}
		r.captures = append(r.captures, capture{place: place, what: c.To, id: id})
	}
	return nil
}

// endCaptures ends all captures and wants that none saw more packets than it may have.
func (r *run) endCaptures(ctx context.Context, c scenario.Captured) error {
	captures := r.captures
	r.captures = nil
	var errs []error
	for _, capture := range captures {
		packets, err := capture.place.Agent.StopCapture(ctx, capture.id)
		if err != nil {
			return err
		}
		if len(packets) > c.Packets {
			errs = append(errs, fmt.Errorf("%s saw %d packets to %s, want at most %d; the first: %s",
				capture.place.Name, len(packets), capture.what, c.Packets, packetpath.Sighting{Place: capture.place.Name, Packet: packets[0]}))
		}
	}
	return errors.Join(errs...)
}

// networkOf is the conflist of a pod on its node.
func (r *run) networkOf(kind string, node *cluster.Node) (environment.Network, error) {
	own := environment.Network{Name: r.suite.file.Network, Conflist: node.Conflist}
	switch kind {
	case "":
		return own, nil
	case scenario.MainNetwork:
		var list map[string]any
		if err := json.Unmarshal(node.Conflist, &list); err != nil {
			return own, err
		}
		if plugins, ok := list["plugins"].([]any); ok {
			list["plugins"] = plugins[:1]
		}
		data, err := json.Marshal(list)
		return environment.Network{Name: own.Name, Conflist: data}, err
	}
	ipam := map[string]any{"type": "host-local"}
	var ranges [][]map[string]any
	var routes []map[string]any
	for _, prefix := range r.routedPrefixes(node) {
		ranges = append(ranges, []map[string]any{{"subnet": prefix.String()}})
		dst := "0.0.0.0/0"
		if prefix.Addr().Is6() {
			dst = "::/0"
		}
		routes = append(routes, map[string]any{"dst": dst})
	}
	ipam["ranges"], ipam["routes"] = ranges, routes
	data, err := json.Marshal(map[string]any{
		"cniVersion": r.suite.file.CNIVersion, "name": scenario.RoutedNetwork,
		"plugins": []any{map[string]any{"type": "ptp", "ipam": ipam}},
	})
	return environment.Network{Name: scenario.RoutedNetwork, Conflist: data}, err
}

// routedPrefixes are a node's range of the routed network, one of each family that the node has.
func (r *run) routedPrefixes(node *cluster.Node) []netip.Prefix {
	index := slices.Index(r.env.Cluster.Nodes(), node)
	var prefixes []netip.Prefix
	if _, err := node.Address("uplink", true); err == nil {
		prefixes = append(prefixes, netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", index)))
	}
	if _, err := node.Address("uplink", false); err == nil {
		prefixes = append(prefixes, netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", index)))
	}
	return prefixes
}

// routeRouted tells every machine on the underlay where the pods of the routed network are.
func (r *run) routeRouted(ctx context.Context) error {
	if !slices.ContainsFunc(r.env.Scenario.Pods, func(p scenario.Pod) bool { return p.Network == scenario.RoutedNetwork }) {
		return nil
	}
	var places []*cluster.Place
	for _, node := range r.env.Cluster.Nodes() {
		places = append(places, &node.Place)
	}
	for _, name := range []string{"router", "lan"} {
		// In a cloud the router's routes are enough, and for host/lan the nodes are not on the link.
		if host, ok := r.env.Cluster.Hosts()[name]; ok && (name == "router" || r.env.Cluster.Cloud() == nil) {
			places = append(places, host)
		}
	}
	for _, node := range r.env.Cluster.Nodes() {
		for _, prefix := range r.routedPrefixes(node) {
			via, err := node.Address("uplink", prefix.Addr().Is4())
			if err != nil {
				return err
			}
			for _, place := range places {
				if place == &node.Place {
					continue
				}
				if err := place.Agent.AddRoute(ctx, agent.WayArgs{Netns: place.Netns, Destination: prefix, Gateway: via}); err != nil {
					return fmt.Errorf("%s: %w", place.Name, err)
				}
			}
		}
	}
	return nil
}
