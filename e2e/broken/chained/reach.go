package main

import (
	"errors"
	"net"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Each of the following faults removes one thing that is needed to reach a pod.

func pinWrongMAC(c *call) error {
	child, err := netlink.LinkByName(c.Child)
	if err != nil {
		return err
	}
	for _, ip := range c.result.IPs {
		entry := &netlink.Neigh{LinkIndex: child.Attrs().Index, IP: ip.Address.IP, HardwareAddr: net.HardwareAddr{
			2, 0,
			0, 0, 0, 0x99,
		}, State: netlink.NUD_PERMANENT}
		if err := netlink.NeighSet(entry); err != nil {
			return err
		}
	}
	return nil
}

func ignoreARP(c *call) error {
	return inPod(c, func(netlink.Link) error {
		_, err := sysctl.Sysctl("net/ipv4/conf/"+c.IfName+"/arp_ignore", "8")
		return err
	})
}

// routeElsewhere makes the node send packets for the pod to its first device other than lo and the pod's.
func routeElsewhere(c *call) error {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if name := link.Attrs().Name; name == "lo" || name == c.nodeSide().Name ||
			link.Attrs().OperState != netlink.OperUp {
			continue
		}
		err := netlink.RouteReplace(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: single(c.result.IPs[0].Address.IP), Scope: netlink.SCOPE_LINK,
		})
		return err
	}
	return errors.New("node: no other device")
}

func filterStrictly(c *call) error {
	// The higher one of the two values applies (ip-sysctl.rst, rp_filter), and 2 is loose.
	_, err := sysctl.Sysctl("net/ipv4/conf/all/rp_filter", "0")
	if err == nil {
		_, err = sysctl.Sysctl("net/ipv4/conf/"+c.nodeSide().Name+"/rp_filter", "1")
	}
	return err
}

func blackhole(c *call) error {
	return netlink.RouteReplace(&netlink.Route{Dst: single(c.result.IPs[0].Address.IP), Type: unix.RTN_BLACKHOLE})
}

func refuseByRule(c *call) error {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Dst, rule.Type = netlink.FAMILY_V4, 100, single(c.result.IPs[0].Address.IP),
		unix.RTN_UNREACHABLE
	return netlink.RuleAdd(rule)
}

func dropForwarded(c *call) error {
	forward := chain{
		kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityFilter,
	}
	return forward.install([]expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: c.result.IPs[0].Address.IP.To4()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	})
}
