package contract

import (
	"context"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
)

// leadElsewhere makes a pod a router, such as one with a VPN, and gives it another interface that leads to an address.
// The kernel of a router answers ARP for others if it was told to (net/ipv4/arp.c, arp_process: IN_DEV_FORWARD).
func (b *bench) leadElsewhere(ctx context.Context, p *pod, addr netip.Addr) error {
	const device = "cnitest-vpn"
	here := netip.MustParsePrefix("203.0.113.1/30")
	if err := b.node.Agent.AddLink(ctx, agent.AddLinkArgs{
		Netns: p.netns, Name: device, PeerNetns: p.netns, PeerName: device + "2",
	}); err != nil {
		return err
	}
	if err := b.node.Agent.AddAddress(ctx, agent.AddressArgs{
		Netns: p.netns, Interface: device, Address: here,
	}); err != nil {
		return err
	}
	if err := b.node.Agent.AddRoute(ctx, agent.WayArgs{
		Netns: p.netns, Destination: netip.PrefixFrom(addr, addr.BitLen()), Gateway: here.Addr().Next(),
	}); err != nil {
		return err
	}
	return b.node.Agent.SetSysctls(ctx, p.netns, map[string]string{"net.ipv4.conf.all.forwarding": "1"})
}

// checkAnyName attaches pods with unusual names of interfaces.
func checkAnyName(ctx context.Context, t *trial) error {
	without, err := t.worksWithoutIPv6(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"net1.100", ""} {
		b, p, err := t.fresh(ctx)
		if err != nil {
			return err
		}
		if p.ifName = name; name == "" {
			p.ifName = b.node.Uplink
		}
		if without {
			if err := b.node.Agent.SetSysctls(ctx, p.netns, withoutIPv6()); err != nil {
				return err
			}
		}
		if err := b.attachAs(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// withoutIPv6 are the sysctls of a pod whose runtime turned IPv6 off for new interfaces, as some do. A plugin with an
// IPv6 address has to turn it on for its interface, and so needs the name of a sysctl.
func withoutIPv6() map[string]string {
	return map[string]string{"net.ipv6.conf.default.disable_ipv6": "1"}
}

// worksWithoutIPv6 reports whether ADD with a common name of the interface works in such a pod.
func (t *trial) worksWithoutIPv6(ctx context.Context) (bool, error) {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return false, err
	}
	if err := b.node.Agent.SetSysctls(ctx, p.netns, withoutIPv6()); err != nil {
		return false, nil //nolint:nilerr // a machine without IPv6 has no such sysctl
	}
	call, err := b.call(ctx, cni.Add, p)
	return call.ExitCode == 0, err
}

// attachAs checks ADD and DEL of a pod whose interface has an unusual name.
func (b *bench) attachAs(ctx context.Context, p *pod) error {
	add, err := b.must(ctx, cni.Add, p)
	if err != nil {
		return err
	}
	if add.ExitCode != 0 {
		b.wrong([]cni.Call{add}, "ADD with the interface name %s: want success, got %s", p.ifName, summary(add))
		return nil
	}
	links, err := b.node.Agent.Links(ctx, p.netns)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(links, func(l agent.Link) bool { return l.Name == p.ifName }) {
		b.wrong([]cni.Call{add}, "ADD with the interface name %s succeeds, and the pod has no such interface", p.ifName)
	}
	del, err := b.must(ctx, cni.Del, p)
	if err == nil && del.ExitCode != 0 {
		b.wrong([]cni.Call{del}, "DEL with the interface name %s: want success, got %s", p.ifName, summary(del))
	}
	return err
}
