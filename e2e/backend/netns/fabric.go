package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go4.org/netipx"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// The fabric's bridges: the underlay, the network of first interfaces if nodes have two, and the network behind the
// router.
const (
	underlay   = "underlay"
	management = "management"
	external   = "external"
)

// socket describes one end of a veth: an interface to be made in a namespace.
type socket struct {
	links     *netlink.Handle
	ns        netns.NsHandle
	on        *machine
	netns     string // a namespace of on; empty for its own
	name      string
	mac       net.HardwareAddr
	addresses []netip.Prefix
}

// plug connects a new interface to a bridge of the fabric by a veth, adds its addresses and brings it up.
func (l *lab) plug(ctx context.Context, bridge, port string, s socket) error {
	br, err := l.bridge(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: port, MTU: l.plan.MTU, MasterIndex: br.Attrs().Index, Flags: net.FlagUp},
		PeerName:      s.name,
		PeerNamespace: netlink.NsFd(s.ns),
		// Set it at creation: udev and the kernel may otherwise change it later.
		PeerHardwareAddr: s.mac,
		PeerMTU:          uint32(l.plan.MTU),
	}
	if err := l.fabric.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable to %s: %w", s.name, err)
	}
	return s.configure(ctx, s.name)
}

// unplug removes a node's veths at once. The kernel would do it some time after the end of the node's namespace.
func (l *lab) unplug(index int) {
	if l.cloud != nil {
		l.cloud.unplugNode(index)
	}
	ports := []string{uplinkPort(index), managementPort(index), secondPort(index)}
	for n := range l.plan.Nodes[index].Devices {
		ports = append(ports, devicePort(index, n))
	}
	for _, port := range ports {
		if link, err := l.fabric.links.LinkByName(port); err == nil {
			_ = l.fabric.links.LinkDel(link)
		}
	}
}

func uplinkPort(index int) string     { return fmt.Sprintf("port-%d", index) }
func managementPort(index int) string { return fmt.Sprintf("mgmt-%d", index) }

// configure adds the socket's addresses to an interface and brings it up. The interface takes no addresses from router
// advertisements, like that of a server with fixed addresses.
func (s socket) configure(ctx context.Context, name string) error {
	conf := "net.ipv6.conf." + strings.ReplaceAll(name, ".", "/") + "."
	if err := s.on.setSysctls(ctx, s.netns, map[string]string{
		conf + "accept_ra": "0", conf + "autoconf": "0",
		// A new fabric cannot have duplicate addresses.
		conf + "accept_dad": "0",
	}); err != nil {
		return err
	}
	link, err := s.links.LinkByName(name)
	if err != nil {
		return err
	}
	for _, prefix := range s.addresses {
		addr := &netlink.Addr{IPNet: netipx.PrefixIPNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := s.links.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s on %s: %w", prefix, name, err)
		}
	}
	if err := s.links.LinkSetUp(link); err != nil {
		return err
	}
	return s.awaitLinkLocal(ctx, link)
}

// linkLocalWithin limits how long the kernel may take to add a link-local address: it needs a moment, and a processor
// for its workers.
const linkLocalWithin = 20 * time.Second

// awaitLinkLocal waits for the link-local address that the kernel adds some time after a link is up, so that it does
// not appear as a change later.
func (s socket) awaitLinkLocal(ctx context.Context, link netlink.Link) error {
	if !hasIPv6() {
		return nil
	}
	ctx, cancel := machinetime.WithTimeoutCause(ctx, linkLocalWithin, fmt.Errorf("%s: no link-local address within %s",
		link.Attrs().Name, linkLocalWithin))
	defer cancel()
	for {
		list, err := s.links.AddrList(link, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
		if slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// addRoute adds or replaces a route. A link-local gateway needs the name of the device; "" leaves the choice to the
// kernel.
func addRoute(links *netlink.Handle, dst netip.Prefix, via netip.Addr, device string) error {
	route := &netlink.Route{Dst: netipx.PrefixIPNet(dst), Gw: via.AsSlice()}
	if device != "" {
		link, err := links.LinkByName(device)
		if err != nil {
			return fmt.Errorf("route %s via %s: %w", dst, via, err)
		}
		route.LinkIndex = link.Attrs().Index
	}
	if err := links.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s via %s: %w", dst, via, err)
	}
	return nil
}

func defaultPrefix(like netip.Addr) netip.Prefix {
	return netip.PrefixFrom(like, 0).Masked()
}

// bridge returns a bridge of the fabric, and makes it for the first cable. One that no cable needs would cost: the
// kernel holds the lock of all links of the machine while it waits for a grace period of RCU, for each bridge that goes
// (br_multicast_dev_del).
func (l *lab) bridge(name string) (netlink.Link, error) {
	l.bridging.Lock()
	defer l.bridging.Unlock()
	link, err := l.fabric.links.LinkByName(name)
	if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return link, err
	}
	off := false
	link = &netlink.Bridge{
		LinkAttrs: netlink.LinkAttrs{Name: name, Flags: net.FlagUp, MTU: l.plan.MTU}, MulticastSnooping: &off,
	}
	if err := l.fabric.links.LinkAdd(link); err != nil {
		return nil, err
	}
	return l.fabric.links.LinkByName(name)
}

// plugHosts makes the machines outside the cluster. Their namespaces belong to the fabric's process.
func (l *lab) plugHosts(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		router, err := l.addHost(ctx, "router", underlay, 1, l.plan.Router)
		if err != nil {
			return err
		}
		defer router.close()
		if err := l.plugOtherRouter(ctx, router); err != nil {
			return err
		}
		router.name, router.mac, router.addresses = externalLeg, hostMAC(2), l.outside().leg
		return l.plug(ctx, external, "host-router-ext", router)
	})
	group.Go(func() error {
		lan, err := l.addHost(ctx, "lan", underlay, 3, l.plan.LANHost)
		if err != nil {
			return err
		}
		defer lan.close()
		for _, gateway := range firstOfEachFamily(l.plan.Router) {
			if err := addRoute(lan.links, defaultPrefix(gateway), gateway, lan.name); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error { return l.plugExternal(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	l.nameHosts()
	return nil
}

// ends contains the addresses on the network behind the router.
type ends struct{ leg, host []netip.Prefix }

func (l *lab) outside() ends {
	var e ends
	for _, network := range l.plan.External {
		e.leg, e.host = append(e.leg, network.Router), append(e.host, network.Host)
	}
	return e
}

// plugExternal makes the host behind the router.
func (l *lab) plugExternal(ctx context.Context) error {
	far, err := l.addHost(ctx, "external", external, 4, l.outside().host)
	if err != nil {
		return err
	}
	defer far.close()
	for _, e := range l.plan.External {
		if err := addRoute(far.links, defaultPrefix(e.Router.Addr()), e.Router.Addr(), far.name); err != nil {
			return err
		}
	}
	return nil
}

// nameHosts makes the hosts' places.
func (l *lab) nameHosts() {
	for name, addresses := range map[string][]netip.Prefix{
		"router": l.plan.Router, "lan": l.plan.LANHost, "external": l.outside().host,
	} {
		l.hosts[name] = &cluster.Place{
			Name: "host/" + name, Agent: l.fabric.agent, Netns: agent.NamespacePath(name),
			Interfaces: map[string][]netip.Addr{"uplink": cluster.Addresses(addresses)},
		}
	}
	l.hosts["router"].Interfaces["external"] = cluster.Addresses(l.outside().leg)
}

func hostMAC(n byte) net.HardwareAddr { return net.HardwareAddr{0x02, labMAC, 0, 0, 0xff, n} }

// addHost makes a namespace of the fabric's process and connects it to a bridge. The caller closes the socket.
func (l *lab) addHost(ctx context.Context, name, bridge string, n byte, addresses []netip.Prefix) (socket, error) {
	path, err := l.fabric.agent.CreateNamespace(ctx, name)
	if err != nil {
		return socket{}, err
	}
	if err := l.fabric.setSysctls(ctx, path, hostSysctls(name == "router")); err != nil {
		return socket{}, err
	}
	s, err := l.hostSocket(name)
	if err != nil {
		return socket{}, err
	}
	s.mac, s.addresses = hostMAC(n), addresses
	if err := l.plug(ctx, bridge, "host-"+name, s); err != nil {
		s.close()
		return socket{}, err
	}
	return s, nil
}

// hostSocket returns a host's first interface. Its namespace is mounted on the fabric's root, which the harness sees
// through /proc.
func (l *lab) hostSocket(name string) (socket, error) {
	s := socket{on: l.fabric, netns: agent.NamespacePath(name), name: "eth0"}
	var err error
	if s.ns, err = netns.GetFromPath(fmt.Sprintf("/proc/%d/root%s", l.fabric.pid(), onRoot(s.netns))); err != nil {
		return socket{}, fmt.Errorf("host/%s: %w", name, err)
	}
	if s.links, err = netlink.NewHandleAt(s.ns, unix.NETLINK_ROUTE); err != nil {
		return socket{}, errors.Join(fmt.Errorf("host/%s: %w", name, err), s.ns.Close())
	}
	return s, nil
}

func (s socket) close() {
	s.links.Close()
	_ = s.ns.Close()
}

func firstOfEachFamily(prefixes []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	for _, p := range prefixes {
		if len(list) == 0 || (len(list) == 1 && list[0].Is4() != p.Addr().Is4()) {
			list = append(list, p.Addr())
		}
	}
	return list
}

// routePods adds to all machines of the underlay the routes to pods that are behind a node and not on the underlay.
func (l *lab) routePods(context.Context) error {
	routes := l.podRoutes()
	if len(routes) == 0 {
		return nil
	}
	handles := map[string]*netlink.Handle{}
	for _, node := range l.plan.Nodes {
		handles["node/"+node.Name] = l.machine(node.Name).links
	}
	for _, name := range []string{"router", "lan"} {
		// In a cloud host/lan is in another subnet, and the router's routes suffice.
		if l.req.Alone || l.cloud != nil && name == "lan" {
			break
		}
		host, err := l.hostSocket(name)
		if err != nil {
			return err
		}
		defer host.close()
		handles["host/"+name] = host.links
	}
	for _, node := range routes {
		for _, prefix := range node.PodPrefixes {
			via, ok := sameFamily(node.Addresses, prefix.Addr())
			if !ok {
				return fmt.Errorf("node/%s: no address in the family of its pods' %s", node.Name, prefix)
			}
			for name, links := range handles {
				if name == "node/"+node.Name {
					continue
				}
				if err := addRoute(links, prefix.Masked(), via, ""); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	}
	return nil
}

func sameFamily(prefixes []netip.Prefix, like netip.Addr) (netip.Addr, bool) {
	for _, p := range prefixes {
		if p.Addr().Is4() == like.Is4() {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}
