package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/metadata"
)

// The VPC is host/router. Each ENI has its own veth to it, so that no two ENIs are on one segment.
//
//	node/a eth0 ── port-0-0 ┐
//	node/a eth1 ── port-0-1 ┤ host/router ── eth1 ── host/external
//	node/b eth0 ── port-1-0 ┤
//	host/lan ───── port-lan ┘
//
// The router answers ARP for every address that is behind another veth, and for the first address of each subnet, which
// is its own. It has a route for each address and prefix to the ENI that owns it, and the ENI's MAC as a permanent
// neighbour. It drops packets that arrive on another veth than the one to which the route to their source leads: this
// is the cloud's source check.

// lanPort is the veth to host/lan.
const lanPort = "port-lan"

// eniPort returns the name of the router's end of an ENI's veth.
func eniPort(index int, eni metadata.ENI) string {
	if card := eni.Card(); card > 0 {
		return fmt.Sprintf("port-%d-%d-%d", index, card, eni.Device)
	}
	return fmt.Sprintf("port-%d-%d", index, eni.Device)
}

// gateways returns the addresses of the VPC's router, the first of each subnet.
func (c *cloud) gateways() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(c.nodes.Addr().Next(), c.nodes.Bits()), netip.PrefixFrom(c.others.Addr().Next(),
			c.others.Bits()),
	}
}

// lan returns the address of host/lan.
func (c *cloud) lan() netip.Prefix {
	return netip.PrefixFrom(nth(c.others.Addr(), 10), c.others.Bits())
}

// makeVPC makes the router, and the hosts unless the request wants only nodes.
func (c *cloud) makeVPC(ctx context.Context) error {
	l := c.lab
	path, err := l.fabric.agent.CreateNamespace(ctx, "router")
	if err != nil {
		return err
	}
	settings := hostSysctls(true)
	// There is no other path, even for packets that leave by the veth on which they arrived.
	settings["net.ipv4.conf.all.send_redirects"], settings["net.ipv4.conf.default.send_redirects"] = "0", "0"
	if err := l.fabric.setSysctls(ctx, path, settings); err != nil {
		return err
	}
	router, err := l.hostSocket("router")
	if err != nil {
		return err
	}
	defer router.close()
	if err := c.furnishRouter(router); err != nil {
		return fmt.Errorf("host/router: %w", err)
	}
	if l.req.Alone {
		return nil
	}
	return c.plugHosts(ctx, router)
}

// furnishRouter gives the router its addresses and the rules of the cloud.
func (c *cloud) furnishRouter(router socket) error {
	lo, err := router.links.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, gateway := range c.gateways() {
		if err := router.links.AddrAdd(lo, &netlink.Addr{IPNet: netipx.AddrIPNet(gateway.Addr())}); err != nil {
			return fmt.Errorf("address %s: %w", gateway.Addr(), err)
		}
	}
	// Packets to unused addresses are rejected; they do not leave by the router's default route.
	if err := router.links.RouteAdd(&netlink.Route{
		Dst: netipx.PrefixIPNet(c.vpc), Type: unix.RTN_BLACKHOLE,
	}); err != nil {
		return fmt.Errorf("route to %s: %w", c.vpc, err)
	}
	return c.checkSources(router)
}

// checkSources adds
//
//	chain sources { type filter hook prerouting priority raw; fib saddr . iif oif missing counter drop; }
//	chain outside { type nat hook postrouting priority srcnat; oifname "eth1" masquerade; }
//
// The second chain is only for a cloud that translates.
func (c *cloud) checkSources(router socket) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(router.ns)))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "cloud"})
	sources := conn.AddChain(&nftables.Chain{
		Table: table, Name: "sources", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityRaw,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: sources, Exprs: []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if c.spec.ExternalSNAT {
		outside := conn.AddChain(&nftables.Chain{
			Table: table, Name: "outside", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
			Priority: nftables.ChainPriorityNATSource,
		})
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, externalLeg)
		conn.AddRule(&nftables.Rule{Table: table, Chain: outside, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
			&expr.Masq{},
		}})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("source check: %w", err)
	}
	return nil
}

// externalLeg is the router's interface to the network outside the VPC.
const externalLeg = "eth1"

// plugHosts makes the machines other than nodes: host/lan in the VPC's other subnet, host/external outside.
func (c *cloud) plugHosts(ctx context.Context, router socket) error {
	l := c.lab
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		leg := router
		leg.name, leg.mac, leg.addresses = externalLeg, hostMAC(2), l.outside().leg
		return l.plug(ctx, external, "host-router-ext", leg)
	})
	group.Go(func() error {
		path, err := l.fabric.agent.CreateNamespace(ctx, "lan")
		if err != nil {
			return err
		}
		if err := l.fabric.setSysctls(ctx, path, hostSysctls(false)); err != nil {
			return err
		}
		lan, err := l.hostSocket("lan")
		if err != nil {
			return err
		}
		defer lan.close()
		lan.mac, lan.addresses = hostMAC(3), []netip.Prefix{c.lan()}
		eni := metadata.ENI{Address: c.lan().Addr(), MAC: lan.mac.String()}
		if err := c.plug(ctx, router, lanPort, eni, lan); err != nil {
			return err
		}
		if err := lan.configure(ctx, lan.name); err != nil {
			return err
		}
		gateway := c.gateways()[1].Addr()
		return addRoute(lan.links, defaultPrefix(gateway), gateway, lan.name)
	})
	group.Go(func() error { return l.plugExternal(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	l.plan.LANHost = []netip.Prefix{c.lan()}
	l.nameHosts()
	return nil
}

// plugNode gives a node the ENIs of its instance. The primary one is configured, the others are left as a cloud
// attaches them.
func (c *cloud) plugNode(ctx context.Context, index int, node *cluster.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	router, err := c.lab.hostSocket("router")
	if err != nil {
		return err
	}
	defer router.close()
	s, _ := c.lab.socket(index)
	for _, eni := range c.instances[index].ENIs {
		if err := c.attach(ctx, router, index, eni); err != nil {
			return err
		}
		if eni.Unmanaged != "" {
			if err := s.useUnmanaged(eni, c.nodes); err != nil {
				return fmt.Errorf("ENI %s (%s): %w", eni.ID, eni.Unmanaged, err)
			}
			node.Interfaces[eni.Unmanaged] = eni.AllAddresses()
		}
	}
	lo, err := s.links.LinkByName("lo")
	if err != nil {
		return err
	}
	services := []string{metadata.Address}
	if hasIPv6() {
		services = append(services, metadata.Address6)
	}
	for _, service := range services {
		// The scope of the IPv4 one is host, so that no packet leaves with it as its source.
		addr := &netlink.Addr{IPNet: netipx.AddrIPNet(netip.MustParseAddr(service)), Scope: unix.RT_SCOPE_HOST}
		if err := s.links.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("address %s of the metadata service: %w", service, err)
		}
	}
	if err := s.configure(ctx, s.name); err != nil {
		return err
	}
	node.Networks, node.PoolSize = []netip.Prefix{c.vpc}, c.instances[index].PoolSize()
	return c.tell(ctx, index)
}

// attach makes an ENI of a node. Of an EFA-only one the node has a device for RDMA, and no link.
func (c *cloud) attach(ctx context.Context, router socket, index int, eni metadata.ENI) error {
	if eni.Unmanaged == metadata.EFAOnly {
		return nil
	}
	s, _ := c.lab.socket(index)
	s.name = eni.Name
	mac, err := net.ParseMAC(eni.MAC)
	if err != nil {
		return err
	}
	s.mac = mac
	if err := c.plug(ctx, router, eniPort(index, eni), eni, s); err != nil || eni.Device == 0 {
		return err
	}
	// The cloud has no IPv6, and the kernel would add link-local addresses some time after a daemon sets the ENI up.
	return s.on.setSysctls(ctx, "", map[string]string{"net.ipv6.conf." + eni.Name + ".addr_gen_mode": "1"})
}

// plug makes a veth to the router and adds the router's routes and neighbour for it.
func (c *cloud) plug(ctx context.Context, router socket, port string, eni metadata.ENI, s socket) error {
	wire := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port, MTU: c.lab.plan.MTU, Flags: net.FlagUp},
		PeerName:  s.name, PeerNamespace: netlink.NsFd(s.ns), PeerHardwareAddr: s.mac, PeerMTU: uint32(c.lab.plan.MTU),
	}
	if err := router.links.LinkAdd(wire); err != nil {
		return fmt.Errorf("wire to %s: %w", s.name, err)
	}
	if err := c.lab.fabric.setSysctls(ctx, router.netns, map[string]string{
		"net.ipv4.conf." + port + ".proxy_arp": "1",
		// An ARP proxy otherwise waits, so that the real owner on the same segment can answer first (arp.c,
		// arp_process).
		"net.ipv4.neigh." + port + ".proxy_delay": "0",
		"net.ipv6.conf." + port + ".disable_ipv6": "1",
	}); err != nil {
		return err
	}
	link, err := router.links.LinkByName(port)
	if err != nil {
		return err
	}
	neighbour := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: eni.Address.AsSlice(), HardwareAddr: s.mac, State: netlink.NUD_PERMANENT,
	}
	if err := router.links.NeighAdd(neighbour); err != nil {
		return fmt.Errorf("neighbour %s: %w", eni.Address, err)
	}
	own := &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: netipx.AddrIPNet(eni.Address), Scope: netlink.SCOPE_LINK,
		Src: c.gateways()[0].Addr().AsSlice(),
	}
	if err := router.links.RouteAdd(own); err != nil {
		return fmt.Errorf("route to %s: %w", eni.Address, err)
	}
	return c.route(router, port, metadata.ENI{Address: eni.Address}, eni)
}

// route adds routes to the addresses that an ENI has gained, and removes those to addresses that it has lost.
func (c *cloud) route(router socket, port string, now, want metadata.ENI) error {
	link, err := router.links.LinkByName(port)
	if err != nil {
		return err
	}
	route := func(to netip.Prefix) *netlink.Route {
		return &netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: netipx.PrefixIPNet(to), Gw: want.Address.AsSlice(),
			Src: c.gateways()[0].Addr().AsSlice(),
		}
	}
	had, has := podPrefixes(now), podPrefixes(want)
	for _, prefix := range had {
		if slices.Contains(has, prefix) {
			continue
		}
		// The address may have moved to another ENI.
		if err := router.links.RouteDel(route(prefix)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("route to %s: %w", prefix, err)
		}
	}
	for _, prefix := range has {
		if slices.Contains(had, prefix) {
			continue
		}
		if err := router.links.RouteReplace(route(prefix)); err != nil {
			return fmt.Errorf("route to %s: %w", prefix, err)
		}
	}
	return nil
}

// podPrefixes returns an ENI's addresses for pods.
func podPrefixes(eni metadata.ENI) []netip.Prefix {
	var all []netip.Prefix
	for _, addr := range eni.Secondary {
		all = append(all, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return append(all, eni.Prefixes...)
}

// unplug removes the veth at a port.
func (s socket) unplug(port string) error {
	link, err := s.links.LinkByName(port)
	if err != nil {
		return err
	}
	return s.links.LinkDel(link)
}

// unplugNode removes all veths of a node.
func (c *cloud) unplugNode(index int) {
	router, err := c.lab.hostSocket("router")
	if err != nil {
		return
	}
	defer router.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, eni := range c.instances[index].ENIs {
		_ = router.unplug(eniPort(index, eni))
	}
}

// routerPlace returns the place where frames between the nodes of a cloud can be captured.
func (l *lab) routerPlace() *cluster.Place {
	return &cluster.Place{Name: cluster.FabricName, Agent: l.fabric.agent, Netns: agent.NamespacePath("router")}
}
