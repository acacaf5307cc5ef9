package netns

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/metadata"
)

const (
	// unmanagedAddresses is how many further addresses an unmanaged ENI has.
	unmanagedAddresses = 2
	// unmanagedTable is the routing table of an unmanaged ENI of device 0; others follow.
	unmanagedTable = 1000
	// unmanagedPriority is that of a rule to which ip gives none, if it is the first one.
	unmanagedPriority = 32765
)

// nextDevice returns the device number that an instance has free on network card 0.
func nextDevice(i metadata.Instance) int {
	device := 0
	for _, eni := range i.ENIs {
		if eni.Card() == 0 {
			device = max(device, eni.Device+1)
		}
	}
	return device
}

// newUnmanaged makes up an ENI that is not for pods. The caller holds c.mu, or is alone.
func (c *cloud) newUnmanaged(index int, kind string, device int) (metadata.ENI, error) {
	addresses := unmanagedAddresses
	if kind == metadata.EFAOnly {
		addresses = 0
	}
	if kind == metadata.SecondCard {
		device = 1
	}
	eni, err := c.newENI(index, device, addresses, 0)
	eni.Unmanaged = kind
	if kind == metadata.SecondCard {
		eni.Name = "card1"
	}
	return eni, err
}

// useUnmanaged sets up an ENI on a node as its owner does, which is not the plugin's daemon: the link has all addresses
// of the ENI, and packets from them leave by it, through a separate routing table.
func (s socket) useUnmanaged(eni metadata.ENI, subnet netip.Prefix) error {
	if eni.Unmanaged == metadata.EFAOnly {
		return nil
	}
	link, err := s.links.LinkByName(eni.Name)
	if err != nil {
		return err
	}
	if err := s.links.LinkSetUp(link); err != nil {
		return err
	}
	table := unmanagedTable + 10*eni.Card() + eni.Device
	for _, address := range eni.AllAddresses() {
		// The primary ENI is in the same subnet, to which the main table has its route.
		prefix := &netlink.Addr{
			IPNet: netipx.PrefixIPNet(netip.PrefixFrom(address, subnet.Bits())), Flags: unix.IFA_F_NOPREFIXROUTE,
		}
		if err := s.links.AddrAdd(link, prefix); err != nil {
			return fmt.Errorf("address %s: %w", address, err)
		}
		rule := netlink.NewRule()
		rule.Priority, rule.Src, rule.Table = unmanagedPriority, netipx.AddrIPNet(address), table
		if err := s.links.RuleAdd(rule); err != nil {
			return fmt.Errorf("rule from %s: %w", address, err)
		}
	}
	gateway := subnet.Addr().Next()
	for _, route := range []*netlink.Route{
		{Dst: netipx.AddrIPNet(gateway), Scope: netlink.SCOPE_LINK},
		{Dst: netipx.PrefixIPNet(defaultPrefix(gateway)), Gw: gateway.AsSlice()},
	} {
		route.LinkIndex, route.Table = link.Attrs().Index, table
		if err := s.links.RouteAdd(route); err != nil {
			return fmt.Errorf("route to %s in table %d: %w", route.Dst, table, err)
		}
	}
	return nil
}
