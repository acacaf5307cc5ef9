package main

import (
	"errors"
	"net"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The following faults come after veth-to-host in a chain. Each removes one thing that services need.

// nodeSide returns the node's end of the veth by which services are reached, and podSide the pod's: the last ones that
// the result names.
func (c *call) nodeSide() *current.Interface { return c.lastInterface(false) }
func (c *call) podSide() *current.Interface  { return c.lastInterface(true) }

func (c *call) lastInterface(inPod bool) *current.Interface {
	last := &current.Interface{}
	for _, i := range c.result.Interfaces {
		if (i.Sandbox != "") == inPod {
			last = i
		}
	}
	return last
}

func removeAddresses(c *call) error {
	return inPod(c, func(netlink.Link) error {
		link, err := netlink.LinkByName(c.podSide().Name)
		if err != nil {
			return err
		}
		addresses, err := netlinksafe.AddrList(link, netlink.FAMILY_V4)
		for _, a := range addresses {
			err = errors.Join(err, netlink.AddrDel(link, &a))
		}
		return err
	})
}

func ignoreMarks(c *call) error {
	_, err := sysctl.Sysctl("net/ipv4/conf/"+c.Master+"/src_valid_mark", "0")
	return err
}

// shareTable changes the table of the rule that leads back into a pod to one of 32, by the pod's address.
func shareTable(c *call) error {
	const priority = 1024 // of that rule
	veth := c.nodeSide().Name
	link, err := netlink.LinkByName(veth)
	if err != nil {
		return err
	}
	rules, err := netlinksafe.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	pod := c.result.IPs[0].Address.IP.To4()
	table := 2000 + int(pod[3])%32
	for _, r := range rules {
		if r.IifName != veth || r.Priority != priority {
			continue
		}
		if err := netlink.RuleDel(&r); err != nil {
			return err
		}
		r.Table = table
		if err := netlink.RuleAdd(&r); err != nil {
			return err
		}
	}
	return netlink.RouteReplace(&netlink.Route{
		LinkIndex: link.Attrs().Index, Table: table, Gw: pod, Flags: unix.RTNH_F_ONLINK,
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
	})
}
