package netns

import (
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// uplinkVLAN is the VLAN tag of the underlay on trunks of nodes.
const uplinkVLAN = 100

// plugTrunk gives a node the underlay as a VLAN of its only NIC, like a server whose switch port carries several
// networks. The fabric removes the tag before its bridge, as a switch does, so that hosts and nodes with other uplinks
// are on the same LAN.
func (l *lab) plugTrunk(ctx context.Context, index int, s socket) error {
	port := uplinkPort(index)
	cable := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port, MTU: l.plan.MTU, Flags: net.FlagUp},
		PeerName:  "trunk", PeerNamespace: netlink.NsFd(s.ns), PeerHardwareAddr: nodeMAC(index, 2),
		PeerMTU: uint32(l.plan.MTU),
	}
	if err := l.fabric.links.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable to trunk: %w", err)
	}
	bridge, err := l.bridge(underlay)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", underlay, err)
	}
	inside := netlink.LinkAttrs{Name: port + ".vlan", MasterIndex: bridge.Attrs().Index}
	if err := addVLAN(l.fabric.links, port, inside); err != nil {
		return err
	}
	trunk, err := s.links.LinkByName("trunk")
	if err != nil {
		return err
	}
	if err := s.links.LinkSetUp(trunk); err != nil {
		return fmt.Errorf("trunk: up: %w", err)
	}
	if err := addVLAN(s.links, "trunk", netlink.LinkAttrs{Name: s.name, HardwareAddr: s.mac}); err != nil {
		return err
	}
	return s.configure(ctx, s.name)
}

// addVLAN adds the underlay's VLAN to a link, and brings it up.
func addVLAN(links *netlink.Handle, on string, attrs netlink.LinkAttrs) error {
	parent, err := links.LinkByName(on)
	if err != nil {
		return err
	}
	attrs.ParentIndex, attrs.MTU, attrs.Flags = parent.Attrs().Index, parent.Attrs().MTU, net.FlagUp
	if err := links.LinkAdd(&netlink.Vlan{
		LinkAttrs: attrs, VlanId: uplinkVLAN, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
	}); err != nil {
		return fmt.Errorf("vlan link: %w", err)
	}
	return nil
}
