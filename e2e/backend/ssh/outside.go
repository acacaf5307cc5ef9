package ssh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// The interfaces of hosts on the underlay, from host/external to the router, and from the router to the network behind
// it.
const (
	hostUplink = "eth0"
	routerLeg  = "eth1"
)

// startOutside makes the hosts around the nodes on the machine that Options.Outside names. host/lan is the machine
// itself. host/router is a namespace with its own interface on the underlay, whose address is the conflist's gateway.
// host/external is behind host/router.
//
//	node1   node2   outside: host/lan
//	  └───────┴─────────┴─ macvlan ─ host/router ── host/external
func (l *lab) startOutside(ctx context.Context) error {
	m := l.backend.outside
	if m == nil || l.req.Alone {
		return nil
	}
	uplink, err := l.backend.uplinkOf(m)
	if err != nil {
		return err
	}
	client, err := m.keeper.Agent("host/lan", "outside", nil)
	if err != nil {
		return err
	}
	l.outside = client
	lan := &cluster.Place{Name: "host/lan", Agent: client, Interfaces: map[string][]netip.Addr{
		"uplink": cluster.Addresses(uplink.Prefixes()),
	}}
	l.hosts = map[string]*cluster.Place{"lan": lan}
	if err := l.makeRouter(ctx, uplink.Name); err != nil {
		return m.explain(fmt.Errorf("hosts on %s: %w", m.name, err))
	}
	return nil
}

// makeRouter makes the router and the host behind it.
func (l *lab) makeRouter(ctx context.Context, uplink string) error {
	client := l.outside
	for _, name := range []string{"router", "external"} {
		path, err := client.CreateNamespace(ctx, name)
		if err != nil {
			return err
		}
		if err := client.SetSysctls(ctx, path, hostSysctls(name == "router")); err != nil {
			return err
		}
		l.hosts[name] = &cluster.Place{
			Name: "host/" + name, Agent: client, Netns: path, Interfaces: map[string][]netip.Addr{},
		}
	}
	router, external := l.hosts["router"], l.hosts["external"]
	if err := errors.Join(
		client.AddLink(ctx, agent.AddLinkArgs{Netns: router.Netns, Name: hostUplink, Parent: uplink}),
		client.AddLink(ctx, agent.AddLinkArgs{
			Netns: router.Netns, Name: routerLeg, PeerNetns: external.Netns, PeerName: hostUplink,
		}),
		l.address(ctx, router, hostUplink, "uplink", l.plan.Router...),
	); err != nil {
		return err
	}
	for _, network := range l.plan.External {
		if err := errors.Join(
			l.address(ctx, router, routerLeg, "external", network.Router),
			l.address(ctx, external, hostUplink, "uplink", network.Host),
			client.AddRoute(ctx, agent.WayArgs{
				Netns: external.Netns, Destination: netip.PrefixFrom(network.Router.Addr(), 0).Masked(),
				Gateway: network.Router.Addr(),
			}),
		); err != nil {
			return err
		}
	}
	return nil
}

// address adds addresses to an interface of a host. Scenarios know the interface by the name known.
func (l *lab) address(ctx context.Context, host *cluster.Place, link, known string, prefixes ...netip.Prefix) error {
	for _, prefix := range prefixes {
		if err := host.Agent.AddAddress(ctx, agent.AddressArgs{
			Netns: host.Netns, Interface: link, Address: prefix,
		}); err != nil {
			return fmt.Errorf("%s: %w", host.Name, err)
		}
		host.Interfaces[known] = append(host.Interfaces[known], prefix.Addr())
	}
	return nil
}

// routeOutside adds to a node the route to the network behind the router. Its default route stays its own.
func (l *lab) routeOutside(ctx context.Context, node *cluster.Node) error {
	if l.outside == nil {
		return nil
	}
	for _, network := range l.plan.External {
		at := slices.IndexFunc(l.plan.Router, func(p netip.Prefix) bool {
			return p.Addr().Is4() == network.Prefix.Addr().Is4()
		})
		if at < 0 {
			continue
		}
		if err := node.Agent.AddRoute(ctx, agent.WayArgs{
			Destination: network.Prefix, Gateway: l.plan.Router[at].Addr(),
		}); err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	return nil
}

// hostSysctls returns the sysctls of a host. It filters nothing, and sends at once without waiting for duplicate
// address detection.
func hostSysctls(forward bool) map[string]string {
	value := "0"
	if forward {
		value = "1"
	}
	return map[string]string{
		"net.ipv4.ip_forward": value, "net.ipv6.conf.all.forwarding": value,
		"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
		"net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0",
	}
}
