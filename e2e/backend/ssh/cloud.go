package ssh

import (
	"context"
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

// serveCloud makes a machine on a plain LAN look like an instance of a cloud to the plugin's daemon. It has one ENI,
// its uplink, with as many addresses for pods as all ENIs of the target together. In a cloud the network delivers
// packets for these addresses to the ENI; here the machine answers ARP for the addresses to which it has routes over
// another interface.
func (l *lab) serveCloud(ctx context.Context, i int, node *cluster.Node) error {
	spec := l.req.Target.Cloud
	instance, err := l.instance(ctx, i, node)
	if err != nil {
		return err
	}
	service := netip.PrefixFrom(netip.MustParseAddr(metadata.Address), 32)
	if err := node.Agent.AddAddress(ctx, agent.AddressArgs{Interface: "lo", Address: service, Host: true}); err != nil {
		return fmt.Errorf("address of the metadata service: %w", err)
	}
	if err := node.Agent.SetSysctls(ctx, "", map[string]string{
		"net.ipv4.conf." + node.Uplink + ".proxy_arp": "1",
		// Nobody else answers for them, so the kernel need not wait for another owner (arp.c, arp_process).
		"net.ipv4.neigh." + node.Uplink + ".proxy_delay": "0",
	}); err != nil {
		return err
	}
	node.Networks = []netip.Prefix{instance.VPC}
	node.PoolSize = instance.PoolSize()
	return node.Agent.ServeMetadata(ctx, agent.MetadataArgs{
		Options: metadata.Options{Tokens: spec.Metadata != target.MetadataV1}, Instance: instance,
	})
}

// instance returns the instance that the metadata service describes.
func (l *lab) instance(ctx context.Context, i int, node *cluster.Node) (metadata.Instance, error) {
	links, err := node.Agent.Links(ctx, "")
	if err != nil {
		return metadata.Instance{}, err
	}
	eni := metadata.ENI{
		ID: metadata.ENIID(uint32(i + 1)), Name: node.Uplink, Address: l.plan.Nodes[i].Addresses[0].Addr(),
	}
	for _, link := range links {
		if link.Name == node.Uplink {
			eni.MAC = link.MAC
		}
	}
	subnet := l.plan.LAN[0].Masked()
	first, err := share(subnet, i, len(l.req.Nodes))
	if err != nil {
		return metadata.Instance{}, err
	}
	own := func(a netip.Addr) bool {
		for _, n := range l.plan.Nodes {
			if n.Addresses[0].Addr() == a {
				return true
			}
		}
		return false
	}
	addresses, prefixes := pool(l.req.Target.Cloud, l.req.Nodes[i])
	next := first
	for range prefixes {
		eni.Prefixes = append(eni.Prefixes, netip.PrefixFrom(next, metadata.PrefixBits))
		next = netipx.RangeOfPrefix(netip.PrefixFrom(next, metadata.PrefixBits)).To().Next()
	}
	for len(eni.Secondary) < addresses {
		if !own(next) {
			eni.Secondary = append(eni.Secondary, next)
		}
		next = next.Next()
	}
	instance := metadata.NewInstance(uint32(i+1), subnet, subnet)
	instance.ENIs = []metadata.ENI{eni}
	return instance, nil
}

// pool returns the numbers of addresses and prefixes for pods that a node has. If a scenario says how many pods the
// node can hold, the node has that number of addresses.
func pool(spec *target.Cloud, node scenario.Node) (addresses, prefixes int) {
	if node.Addresses > 0 {
		return node.Addresses, 0
	}
	return spec.Addresses * spec.Interfaces(), spec.Prefixes * spec.Interfaces()
}

// share returns the first of a node's addresses for pods: the upper half of the subnet is divided equally among the
// nodes.
func share(subnet netip.Prefix, i, nodes int) (netip.Addr, error) {
	bits := subnet.Bits() + 1
	for parts := 1; parts < nodes; parts *= 2 {
		bits++
	}
	// Each part must have room for some prefixes.
	if !subnet.Addr().Is4() || bits > 24 {
		return netip.Addr{},
			fmt.Errorf("subnet %s: want an IPv4 network with room for %d clouds of /24 in its upper half", subnet,
				nodes)
	}
	start := netipx.RangeOfPrefix(netip.PrefixFrom(subnet.Addr(), subnet.Bits()+1)).To().Next()
	for range i {
		start = netipx.RangeOfPrefix(netip.PrefixFrom(start, bits)).To().Next()
	}
	return start, nil
}
