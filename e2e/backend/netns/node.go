package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// plugNode gives a new machine its settings, its interfaces and its files: those of a disk, or at the first start the
// conflist.
func (l *lab) plugNode(ctx context.Context, index int, disk []agent.File) (*cluster.Node, error) {
	want, plan := l.req.Nodes[index], l.plan.Nodes[index]
	m := l.machine(plan.Name)
	node := &cluster.Node{
		Place: cluster.Place{
			Name: "node/" + plan.Name, Agent: m.agent,
			Interfaces: map[string][]netip.Addr{"uplink": cluster.Addresses(plan.Addresses)},
		},
		Uplink: plan.Uplink, Networks: l.plan.Networks(), Conflist: plan.Conflist, BinDirs: []string{BinDir},
		PoolSize:     plan.PoolSize,
		Devices:      plan.Devices,
		PodAddresses: plan.PodAddresses,
	}
	if err := m.setSysctls(ctx, "", nodeSysctls(want, plan)); err != nil {
		return nil, err
	}
	if disk == nil {
		disk = []agent.File{{Path: ConflistDir + "/" + ConflistName, Mode: 0o644, Data: plan.Conflist}}
		disk = append(disk, l.kubeconfigs()...)
	}
	if err := restore(ctx, m.agent, disk); err != nil {
		return nil, err
	}
	if l.req.OldBinDir != "" {
		if err := m.agent.Install(ctx, agent.InstallArgs{
			From: cluster.NewPrograms, To: BinDir, How: agent.InstallRenamed,
		}); err != nil {
			return nil, err
		}
	}
	if err := m.loopback(); err != nil {
		return nil, err
	}
	if err := l.serveAPI(m); err != nil {
		return nil, fmt.Errorf("%s: %w", node.Name, err)
	}
	var err error
	if want.NICs > 1 {
		if err := l.plugManagement(ctx, index, node); err != nil {
			return nil, err
		}
	}
	if l.cloud != nil {
		err = l.cloud.plugNode(ctx, index, node)
	} else {
		err = l.plugUplink(ctx, index)
	}
	if err == nil {
		err = errors.Join(l.plugDevices(ctx, index), l.plugOther(ctx, index, node))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", node.Name, err)
	}
	for _, gateway := range firstOfEachFamily(l.plan.Router) {
		if err := addRoute(m.links, defaultPrefix(gateway), gateway, plan.Uplink); err != nil {
			return nil, fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	return node, nil
}

// labMAC is the second byte of the lab's hardware addresses, which are locally administered. It is not 0, since people
// write 02:00:00:00:00:01 into their files, and a macvlan cannot have the MAC of its parent.
const labMAC = 0xc1

func nodeMAC(index int, nic byte) net.HardwareAddr {
	return net.HardwareAddr{0x02, labMAC, 0, byte(index >> 8), byte(index), nic}
}

func (l *lab) socket(index int) (socket, conflist.NodePlan) {
	plan := l.plan.Nodes[index]
	m := l.machine(plan.Name)
	return socket{
		links: m.links, ns: m.ns, on: m, mac: nodeMAC(index, 1), addresses: plan.Addresses, name: plan.Uplink,
	}, plan
}

// plugManagement makes the first of two interfaces.
func (l *lab) plugManagement(ctx context.Context, index int, node *cluster.Node) error {
	s, _ := l.socket(index)
	s.name, s.mac, s.addresses = "mgmt0", nodeMAC(index, 0), nil
	for _, network := range managementNetworks() {
		if _, ok := sameFamily(l.plan.LAN, network.Addr()); ok {
			s.addresses = append(s.addresses, netip.PrefixFrom(nth(network.Addr(), 10+index), network.Bits()))
		}
	}
	node.Interfaces["management"] = cluster.Addresses(s.addresses)
	return l.plug(ctx, management, managementPort(index), s)
}

func nth(addr netip.Addr, n int) netip.Addr {
	for range n {
		addr = addr.Next()
	}
	return addr
}

// UplinkKinds returns the kinds of a node's interface on the underlay. The first one is the default.
func UplinkKinds() []string { return []string{"veth", "bridge", "dummy", "vlan"} }

// plugUplink makes the interface on the underlay, which plugins use as their master.
func (l *lab) plugUplink(ctx context.Context, index int) error {
	s, plan := l.socket(index)
	kind := l.req.UplinkKind
	if l.req.Conflist.LANBridge() && (kind == "" || kind == "veth") {
		kind = "bridge"
	}
	switch kind {
	case "bridge":
		// The uplink is a bridge of the node with a port on the underlay, as on hosts of virtual machines.
		bridge := &netlink.Bridge{
			LinkAttrs: netlink.LinkAttrs{Name: plan.Uplink, HardwareAddr: s.mac, MTU: l.plan.MTU, Flags: net.FlagUp},
		}
		if err := s.links.LinkAdd(bridge); err != nil {
			return err
		}
		inner := s
		inner.name, inner.addresses, inner.mac = "uplink-port", nil, nodeMAC(index, 2)
		if err := l.plug(ctx, underlay, uplinkPort(index), inner); err != nil {
			return err
		}
		member, err := s.links.LinkByName(inner.name)
		if err != nil {
			return err
		}
		if err := s.links.LinkSetMaster(member, bridge); err != nil {
			return err
		}
		return s.configure(ctx, plan.Uplink)
	case "dummy":
		if err := s.links.LinkAdd(&netlink.Dummy{
			LinkAttrs: netlink.LinkAttrs{Name: plan.Uplink, HardwareAddr: s.mac, MTU: l.plan.MTU},
		}); err != nil {
			return fmt.Errorf("dummy link: %w", err)
		}
		return s.configure(ctx, plan.Uplink)
	case "vlan":
		return l.plugTrunk(ctx, index, s)
	}
	return l.plug(ctx, underlay, uplinkPort(index), s)
}
