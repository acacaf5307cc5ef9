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
