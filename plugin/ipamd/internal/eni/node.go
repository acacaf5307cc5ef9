// Package eni sets up the kernel of a node for its ENIs: packets from a pod on a secondary ENI leave by that ENI,
// packets that leave the VPC leave by the primary one, and replies of node ports leave by the link on which the
// connection arrived.
//
// The plugin makes what belongs to a single pod (its rules 512 and 1536, its host route, its veth). With IPv6
// all pods are on the primary ENI, and need nothing but Guard.
//
// Everything can be repeated, and is repeated: that is how it follows changes of the cloud and of other programs.
//
// Tests: go test ./plugin/ipamd/internal/eni (as root)
package eni

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Options are the settings of a Node.
type Options struct {
	// Namespace is the namespace of the calling thread.
	Namespace *kernel.Namespace
	// ExternalSNAT leaves the source of packets that leave the VPC unchanged: something outside translates it.
	ExternalSNAT bool
	// NodePorts makes replies of pods to connections that arrived on the primary ENI leave by it.
	NodePorts bool
	// CheckSources drops what pods send with another source than their own, or to the node's loopback.
	CheckSources bool
	// NoMetadata drops what pods send to the metadata service.
	NoMetadata bool
	// Mark is the bit that marks such connections. It must not be 0 if NodePorts is set.
	Mark uint32
	// VethPrefix is the prefix of the names of pods' links on the node.
	VethPrefix string
	// MTU of the ENIs; 0 leaves it alone.
	MTU int
}

// Node sets up all ENIs of a node. It is not safe for concurrent use.
type Node struct {
	opts Options
	// indexes of the ENIs' links by their MACs, as they were listed last
	indexes map[string]int
}

// New returns a Node that has not changed anything yet.
func New(opts Options) *Node { return &Node{opts: opts} }

// Result is the outcome of an Ensure.
type Result struct {
	// Unusable contains the ENIs, by ID, that pods cannot use, and the reasons.
	Unusable map[string]error
	// Warnings are sentences about features that do not work completely.
	Warnings []string
}

// Ensure sets up the ENIs of an inventory and removes what it made for ENIs that are gone. It does not change unmanaged
// ENIs, nor their addresses, routes and rules. An error concerns the node as a whole; the errors of single ENIs are in
// the result. It may be repeated at any time.
func (n *Node) Ensure(inv cloud.Inventory) (Result, error) {
	result := Result{Unusable: map[string]error{}}
	links, err := n.linksOf(inv.ENIs)
	if err != nil {
		return result, err
	}
	primary := inv.ENIs[0]
	link := links[primary.MAC]
	if link == nil {
		return result, fmt.Errorf("primary ENI %s: no link has MAC %s", primary.ID, primary.MAC)
	}
	if err := n.setUp(link); err != nil {
		return result, err
	}
	var usable []cloud.ENI
	for _, eni := range inv.ENIs[1:] {
		if eni.Unmanaged() != "" {
			continue
		}
		if err := n.ensureSecondary(eni, links[eni.MAC]); err != nil {
			result.Unusable[eni.ID] = err
			continue
		}
		usable = append(usable, eni)
	}
	if err := n.ensureRules(wantedRules(n.opts, vpc4(inv), usable), keep(inv.ENIs)); err != nil {
		return result, err
	}
	if err := ensureTable(tableOf(n.opts, link.Attrs().Name, primary.Address, vpc4(inv))); err != nil {
		return result, err
	}
	result.Warnings, err = n.checkSysctls(link.Attrs().Name)
	return result, err
}

func vpc4(inv cloud.Inventory) []netip.Prefix {
	var all []netip.Prefix
	for _, prefix := range inv.VPC {
		if prefix.Addr().Is4() {
			all = append(all, prefix.Masked())
		}
	}
	return all
}

// keep returns a function that reports whether a rule from an address stays although it is not wanted: the rule of an
// ENI stays while the ENI cannot be set up, and rules from any address of an unmanaged ENI belong to somebody else.
func keep(enis []cloud.ENI) func(netip.Addr) bool {
	return func(ip netip.Addr) bool {
		return slices.ContainsFunc(enis, func(e cloud.ENI) bool {
			return ip == e.Address || e.Unmanaged() != "" && (slices.Contains(e.Secondary, ip) ||
				slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool { return p.Contains(ip) }))
		})
	}
}

// linksOf returns the links of ENIs by their MACs, without those of ENIs that have none. It lists the links only if one
// that it found before is another now, or one is missing: for each link on a list, the kernel goes through all
// namespaces in which the node's links have peers (peernet2id), so that a list takes a third of a second on a node with
// 3,000 pods. An unmanaged ENI may have no link for good: it is EFA-only, or a pod has its link.
func (n *Node) linksOf(enis []cloud.ENI) (map[string]netlink.Link, error) {
	links := map[string]netlink.Link{}
	for _, eni := range enis {
		if eni.Unmanaged() != "" {
			continue
		}
		link, err := n.linkAgain(eni.MAC)
		if err != nil {
			return nil, fmt.Errorf("link of ENI %s: %w", eni.ID, err)
		}
		if link == nil {
			return n.listLinksOf(enis)
		}
		links[eni.MAC] = link
	}
	return links, nil
}

func (n *Node) listLinksOf(enis []cloud.ENI) (map[string]netlink.Link, error) {
	links, err := n.linksByMAC()
	n.indexes = map[string]int{}
	for _, eni := range enis {
		if link := links[eni.MAC]; link != nil {
			n.indexes[eni.MAC] = link.Attrs().Index
		}
	}
	return links, err
}

// linkAgain returns the link that was found before, or nil if there is none or it has another MAC.
func (n *Node) linkAgain(mac string) (netlink.Link, error) {
	index, known := n.indexes[mac]
	if !known {
		return nil, nil
	}
	link, err := n.opts.Namespace.LinkByIndex(index)
	switch {
	case kernel.IsNotFound(err):
		return nil, nil
	case err != nil || link.Attrs().HardwareAddr.String() != mac:
		return nil, err
	}
	return link, nil
}

// linksByMAC returns for each MAC the link with the lowest index: a macvlan or VLAN on an ENI may have the ENI's MAC,
// and has a higher index.
func (n *Node) linksByMAC() (map[string]netlink.Link, error) {
	links, err := n.opts.Namespace.LinkList()
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	byMAC := map[string]netlink.Link{}
	for _, link := range links {
		mac := link.Attrs().HardwareAddr.String()
		if other := byMAC[mac]; other == nil || link.Attrs().Index < other.Attrs().Index {
			byMAC[mac] = link
		}
	}
	return byMAC, nil
}

func (n *Node) setUp(link netlink.Link) error {
	ns, attrs := n.opts.Namespace, link.Attrs()
	if n.opts.MTU != 0 && attrs.MTU != n.opts.MTU {
		if err := ns.LinkSetMTU(link, n.opts.MTU); err != nil {
			return fmt.Errorf("link %s: MTU %d: %w", attrs.Name, n.opts.MTU, err)
		}
	}
	if attrs.RawFlags&unix.IFF_UP == 0 {
		if err := ns.LinkSetUp(link); err != nil {
			return fmt.Errorf("link %s: up: %w", attrs.Name, err)
		}
	}
	return nil
}

// ensureSecondary sets the address and the routing table of an ENI.
func (n *Node) ensureSecondary(eni cloud.ENI, link netlink.Link) error {
	switch {
	case link == nil:
		return fmt.Errorf("no link has MAC %s", eni.MAC)
	case !eni.Address.Is4() || !eni.Subnet.IsValid():
		return errors.New("the ENI has no IPv4 address")
	case cloud.RouteTable(eni.Device) >= unix.RT_TABLE_COMPAT:
		return fmt.Errorf("device number %d: no routing table is left for it", eni.Device)
	}
	if err := n.setUp(link); err != nil {
		return err
	}
	if err := n.ensureAddress(eni, link); err != nil {
		return err
	}
	return n.ensureTableOf(eni, link)
}

// ensureAddress makes the ENI's own address the only one of the link. Further addresses are for pods. Some
// distributions configure them on the node; packets to them would then never reach a pod.
func (n *Node) ensureAddress(eni cloud.ENI, link netlink.Link) error {
	ns, name := n.opts.Namespace, link.Attrs().Name
	addrs, err := netlinksafe.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("link %s: addresses: %w", name, err)
	}
	want := netip.PrefixFrom(eni.Address, eni.Subnet.Bits())
	has := false
	for _, addr := range addrs {
		if prefix, ok := netipx.FromStdIPNet(addr.IPNet); ok && prefix == want {
			has = true
			continue
		}
		if addr.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := ns.AddrDel(link, &addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("link %s: delete address %s: %w", name, addr.IPNet, err)
		}
	}
	if !has {
		// The flag keeps the kernel from adding a route to the subnet, even for a moment: the primary ENI may be in the
		// same subnet.
		addr := &netlink.Addr{IPNet: netipx.PrefixIPNet(want), Flags: unix.IFA_F_NOPREFIXROUTE}
		if err := ns.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("link %s: address %s: %w", name, want, err)
		}
	}
	return n.leaveMainTable(eni, link)
}

// leaveMainTable removes from the main table the default routes and routes to the subnet that lead over a secondary
// ENI. A DHCP client may have added them. With them the node's own packets would leave by this ENI with an address of
// the primary one.
func (n *Node) leaveMainTable(eni cloud.ENI, link netlink.Link) error {
	routes, err := n.opts.Namespace.MainRoutesOver(link)
	if err != nil {
		return err
	}
	for _, route := range routes {
		if dst, ok := kernel.Destination(route); !ok || dst != eni.Subnet.Masked() && dst.Bits() != 0 {
			continue
		}
		if err := n.opts.Namespace.DeleteRoute(route); err != nil {
			return err
		}
	}
	return nil
}

// ensureTableOf fills the ENI's routing table: the VPC's router is on the link, and all other addresses are behind it.
// That includes hosts of the subnet: the VPC delivers packets that its router receives, whatever their destination.
func (n *Node) ensureTableOf(eni cloud.ENI, link netlink.Link) error {
	gateway, table := cloud.Gateway(eni.Subnet), cloud.RouteTable(eni.Device)
	for _, route := range []*netlink.Route{
		{Dst: netipx.AddrIPNet(gateway), Scope: netlink.SCOPE_LINK},
		{Dst: netipx.PrefixIPNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: gateway.AsSlice()},
	} {
		route.LinkIndex, route.Table = link.Attrs().Index, table
		if err := n.opts.Namespace.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s over %s in table %d: %w", route.Dst, link.Attrs().Name, table, err)
		}
	}
	return nil
}

// checkSysctls returns a warning for each setting with which pods or node ports do not work. It changes src_valid_mark
// of the primary link if necessary, and no other setting.
//
// When the source of a packet for a node port is checked, the destination is already a pod's address, and the route to
// that address leads over the pod's ENI. Strict rp_filter therefore drops the packet, unless the lookup takes into
// account the mark that sends replies back to the primary ENI (src_valid_mark).
func (n *Node) checkSysctls(primary string) ([]string, error) {
	var warnings []string
	forward, err := n.opts.Namespace.Sysctl("ipv4", "all", "forwarding")
	if err != nil {
		return nil, err
	}
	if forward == "0" {
		warnings = append(warnings, "net.ipv4.ip_forward is 0: pods can reach their own node only")
	}
	if !n.opts.NodePorts {
		return warnings, nil
	}
	filter, err := n.highest("rp_filter", primary)
	if err != nil {
		return nil, err
	}
	counts, err := n.highest("src_valid_mark", primary)
	if err != nil || filter != "1" || counts == "1" {
		return warnings, err
	}
	if err := n.opts.Namespace.EnsureSysctl(primary, kernel.Sysctl{
		Family: "ipv4", Key: "src_valid_mark", Value: "1",
	}); err != nil {
		warnings = append(warnings, fmt.Sprintf("rp_filter of %s is strict and src_valid_mark cannot be set (%v): "+
			"node ports do not work for pods on secondary ENIs", primary, err))
	}
	return warnings, nil
}

// highest returns the higher one of a link's value and the value for all links. The kernel uses the higher one for both
// settings that are read here (IN_DEV_RPFILTER and IN_DEV_SRC_VMARK in include/linux/inetdevice.h).
func (n *Node) highest(key, link string) (string, error) {
	all, err := n.opts.Namespace.Sysctl("ipv4", "all", key)
	if err != nil {
		return "", err
	}
	own, err := n.opts.Namespace.Sysctl("ipv4", link, key)
	if err != nil {
		return "", err
	}
	if strings.Compare(all, own) > 0 {
		return all, nil
	}
	return own, nil
}
