package main

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// node holds the addresses by which others know the node.
type node struct {
	addresses []kernel.Address // of all links but the child
	master    int
}

func readNode(host *kernel.Namespace, master netlink.Link, childName string) (*node, error) {
	addrs, err := host.Addresses(false, true)
	if err != nil {
		return nil, err
	}
	n := &node{master: master.Attrs().Index}
	link, err := host.LinkByName(childName)
	if err != nil && !kernel.IsNotFound(err) {
		return nil, err
	}
	for _, addr := range addrs {
		if link == nil || addr.Link != link.Attrs().Index {
			n.addresses = append(n.addresses, addr)
		}
	}
	return n, nil
}

func (n *node) has(ip netip.Addr) bool {
	return slices.ContainsFunc(n.addresses, func(a kernel.Address) bool { return a.Prefix.Addr() == ip })
}

// source returns the address from which the node talks to a pod: the master's address in the pod's subnet, else its
// first address of that family. The child has no address, so by default the kernel takes an address of the first NIC,
// to which the pod may have no route. The zero value means that the master has no address of that family.
func (n *node) source(pod netip.Addr) netip.Addr { return kernel.Source(n.addresses, n.master, pod) }

// podRoutes returns the routes by which a pod reaches every address of its node over link, including those that follow
// from the pod's subnet.
func (n *node) podRoutes(pod []netip.Prefix, link string, linkLocal netip.Addr) []podRoute {
	var routes []podRoute
	if subnets := familyOf(pod, true); len(subnets) > 0 {
		routes = n.podRoutes4(subnets, link)
	}
	if len(familyOf(pod, false)) == 0 {
		return routes
	}
	// The kernel answers a neighbour solicitation only on the link that has the address, so a pod finds none of the
	// node's addresses over the child but its link-local one.
	for _, ip := range n.distinct(false) {
		routes = append(routes, podRoute{Dst: ip, Via: linkLocal, Link: link, Metric: n.metric(ip)})
	}
	return routes
}

// podRoutes4 returns the IPv4 routes. The child answers ARP for each address of the node. The next hop is nevertheless
// the master's address, which is unique on the LAN. Other addresses need not be: Vagrant gives all its machines the
// same address on their first NIC.
func (n *node) podRoutes4(pod []netip.Prefix, link string) []podRoute {
	addrs := n.distinct(true)
	hop := slices.IndexFunc(addrs, func(ip netip.Addr) bool { return n.onMaster(ip) && onLink(pod, ip) })
	if hop < 0 {
		hop = slices.IndexFunc(addrs, n.onMaster)
	}
	var direct, further []podRoute
	for i, ip := range addrs {
		r := podRoute{Dst: ip, Link: link, Metric: n.metric(ip)}
		if hop < 0 || i == hop || n.onMaster(ip) && onLink(pod, ip) {
			direct = append(direct, r)
			continue
		}
		r.Via = addrs[hop]
		further = append(further, r)
	}
	return append(direct, further...)
}

func onLink(subnets []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(subnets, func(subnet netip.Prefix) bool { return subnet.Contains(ip) })
}

func (n *node) metric(ip netip.Addr) int {
	if n.onMaster(ip) {
		return metricMaster
	}
	return metricOther
}

// distinct returns the node's addresses of a family, those of the master first.
func (n *node) distinct(ipv4 bool) []netip.Addr {
	var addrs []netip.Addr
	for _, master := range []bool{true, false} {
		for _, addr := range n.addresses {
			ip := addr.Prefix.Addr()
			if ip.Is4() == ipv4 && (addr.Link == n.master) == master && !slices.Contains(addrs, ip) {
				addrs = append(addrs, ip)
			}
		}
	}
	return addrs
}

func (n *node) onMaster(ip netip.Addr) bool {
	return slices.ContainsFunc(n.addresses, func(a kernel.Address) bool {
		return a.Link == n.master && a.Prefix.Addr() == ip
	})
}

func familyOf(prefixes []netip.Prefix, ipv4 bool) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return p.Addr().Is4() != ipv4 })
}
