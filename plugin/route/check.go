package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdCheck compares the record of ADD with the current state, from the master to the pod, and reports the first thing
// that is missing or different. SPEC.md, CHECK: a change that a later plugin in the chain may make is no error, so
// links, addresses and routes that ADD did not make are not checked.
func cmdCheck(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	call, err := verb.Open(&conf.Config, args)
	if err != nil {
		return err
	}
	defer call.Close()
	e, newer, err := load(conf.Attachment(args))
	if err != nil {
		return err
	}
	c := &checker{Call: call, ifName: args.IfName, entry: *e, newer: newer}
	return c.run(conf)
}

// load returns the record of an attachment, and those of its addresses that now belong to newer attachments.
func load(a record.Attachment) (*entry, map[netip.Addr]record.Attachment, error) {
	newer := map[netip.Addr]record.Attachment{}
	e, err := verb.Load(pluginName, a, func(s *store, e entry) error {
		for _, addr := range e.State.Addresses {
			other, err := newerOwner(s, e, addr.IP)
			if err != nil {
				return err
			}
			if other != nil {
				newer[addr.IP] = other.Attachment
			}
		}
		return nil
	})
	return e, newer, err
}

type checker struct {
	*verb.Call
	ifName string
	entry  entry
	newer  map[netip.Addr]record.Attachment // the owners of addresses that this attachment had

	child *child
	link  netlink.Link // the child's
}

func (c *checker) run(conf *config) error {
	if conf.Bridge != "" && conf.Bridge != c.entry.State.Child {
		return chain.BadConfig("bridge is %q, and this attachment was made with %q: delete it and add it again",
			conf.Bridge, c.entry.State.Child)
	}
	if conf.Master != "" && conf.Master != c.entry.State.Master {
		return chain.BadConfig("master is %q, and this attachment was made with %q: delete it and add it again",
			conf.Master, c.entry.State.Master)
	}
	for _, check := range []func() error{
		c.checkChild, c.checkGuards, c.checkPrevResult, c.checkAddresses, c.checkPodRoutes,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkChild() (err error) {
	state := c.entry.State
	if c.child, err = newChild(c.Host, state.Master, state.Child); err != nil {
		return err
	}
	if c.link, err = c.child.find(c.Host); err != nil {
		return err
	}
	switch {
	case c.link == nil:
		return fmt.Errorf("link %s is missing", state.Child)
	case !kernel.IsUp(c.link):
		return fmt.Errorf("link %s is down", state.Child)
	case c.link.Attrs().MTU != c.child.master.Attrs().MTU:
		return fmt.Errorf("link %s: want mtu %d, that of %s, got %d", state.Child, c.child.master.Attrs().MTU,
			state.Master, c.link.Attrs().MTU)
	}
	return nil
}

func (c *checker) checkGuards() error {
	if err := c.Host.CheckSysctls(c.child.name, c.child.guards()...); err != nil {
		return err
	}
	if err := c.checkARP(); err != nil || !c.entry.State.hasIPv6() {
		return err
	}
	has, err := c.Host.HasAddress(c.link, c.child.linkLocal())
	if err == nil && !has {
		err = fmt.Errorf("link %s: address %s is missing, which pods use as next hop", c.child.name,
			c.child.linkLocal())
	}
	return err
}

// checkARP compares arp_ignore: with most values a link answers for its own addresses alone, and the child has none.
// The setting of "all" wins over the child's (ip-sysctl.rst: the maximum counts).
func (c *checker) checkARP() error {
	got, err := c.Host.Sysctl("ipv4", "all", "arp_ignore")
	if err != nil || got == "0" || got == "3" || !c.entry.State.hasIPv4() {
		return err
	}
	return fmt.Errorf("sysctl ipv4.all.arp_ignore is %s, with which %s answers no pod: want 0 or 3", got, c.child.name)
}

// checkPrevResult reports addresses in prevResult that are neither in this record nor on the link, where a later plugin
// may have added them.
func (c *checker) checkPrevResult() error {
	for _, given := range podAddresses(c.Prev, c.ifName) {
		if c.entry.State.has(given.Addr()) {
			continue
		}
		link, err := c.Pod.LinkByName(given.link)
		if err != nil {
			return fmt.Errorf("prevResult: link %s of the pod: %w", given.link, err)
		}
		has, err := c.Pod.HasAddress(link, given.Addr())
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("prevResult: address %s is not on link %s of the pod", given.Addr(), given.link)
		}
	}
	return nil
}

func (c *checker) checkAddresses() error {
	state := c.entry.State
	if len(state.Addresses) == 0 {
		return errors.New("all addresses of this attachment belong to newer attachments")
	}
	n, err := readNode(c.Host, c.child.master, state.Child)
	if err != nil {
		return err
	}
	for _, addr := range state.Addresses {
		if newer, ok := c.newer[addr.IP]; ok {
			return fmt.Errorf("address %s belongs to the newer attachment %s", addr.IP, newer)
		}
		if err := c.checkNeighbour(addr); err != nil {
			return err
		}
		if err := c.checkRoute(addr.IP, n.source(addr.IP)); err != nil {
			return err
		}
	}
	return c.checkKnown(n)
}

// checkKnown reports that the node has none of the IPv6 addresses any more by which the pod knows it, as after a change
// by DHCP: the pod has no route to others, and no answer from it arrives. The child answers for every IPv4 address.
func (c *checker) checkKnown(n *node) error {
	var known []netip.Addr
	for _, r := range c.entry.State.PodRoutes {
		if r.Dst.Is6() {
			known = append(known, r.Dst)
		}
	}
	if len(known) == 0 || slices.ContainsFunc(known, n.has) {
		return nil
	}
	return fmt.Errorf("address %s, by which the pod knows the node, is not an address of the node: delete the "+
		"attachment and add it again", known[0])
}

func (c *checker) checkNeighbour(addr address) error {
	link, err := c.Pod.LinkByName(addr.Link)
	if err != nil {
		return fmt.Errorf("link %s of the pod: %w", addr.Link, err)
	}
	want := link.Attrs().HardwareAddr
	got, err := c.Host.Neighbour(c.link.Attrs().Index, addr.IP)
	switch {
	case err != nil:
		return err
	case got == nil:
		return fmt.Errorf("neighbour %s on %s is missing", addr.IP, c.child.name)
	case bytes.Equal(got, want):
		return nil
	case addr.MAC != want.String():
		return fmt.Errorf("neighbour %s on %s: want %s, that of link %s of the pod, got %s: a later plugin has "+
			"changed the pod's; put it before route",
			addr.IP, c.child.name, want, addr.Link, got)
	}
	return fmt.Errorf("neighbour %s on %s: want %s, that of link %s of the pod, got %s", addr.IP, c.child.name, want,
		addr.Link, got)
}

// checkRoute asks for the route that the node takes. Only if that is another route does it list the routes, to name it.
func (c *checker) checkRoute(ip, source netip.Addr) error {
	h := &hostRoutes{host: c.Host, link: c.link}
	want := h.want(ip, source)
	got, err := c.Host.RouteTo(ip, 0)
	if err != nil || got != nil && want.Matches(*got) {
		return err
	}
	if h, err = readHostRoutes(c.Host, c.link); err != nil {
		return err
	}
	found := false
	for _, route := range h.listed[ip] {
		switch {
		case want.Matches(route):
			found = true
		case route.LinkIndex != want.Link:
			return fmt.Errorf("route to %s: want it on %s alone, got another on %s", ip, c.child.name,
				c.linkName(route.LinkIndex))
		}
	}
	if found {
		return nil // one of the node's rules leads elsewhere, as its administrator decided
	}
	if listed := h.listed[ip]; len(listed) > 0 {
		route := listed[0]
		if source, _ := netipx.FromStdIP(route.Src); source != want.Src {
			return fmt.Errorf("route to %s on %s: want source %s, got %s", ip, c.child.name, orNone(want.Src),
				orNone(source))
		}
		return fmt.Errorf("route to %s on %s is not a plain host route: %s", ip, c.child.name, route)
	}
	return fmt.Errorf("route to %s on %s is missing", ip, c.child.name)
}

func (c *checker) linkName(index int) string {
	link, err := c.Host.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("the link with index %d", index)
	}
	return link.Attrs().Name
}

func orNone(ip netip.Addr) string {
	if !ip.IsValid() {
		return "none"
	}
	return ip.String()
}

// checkPodRoutes accepts a route in any table (sbr moves them). A route that the result no longer lists may be missing.
func (c *checker) checkPodRoutes() error {
	routes, err := c.Pod.AllRoutes()
	if err != nil {
		return err
	}
	for _, r := range c.entry.State.PodRoutes {
		if !lists(c.Prev.Routes, r) {
			continue
		}
		found := slices.ContainsFunc(routes, func(route netlink.Route) bool {
			dst, ok := kernel.Destination(route)
			via, _ := netipx.FromStdIP(route.Gw)
			return ok && dst.IsSingleIP() && dst.Addr() == r.Dst && via == r.Via && route.Type == unix.RTN_UNICAST
		})
		if !found {
			return fmt.Errorf("route %s is missing in the pod", r)
		}
	}
	return nil
}

func lists(routes []*types.Route, r podRoute) bool {
	return slices.ContainsFunc(routes, func(route *types.Route) bool {
		dst, ok := netipx.FromStdIPNet((*net.IPNet)(&route.Dst))
		return ok && dst.IsSingleIP() && dst.Addr() == r.Dst
	})
}
