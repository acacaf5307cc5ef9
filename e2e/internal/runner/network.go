package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// networkOf returns the conflist of a pod on its node.
func (r *Runner) networkOf(kind string, node *cluster.Node) (environment.Network, error) {
	own := environment.Network{
		Name: r.config.Conflist.Network, Conflist: node.Conflist, CNIVersion: r.config.Conflist.CNIVersion, Own: true,
	}
	switch kind {
	case "", scenario.ConflistNetwork:
		return own, nil
	case scenario.OtherNetwork:
		if with := r.config.With; with != nil {
			return environment.Network{Name: with.Network, Conflist: node.Other, CNIVersion: with.CNIVersion}, nil
		}
	case scenario.MainNetwork:
		list, err := conflist.ParseRendered(node.Conflist)
		if err != nil {
			return own, err
		}
		data, err := list.Prefix(1)
		own.Conflist = data
		return own, err
	case scenario.FailingNetwork:
		// static expects an address from a runtime, which passes none, and ptp needs one
		return r.ptp(scenario.FailingNetwork, map[string]any{"type": "static"})
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
	return r.ptp(scenario.RoutedNetwork, ipam)
}

// ptp returns a network of the lab's own.
func (r *Runner) ptp(name string, ipam map[string]any) (environment.Network, error) {
	version := r.config.Conflist.CNIVersion
	data, err := json.Marshal(map[string]any{
		"cniVersion": version, "name": name, "plugins": []any{map[string]any{"type": "ptp", "ipam": ipam}},
	})
	return environment.Network{Name: name, Conflist: data, CNIVersion: version}, err
}

// routedPrefixes returns a node's ranges of the routed network, one of each family that the node has.
func (r *Runner) routedPrefixes(node *cluster.Node) []netip.Prefix {
	index := slices.Index(r.Env.Cluster.Nodes(), node)
	var prefixes []netip.Prefix
	if _, err := node.Address(scenario.UplinkInterface, true); err == nil {
		prefixes = append(prefixes, netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", index)))
	}
	if _, err := node.Address(scenario.UplinkInterface, false); err == nil {
		prefixes = append(prefixes, netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", index)))
	}
	return prefixes
}

// routeRouted adds routes to the pods of the routed network on every machine of the underlay.
func (r *Runner) routeRouted(ctx context.Context) error {
	if !slices.ContainsFunc(r.Env.Scenario.Pods, func(p scenario.Pod) bool {
		return p.Has(scenario.RoutedNetwork) || p.Has(scenario.OtherNetwork) && r.config.With == nil
	}) {
		return nil
	}
	var places []*cluster.Place
	for _, node := range r.Env.Cluster.Nodes() {
		places = append(places, &node.Place)
	}
	for _, name := range []string{scenario.RouterHost, scenario.LANHost} {
		// In a cloud the routes of the router suffice, and the nodes are not on the link of host/lan.
		if host, ok := r.Env.Cluster.Hosts()[name]; ok && (name == scenario.RouterHost ||
			r.Env.Cluster.Cloud() == nil) {
			places = append(places, host)
		}
	}
	for _, node := range r.Env.Cluster.Nodes() {
		for _, prefix := range r.routedPrefixes(node) {
			via, err := node.Address(scenario.UplinkInterface, prefix.Addr().Is4())
			if err != nil {
				return err
			}
			for _, place := range places {
				if place == &node.Place {
					continue
				}
				if err := place.Agent.AddRoute(ctx, agent.WayArgs{
					Netns: place.Netns, Destination: prefix, Gateway: via,
				}); err != nil {
					return fmt.Errorf("%s: %w", place.Name, err)
				}
			}
		}
	}
	return nil
}

// equipNodes configures the nodes as the scenario says, apart from their interfaces.
func (r *Runner) equipNodes(ctx context.Context) error {
	for i, node := range r.Env.Cluster.Nodes() {
		spec := r.Env.Scenario.Nodes[i]
		for _, text := range spec.Local {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			if err := node.Agent.AddAddress(ctx, agent.AddressArgs{
				Interface: "lo", Address: netip.PrefixFrom(addr, addr.BitLen()),
			}); err != nil {
				return fmt.Errorf("%s: %w", node.Name, err)
			}
			if !slices.Contains(node.Interfaces[scenario.LocalInterface], addr) {
				node.Interfaces[scenario.LocalInterface] = append(node.Interfaces[scenario.LocalInterface], addr)
			}
		}
		if spec.Forward == "" {
			continue
		}
		var args agent.ForwardArgs
		if spec.Forward == scenario.ForwardDropButPods {
			args.Accept = node.Networks
		}
		if err := node.Agent.DropForwarded(ctx, args); err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	return nil
}
