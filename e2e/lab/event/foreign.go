package event

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// removeForeign does what systemd-networkd 252 was seen to do when it starts, by default (networkd.conf(5),
// ManageForeignRoutingPolicyRules and ManageForeignRoutes). Routes of links that it does not manage stay, except those
// with an address of the uplink as their source: it removes IPv4 addresses and adds them again.
func (n *Node) removeForeign() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlinksafe.RuleList(family)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Protocol == unix.RTPROT_KERNEL {
				continue
			}
			r.Family = family
			if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("rule %s: %w", r, err)
			}
		}
	}
	link, err := n.uplink()
	if err != nil {
		return err
	}
	routes, err := foreignRoutes(link)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if slices.ContainsFunc(n.routes, func(own netlink.Route) bool { return own.Equal(r) }) {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("route %s: %w", r, err)
		}
	}
	v4 := slices.DeleteFunc(slices.Clone(n.addresses), func(a netlink.Addr) bool { return a.IP.To4() == nil })
	return n.replace(v4, v4)
}

// flushRuleset deletes all tables of nf_tables, and with them those of iptables-nft.
func (n *Node) flushRuleset() error {
	connection, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	connection.FlushRuleset()
	return connection.Flush()
}

// iptablesTables are the tables of iptables, which are those of nf_tables with the same names.
var iptablesTables = []string{"filter", "nat", "mangle", "raw", "security"}

// flushIptables removes the rules from all chains of the tables of iptables, as `iptables -F` does for one, and leaves
// chains and policies.
func (n *Node) flushIptables() error {
	connection, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	chains, err := connection.ListChains()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, c := range chains {
		isIP := c.Table.Family == nftables.TableFamilyIPv4 || c.Table.Family == nftables.TableFamilyIPv6
		if isIP && slices.Contains(iptablesTables, c.Table.Name) {
			connection.FlushChain(c)
		}
	}
	return connection.Flush()
}

// What another plugin's agent takes for its own: rules of these priorities, as those of amazon's ipamd, and routes of
// these tables, as Calico's routeTableRanges.
const (
	firstTaken, lastTaken = 512, 1536
	lastTakenTable        = 250
)

// cleanAsAgent removes what another plugin's agent does not know: rules of its priorities, routes in its tables, and
// the main table's routes to single addresses through other links than the uplink and loopback.
func (n *Node) cleanAsAgent() error {
	uplink, err := n.uplink()
	if err != nil {
		return err
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlinksafe.RuleList(family)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Priority < firstTaken || r.Priority > lastTaken {
				continue
			}
			r.Family = family
			if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("rule %s: %w", r, err)
			}
		}
		routes, err := netlinksafe.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if !isTaken(r, uplink.Attrs().Index) {
				continue
			}
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("route %s: %w", r, err)
			}
		}
	}
	return nil
}

// isTaken reports whether another plugin's agent takes a route for its own.
func isTaken(r netlink.Route, uplink int) bool {
	if r.Protocol == unix.RTPROT_KERNEL {
		return false
	}
	if r.Table > 0 && r.Table <= lastTakenTable {
		return true
	}
	if r.Table != unix.RT_TABLE_MAIN || r.LinkIndex == uplink || r.LinkIndex <= 1 || r.Dst == nil || r.Gw != nil {
		return false
	}
	ones, bits := r.Dst.Mask.Size()
	return ones == bits
}
