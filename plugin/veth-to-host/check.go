package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdCheck compares what ADD made with the present state, from the node to the pod, and returns the first object that
// is missing or different. SPEC.md, CHECK: a change by a later plugin of the chain is no error, so links, addresses and
// routes that ADD did not make are not compared.
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
	c := &checker{Call: call, netns: args.Netns}
	e, err := verb.Load(pluginName, conf.Attachment(args), func(s *store, e entry) error {
		for _, ip := range e.State.Addresses {
			newer, err := hasNewerOwner(s, e, ip)
			if err != nil {
				return err
			}
			if newer {
				c.lost = append(c.lost, ip)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.entry = *e
	return c.run(conf)
}

type checker struct {
	*verb.Call
	netns string
	entry entry
	lost  []netip.Addr // addresses that newer attachments have
}

func (c *checker) run(conf *config) error {
	a := c.entry.State
	if conf.HostInterface != "" && conf.HostInterface != a.HostInterface {
		return chain.BadConfig("hostInterface is %q, and this attachment was made with %q: delete it and add it again",
			conf.HostInterface, a.HostInterface)
	}
	for _, check := range []func() error{
		c.checkPrevResult, c.checkNode, c.checkVeth, c.checkHostRoutes, c.checkNodeTable, c.checkPodLink,
		c.checkPodSysctls, c.checkPodRoutes, c.checkPodTable,
		func() error { return dropped(a.HostInterface) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkListed checks that prevResult lists the pod's end of the veth. SPEC.md, CHECK: prevResult says which interfaces
// are expected.
func (c *checker) checkListed() error {
	v := c.entry.State.Veth
	for _, i := range c.Prev.Interfaces {
		switch {
		case i.Name != v.Pod || i.Sandbox != c.netns:
		case i.Mac != "" && i.Mac != v.PodMAC:
			return fmt.Errorf("prevResult: link %s of the pod: want MAC %s, got %s", v.Pod, v.PodMAC, i.Mac)
		default:
			return nil
		}
	}
	return fmt.Errorf("prevResult: link %s with sandbox %s is missing", v.Pod, c.netns)
}

// checkPrevResult checks that the addresses of prevResult are on the underlay link and in this record, and that no
// newer record has them.
func (c *checker) checkPrevResult() error {
	if err := c.checkListed(); err != nil {
		return err
	}
	a := c.entry.State
	link, err := c.Pod.LinkByName(a.Link)
	if err != nil {
		return fmt.Errorf("link %s of the pod: %w", a.Link, err)
	}
	for _, ip := range addressesOf(c.Prev, a.Link) {
		has, err := c.Pod.HasAddress(link, ip)
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("prevResult: address %s is not on link %s of the pod", ip, a.Link)
		}
		if !a.has(ip) {
			return fmt.Errorf("prevResult: address %s was not in the prevResult of ADD: delete the attachment and "+
				"add it again", ip)
		}
	}
	for _, ip := range c.lost {
		return fmt.Errorf("address %s belongs to a newer attachment", ip)
	}
	return nil
}

// checkNode lists no addresses of the node: for a list the kernel goes through the links of all pods.
func (c *checker) checkNode() error {
	a := c.entry.State
	n, err := readNode(c.Host, a.HostInterface)
	if err != nil {
		return err
	}
	if err := n.up(); err != nil {
		return err
	}
	for _, ipv6 := range a.families() {
		if err := n.forwards(ipv6); err != nil {
			return err
		}
	}
	for _, ip := range a.Node {
		local, err := c.Host.IsLocal(ip)
		if err != nil {
			return err
		}
		if !local {
			return fmt.Errorf("address %s, by which the pod knows the node, is not an address of the node: delete the "+
				"attachment and add it again", ip)
		}
	}
	return c.Host.CheckSysctls(a.HostInterface, validMark())
}

func (c *checker) checkVeth() error {
	v := c.entry.State.Veth
	link, err := checkLink(c.Host, v.Host, v.HostMAC, v.MTU)
	if err != nil {
		return err
	}
	peer, err := checkLink(c.Pod, v.Pod, v.PodMAC, v.MTU)
	if err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	joined, err := c.Pod.IsParent(peer, link.Attrs().Index, c.Host)
	if err == nil && !joined {
		err = fmt.Errorf("link %s of the pod is not the other end of %s", v.Pod, v.Host)
	}
	if err != nil {
		return err
	}
	return c.Host.CheckSysctls(v.Host, c.entry.State.hostSysctls()...)
}

func checkLink(n *kernel.Namespace, name, mac string, mtu int) (netlink.Link, error) {
	link, err := n.LinkByName(name)
	if kernel.IsNotFound(err) {
		return nil, fmt.Errorf("link %s is missing", name)
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	attrs := link.Attrs()
	switch {
	case link.Type() != "veth":
		return nil, fmt.Errorf("link %s: want kind veth, got %s", name, link.Type())
	case attrs.HardwareAddr.String() != mac:
		return nil, fmt.Errorf("link %s: want hardware address %s, got %s", name, mac, attrs.HardwareAddr)
	case attrs.MTU != mtu:
		return nil, fmt.Errorf("link %s: want mtu %d, got %d", name, mtu, attrs.MTU)
	case !kernel.IsUp(link):
		return nil, fmt.Errorf("link %s is down", name)
	}
	return link, nil
}

func (c *checker) checkHostRoutes() error {
	a := c.entry.State
	if err := checkNeighbours(c.Host, a.Veth.Host, a.Addresses, a.Veth.PodMAC); err != nil {
		return err
	}
	link, err := c.Host.LinkByName(a.Veth.Host)
	if err != nil {
		return fmt.Errorf("link %s: %w", a.Veth.Host, err)
	}
	if right, err := takesItsRoutes(c.Host, link, a); err != nil || right {
		return err
	}
	h, err := readHostSide(c.Host, []entry{c.entry}) // only to say what is wrong
	if err != nil {
		return err
	}
	for _, r := range a.hostRoutes(h.owns(c.entry)) {
		if !h.routes.has(r) {
			return fmt.Errorf("route %s is missing", r)
		}
	}
	for _, listed := range h.routes.listed {
		dst, ok := kernel.Destination(listed)
		if ok && listed.Table == mainTable && dst.IsSingleIP() && a.has(dst.Addr()) &&
			h.routes.names[listed.LinkIndex] != a.Veth.Host {
			return fmt.Errorf("route to %s: want it on %s alone, got another on %s", dst.Addr(), a.Veth.Host,
				h.routes.names[listed.LinkIndex])
		}
	}
	rules := a.hostRules()
	for _, ipv6 := range a.families() {
		rules = append(rules, markRule(a.Mark, ipv6))
	}
	return checkRules(h.rules, rules)
}

func checkRules(listed []netlink.Rule, wanted []kernel.Rule) error {
	for _, rule := range wanted {
		if !slices.ContainsFunc(listed, rule.Matches) {
			return fmt.Errorf("rule %s is missing", rule)
		}
	}
	return nil
}

func checkNeighbours(n *kernel.Namespace, name string, addrs []netip.Addr, mac string) error {
	link, err := n.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	want, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	for _, ip := range addrs {
		got, err := n.Neighbour(link.Attrs().Index, ip)
		if err != nil {
			return err
		}
		if got == nil {
			return fmt.Errorf("neighbour %s on %s is missing", ip, name)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("neighbour %s on %s: want %s, got %s", ip, name, want, got)
		}
	}
	return nil
}

func (c *checker) checkNodeTable() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := newNodeTable([]entry{c.entry})
	if c.entry.State.Raw {
		return checkTable(conn, t.table)
	}
	return t.check(conn)
}

// checkTable compares a table with the kernel's. Sets, chains and rules must be the same; the kernel's sets must
// contain the elements of t and may have more.
func checkTable(conn *nftables.Conn, t *table) error {
	if _, err := conn.ListTableOfFamily(t.Name, t.Family); errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: table inet %s is missing", t.Name)
	}
	why, err := t.difference(conn)
	if err != nil {
		return err
	}
	if why != "" {
		return fmt.Errorf("nftables: table inet %s: %s", t.Name, why)
	}
	for _, s := range t.sets {
		for _, e := range t.elements[s.Name] {
			has, err := t.hasElement(conn, s, e)
			if err != nil {
				return err
			}
			if !has {
				return fmt.Errorf("nftables: table inet %s: set %s: this attachment's element is missing", t.Name,
					s.Name)
			}
		}
	}
	return nil
}

func (c *checker) checkPodLink() error {
	a := c.entry.State
	link, err := c.Pod.LinkByName(a.Veth.Pod)
	if err != nil {
		return fmt.Errorf("link %s of the pod: %w", a.Veth.Pod, err)
	}
	for _, ip := range a.Addresses {
		has, err := c.Pod.HasAddress(link, ip)
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("address %s is missing on link %s of the pod", ip, a.Veth.Pod)
		}
	}
	if err := checkNeighbours(c.Pod, a.Veth.Pod, a.podNeighbours(), a.Veth.HostMAC); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	return nil
}

func (c *checker) checkPodSysctls() error {
	for _, s := range c.entry.State.Pod.Sysctls {
		if err := c.Pod.CheckSysctls(s.Link, s.Sysctl); err != nil {
			return fmt.Errorf("in the pod: %w", err)
		}
	}
	return nil
}

// checkPodRoutes compares the pod's routes. A route of the main table may be in any other table that is not this
// plugin's, since sbr moves routes.
func (c *checker) checkPodRoutes() error {
	all, err := readRoutes(c.Pod)
	if err != nil {
		return err
	}
	vethTable, linkTable := podTables(c.entry.State.Pod.Slot)
	for _, want := range c.entry.State.Pod.Routes {
		found := slices.ContainsFunc(all.listed, func(listed netlink.Route) bool {
			r, ok := routeOf(listed, all.names[listed.LinkIndex])
			if want.Table == 0 && r.Table != vethTable && r.Table != linkTable {
				r.Table = 0
			}
			return ok && listed.Table != unix.RT_TABLE_LOCAL && r == want
		})
		if !found {
			return fmt.Errorf("in the pod: route %s is missing", want)
		}
	}
	rules, err := c.Pod.Rules()
	if err != nil {
		return err
	}
	if err := checkRules(rules, c.entry.State.podRules()); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	return nil
}

func (c *checker) checkPodTable() error {
	conn, err := nftables.New(nftables.WithNetNSFd(c.Pod.Fd()))
	if err != nil {
		return fmt.Errorf("nftables in the pod: %w", err)
	}
	if err := checkTable(conn, newPodTable(c.entry.IfName, c.entry.State)); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	return nil
}
