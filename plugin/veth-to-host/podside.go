package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// podState is the part of a record that concerns the pod's side.
type podState struct {
	// Slot distinguishes the attachments of one pod: their tables, marks and metrics are derived from it.
	Slot     int          `json:"slot"`
	Routes   []route      `json:"routes"`
	Replaced []route      `json:"replaced,omitempty"` // routes that this attachment's routes replaced
	Sysctls  []podSysctl  `json:"sysctls"`
	Node     []netip.Addr `json:"node"` // the addresses of the node that are routed over the veth
}

// podSysctl is a setting and its previous value. A setting of the veth has no previous value, since it vanishes with
// the veth.
type podSysctl struct {
	kernel.Sysctl
	Link string `json:"link"`
	Old  string `json:"old,omitempty"`
}

// The pod's own tables have numbers from here on; sbr uses numbers from 100 on.
const podTableStart = 256

func podTables(slot int) (veth, link int) {
	return podTableStart + 2*slot, podTableStart + 2*slot + 1
}

// Priorities of the rules in the pod.
const (
	priorityPodMark = 1022
	priorityPodBack = 1024
)

func (a attachment) podRules() []kernel.Rule {
	vethTable, linkTable := podTables(a.Pod.Slot)
	vethMark, linkMark := podMarks(a.Pod.Slot)
	var rules []kernel.Rule
	for _, ipv6 := range a.families() {
		rules = append(rules,
			kernel.Rule{IPv6: ipv6, Priority: priorityPodMark, Mark: vethMark, Mask: podMarkMask, Table: vethTable},
			kernel.Rule{IPv6: ipv6, Priority: priorityPodMark, Mark: linkMark, Mask: podMarkMask, Table: linkTable},
			kernel.Rule{IPv6: ipv6, Priority: priorityPodBack, IifName: a.Veth.Pod, Table: linkTable})
	}
	return rules
}

// planPod sets in a what its pod needs. It changes nothing in the pod.
func planPod(pod *kernel.Namespace, n *node, inPod []entry, a *attachment, wanted []netip.Prefix) error {
	all, err := readRoutes(pod)
	if err != nil {
		return err
	}
	rules, err := pod.Rules()
	if err != nil {
		return err
	}
	if a.Pod.Slot, err = freeSlot(all, rules); err != nil {
		return err
	}
	for _, ipv6 := range a.families() {
		a.Pod.Node = append(a.Pod.Node, n.all(ipv6)...)
	}
	a.planMainRoutes(all, wanted)
	a.planTables(all)
	return a.planSysctls(pod, inPod)
}

func freeSlot(all *routes, rules []netlink.Rule) (int, error) {
	for slot := range maxSlots {
		vethTable, linkTable := podTables(slot)
		taken := slices.ContainsFunc(all.listed, func(r netlink.Route) bool {
			return r.Table == vethTable || r.Table == linkTable
		}) ||
			slices.ContainsFunc(rules, func(r netlink.Rule) bool {
				return r.Table == vethTable || r.Table == linkTable
			})
		if !taken {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("the pod's routing tables %d to %d are all in use", podTableStart, podTableStart+2*maxSlots-1)
}

// planMainRoutes plans the routes over the veth: those to the node's addresses, and those to the wanted destinations.
// They replace routes of the underlay link. Routes of any other link, which belong to the pod's first attachment or to
// another network, take precedence over them.
func (a *attachment) planMainRoutes(all *routes, wanted []netip.Prefix) {
	var others, own []route // own contains those of the underlay link, without those to its subnets
	for _, listed := range all.listed {
		r, ok := routeOf(listed, all.names[listed.LinkIndex])
		switch {
		case !ok || r.Table != 0:
		case r.Link != a.Link:
			others = append(others, r)
		case listed.Protocol != unix.RTPROT_KERNEL:
			own = append(own, r)
		}
	}
	add := func(r route) {
		for slices.ContainsFunc(others, func(o route) bool { return o.Dst == r.Dst && o.Metric == r.Metric }) {
			r.Metric++
		}
		a.Pod.Routes = append(a.Pod.Routes, r)
	}
	for _, ip := range a.Pod.Node {
		add(hostRoute(ip, a.Veth.Pod))
	}
	for _, ipv6 := range a.families() {
		destinations := slices.DeleteFunc(slices.Clone(wanted), func(p netip.Prefix) bool {
			return p.Addr().Is6() != ipv6
		})
		if len(wanted) == 0 {
			destinations = []netip.Prefix{defaultRoute(ipv6)}
		}
		for _, dst := range destinations {
			add(a.overVeth(dst))
		}
	}
	for _, r := range own {
		if slices.ContainsFunc(a.Pod.Routes, func(over route) bool { return over.Dst == r.Dst }) {
			a.Pod.Replaced = append(a.Pod.Replaced, r)
		}
	}
}

// planTables plans two tables. One leads to the node. The other is a copy of the pod's main table before this
// attachment: packets that the node sends back into the pod leave by it; the main table would send them to the node
// again.
func (a *attachment) planTables(all *routes) {
	vethTable, linkTable := podTables(a.Pod.Slot)
	for _, listed := range all.listed {
		r, ok := routeOf(listed, all.names[listed.LinkIndex])
		if ok && r.Table == 0 && r.Link == a.Link && !r.Dst.Addr().IsLinkLocalUnicast() &&
			!r.Dst.Addr().IsMulticast() &&
			slices.Contains(a.families(), r.isIPv6()) {
			r = r.inTable(linkTable)
			r.OnLink = r.OnLink || r.Via.IsValid() && !r.isIPv6()
			a.Pod.Routes = append(a.Pod.Routes, r)
		}
	}
	for _, ipv6 := range a.families() {
		isDefault := func(r route) bool { return r.Table == linkTable && r.Dst == defaultRoute(ipv6) }
		if !slices.ContainsFunc(a.Pod.Routes, isDefault) {
			a.Pod.Routes = append(a.Pod.Routes, route{Dst: defaultRoute(ipv6), Unreachable: true}.inTable(linkTable))
		}
		a.Pod.Routes = append(a.Pod.Routes, a.overVeth(defaultRoute(ipv6)).inTable(vethTable))
	}
}

// overVeth returns a route by way of the node. The main table leads to the node's address over the veth of the pod's
// first attachment. If that is another attachment's, the route must say that the next hop is on this link. For IPv6 the
// kernel accepts that against the main table only for a link-local next hop (ip6_route_check_nh_onlink).
func (a *attachment) overVeth(dst netip.Prefix) route {
	r := route{Dst: dst, Via: a.node(dst.Addr().Is6()), Link: a.Veth.Pod}.normal()
	switch {
	case a.Pod.Slot == 0:
	case r.isIPv6():
		r.Via = linkLocalHop()
	default:
		r.OnLink = true
	}
	return r
}

// linkLocalHop returns the address that stands for the node on a veth. No link has it; a permanent neighbour suffices.
func linkLocalHop() netip.Addr { return netip.MustParseAddr("fe80::1") }

// podNeighbours returns the addresses of the pod's permanent neighbours on the veth.
func (a attachment) podNeighbours() []netip.Addr {
	if slices.Contains(a.families(), true) {
		return append(slices.Clone(a.Pod.Node), linkLocalHop())
	}
	return a.Pod.Node
}

func (a *attachment) planSysctls(pod *kernel.Namespace, inPod []entry) error {
	ours := func(family, key, value string) podSysctl {
		return podSysctl{Sysctl: kernel.Sysctl{Family: family, Key: key, Value: value}, Link: a.Veth.Pod}
	}
	theirs := func(family, link, key, value string) podSysctl {
		return podSysctl{Sysctl: kernel.Sysctl{Family: family, Key: key, Value: value}, Link: link}
	}
	if slices.Contains(a.families(), false) {
		a.Pod.Sysctls = append(a.Pod.Sysctls,
			ours("ipv4", "forwarding", "1"), theirs("ipv4", a.Link, "forwarding", "1"),
			// 2 and not 0, since the kernel uses the larger of the link's value and the value of "all". With strict
			// filtering, replies to the node would arrive on the wrong link.
			ours("ipv4", "rp_filter", "2"), theirs("ipv4", a.Link, "rp_filter", "2"),
			ours("ipv4", "accept_redirects", "0"))
	}
	if slices.Contains(a.families(), true) {
		a.Pod.Sysctls = append(a.Pod.Sysctls,
			ours("ipv6", "accept_ra", "0"), ours("ipv6", "autoconf", "0"), ours("ipv6", "accept_redirects", "0"),
			ours("ipv6", "addr_gen_mode", "1"),
			// IPv6 ignores the setting of a link (ip6_forward reads the one of "all").
			theirs("ipv6", "all", "forwarding", "1"))
	}
	for i, s := range a.Pod.Sysctls {
		if s.Link == a.Veth.Pod {
			continue
		}
		old, err := pod.Sysctl(s.Family, s.Link, s.Key)
		if err != nil {
			return fmt.Errorf("in the pod: %w", err)
		}
		if before, ok := changedBefore(inPod, a.Netns, s); ok {
			// the present value was set by another attachment; the last one to go restores the first value
			old = before
		}
		a.Pod.Sysctls[i].Old = old
	}
	return nil
}

// changedBefore returns the value that a setting had before another attachment of the pod changed it.
func changedBefore(others []entry, netns string, s podSysctl) (string, bool) {
	for _, other := range others {
		for _, o := range other.State.Pod.Sysctls {
			if other.State.Netns == netns && o.Link == s.Link && o.Sysctl == s.Sysctl {
				return o.Old, true
			}
		}
	}
	return "", false
}

// connectPod makes the pod's side of an attachment whose veth exists.
func connectPod(pod *kernel.Namespace, ifName string, a attachment) error {
	if err := setPodSysctls(pod, a.Pod.Sysctls); err != nil {
		return err
	}
	link, err := pod.LinkByName(a.Veth.Pod)
	if err != nil {
		return fmt.Errorf("link %s of the pod: %w", a.Veth.Pod, err)
	}
	if err := pod.LinkSetUp(link); err != nil {
		return fmt.Errorf("link %s of the pod: bring up: %w", a.Veth.Pod, err)
	}
	for _, ip := range a.Addresses {
		// The veth gets the addresses as well: on a link without an address the kernel drops replies when it checks
		// their reverse path, and a redirecting rule, such as a service mesh's, needs an address to redirect to.
		addr := &netlink.Addr{IPNet: netipx.AddrIPNet(ip)}
		if ip.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := pod.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("link %s of the pod: address %s: %w", a.Veth.Pod, ip, err)
		}
	}
	if err := ensureNeighbours(pod, link, a.podNeighbours(), a.Veth.HostMAC, nil); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	if err := connectPodRoutes(pod, a); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(pod.Fd()))
	if err != nil {
		return fmt.Errorf("nftables in the pod: %w", err)
	}
	return newPodTable(ifName, a).make(conn)
}

// localWithin is how long the kernel may take to accept an IPv6 address.
const localWithin = 5 * time.Second

// awaitLocal waits until the pod accepts packets to its addresses. Until then it would forward them, and connection
// tracking would keep translating the source of a connection whose first packet was forwarded.
func awaitLocal(pod *kernel.Namespace, a attachment) error {
	missing, err := pod.AwaitLocal(localWithin, a.Addresses...)
	if err != nil || len(missing) == 0 {
		return err
	}
	return chain.TryAgain("addresses %v of the pod are not in use after %s", missing, localWithin)
}

func setPodSysctls(pod *kernel.Namespace, sysctls []podSysctl) error {
	for _, s := range sysctls {
		if err := pod.EnsureSysctl(s.Link, s.Sysctl); err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
			return fmt.Errorf("sysctl %s.%s.%s=%s in the pod: %w", s.Family, s.Link, s.Key, s.Value, err)
		}
	}
	return nil
}

func connectPodRoutes(pod *kernel.Namespace, a attachment) error {
	all, err := readRoutes(pod)
	if err != nil {
		return err
	}
	for _, r := range a.Pod.Replaced {
		if err := all.delete(r); err != nil {
			return err
		}
	}
	for _, r := range a.Pod.Routes {
		if err := all.ensure(r); err != nil {
			return err
		}
	}
	rules, err := pod.Rules()
	if err != nil {
		return err
	}
	for _, r := range a.podRules() {
		if err := pod.EnsureRule(r, rules); err != nil {
			return err
		}
	}
	return nil
}
