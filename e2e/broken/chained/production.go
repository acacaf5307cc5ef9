package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The following faults make something that all pods of a node need, and only with the first ADD, or in a way that an
// event of the node ends. All but the last one follow ptp, whose routes to pods they change.

// podTable is the routing table with the routes to pods, podMark the mark of packets that use it.
const (
	podTable = 77
	podMark  = 0x99
	wayOut   = 78 // the table with the pods' way out
)

// once calls do if no ADD of the node did. Its file is left behind, as residue of the first ADD.
func once(name string, do func() error) error {
	switch _, err := os.Stat(filepath.Join(store, name)); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return errors.Join(do(), write(name))
}

// changeRoutes replaces the node's routes to the pod.
func changeRoutes(c *call, change func(*netlink.Route)) error {
	for _, ip := range c.result.IPs {
		family := netlink.FAMILY_V4
		if ip.Address.IP.To4() == nil {
			family = netlink.FAMILY_V6
		}
		routes, err := netlinksafe.RouteListFiltered(family, &netlink.Route{Dst: single(ip.Address.IP)},
			netlink.RT_FILTER_DST)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if err := netlink.RouteDel(&r); err != nil {
				return err
			}
			change(&r)
			if err := netlink.RouteAdd(&r); err != nil {
				return fmt.Errorf("route %s: %w", r, err)
			}
		}
	}
	return nil
}

// ruleTo returns a rule for a table.
func ruleTo(table, priority int) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = netlink.FAMILY_V4, table, priority
	return rule
}

// routeByRule routes to the pods by a table of its own, with a rule that only the first ADD makes.
func routeByRule(c *call) error {
	if err := changeRoutes(c, func(r *netlink.Route) { r.Table = podTable }); err != nil {
		return err
	}
	return once("rule", func() error { return netlink.RuleAdd(ruleTo(podTable, 100)) })
}

// missesRule is the error of CHECK if the rule is gone.
func missesRule(*call) error {
	rules, err := netlinksafe.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Table == podTable {
			return nil
		}
	}
	return errors.New("the rule for the pods' table is missing")
}

// routeByRuleAgain restores the rule and, like somebody who does not look for it, adds one more.
func routeByRuleAgain(c *call) error {
	if err := changeRoutes(c, func(r *netlink.Route) { r.Table = podTable }); err != nil {
		return err
	}
	if missesRule(c) == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(store, "rule")); err == nil {
		if err := netlink.RuleAdd(ruleTo(podTable, 101)); err != nil {
			return err
		}
	}
	return errors.Join(netlink.RuleAdd(ruleTo(podTable, 100)), write("rule"))
}

// routeByMark routes to the pods by a mark that a chain sets. Rule and chain are made with the first ADD.
func routeByMark(c *call) error { return routeByMarkOf(c, chain{name: "in"}, chain{name: "out"}) }

// routeByIptablesMark does the same with chains of iptables.
func routeByIptablesMark(c *call) error {
	return routeByMarkOf(c, chain{table: "mangle", name: "PREROUTING"}, chain{table: "mangle", name: "OUTPUT"})
}

func routeByMarkOf(c *call, in, out chain) error {
	if err := changeRoutes(c, func(r *netlink.Route) { r.Table = podTable }); err != nil {
		return err
	}
	in.kind, in.hook, in.priority = nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle
	out.kind, out.hook, out.priority = nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityMangle
	return once("mark", func() error {
		rule := ruleTo(podTable, 100)
		rule.Mark = podMark
		if err := netlink.RuleAdd(rule); err != nil {
			return err
		}
		return errors.Join(in.install(setMark()), out.install(setMark()))
	})
}

// setMark returns what gives a packet podMark.
func setMark() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{podMark, 0, 0, 0}},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// unmarked returns a match for packets without podMark.
func unmarked() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{podMark, 0, 0, 0}},
	}
}

// acceptInUFW drops what the node forwards and what no chain of ufw marks. Nothing happens on a node without ufw.
func acceptInUFW(*call) error {
	return once("ufw", func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Name == "ufw-before-forward" })
		if i < 0 {
			return nil
		}
		conn.InsertRule(&nftables.Rule{Table: chains[i].Table, Chain: chains[i], Exprs: setMark()})
		if err := conn.Flush(); err != nil {
			return err
		}
		last := chain{
			kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward,
			priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter + 10),
		}
		return last.install(unmarked(), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	})
}

// routeFromUplink gives the routes to the pod an address of the uplink as their source.
func routeFromUplink(c *call) error {
	link, err := netlink.LinkByName(c.Master)
	if err != nil {
		return err
	}
	addrs, err := netlinksafe.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		return errors.Join(err, errors.New("the uplink has no address"))
	}
	return changeRoutes(c, func(r *netlink.Route) { r.Src = addrs[0].IP })
}

// leaveByTable lets pods leave by a table of their own, whose route is made with the first ADD.
func leaveByTable(c *call) error {
	for _, ip := range c.result.IPs {
		rule := ruleTo(wayOut, 102)
		rule.Src = single(ip.Address.IP)
		if err := netlink.RuleAdd(rule); err != nil {
			return err
		}
	}
	return once("way-out", func() error {
		routes, err := netlinksafe.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Gw != nil {
				r.Table = wayOut
				err = errors.Join(err, netlink.RouteAdd(&r))
			}
		}
		return errors.Join(err, netlink.RouteAdd(&netlink.Route{
			Table: wayOut, Type: unix.RTN_UNREACHABLE, Priority: 1000,
			Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
		}))
	})
}

// forgetRules removes the rules of a pod.
func forgetRules(c *call) error {
	if c.result == nil {
		return nil
	}
	for _, ip := range c.result.IPs {
		rule := ruleTo(wayOut, 102)
		rule.Src = single(ip.Address.IP)
		_ = netlink.RuleDel(rule) // it may be gone already
	}
	return nil
}

// filterPorts marks what comes in through the ports that the uplink has at the first ADD, and forwards nothing else
// from the uplink. An uplink without a port is left alone.
func filterPorts(c *call) error {
	return once("ports", func() error {
		uplink, err := netlink.LinkByName(c.Master)
		if err != nil {
			return err
		}
		links, err := netlinksafe.LinkList()
		if err != nil {
			return err
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "broken", Family: nftables.TableFamilyNetdev})
		found := false
		for _, l := range links {
			if l.Attrs().MasterIndex != uplink.Attrs().Index {
				continue
			}
			found = true
			port := conn.AddChain(&nftables.Chain{
				Name: l.Attrs().Name, Table: table, Device: l.Attrs().Name, Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
			})
			conn.AddRule(&nftables.Rule{Table: table, Chain: port, Exprs: setMark()})
		}
		if !found {
			return nil
		}
		if err := conn.Flush(); err != nil {
			return err
		}
		return chain{
			kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityFilter,
		}.install(iifname(c.Master), unmarked(), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	})
}

// pinNodeMAC connects the pod with its node by a pair of links, as people do for pods on a macvlan, and gives the pod a
// permanent neighbour for the node. The MAC is that of the node's end before the node has it: udev cannot be faster.
func pinNodeMAC(c *call) error {
	master, err := netlink.LinkByName(c.Master)
	if err != nil {
		return err
	}
	node, err := netlinksafe.AddrList(master, netlink.FAMILY_V4)
	if err != nil || len(node) == 0 {
		return errors.Join(err, errors.New("the uplink has no address"))
	}
	here, err := ns.GetCurrentNS()
	if err != nil {
		return err
	}
	defer here.Close()
	nodeEnd := "pin" + c.ContainerID[:8]
	if err := ns.WithNetNSPath(c.Netns, func(ns.NetNS) error {
		return pinPodEnd(nodeEnd, here, node[0].IP)
	}); err != nil {
		return err
	}
	link, err := netlink.LinkByName(nodeEnd)
	if err != nil {
		return err
	}
	err = netlink.LinkSetUp(link)
	for _, ip := range c.result.IPs {
		err = errors.Join(err, netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: single(ip.Address.IP), Scope: netlink.SCOPE_LINK, Src: node[0].IP,
		}))
	}
	return err
}

// pinPodEnd makes the pair of links in the pod and moves one end to the node, with whose old MAC the pod reaches it.
func pinPodEnd(nodeEnd string, node ns.NetNS, address net.IP) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "node0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nodeEnd}); err != nil {
		return err
	}
	podSide, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	nodeSide, err := netlink.LinkByName(nodeEnd)
	if err != nil {
		return err
	}
	index := podSide.Attrs().Index
	return errors.Join(
		netlink.LinkSetNsFd(nodeSide, int(node.Fd())),
		netlink.LinkSetUp(podSide),
		netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: single(address), Scope: netlink.SCOPE_LINK}),
		netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index, IP: address, HardwareAddr: nodeSide.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT,
		}),
	)
}
