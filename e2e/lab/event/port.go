package event

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// bundle is an uplink that sends through another link, its port. Each port is a link on the node's cable, which passes
// everything: a fresh one, of which nobody but the uplink knows anything.
type bundle struct {
	uplink string
	cable  string // the node's link to the underlay
	port   int
}

// cableName is the name of the cable if it was the uplink before.
const cableName = "uplink-cable"

// name returns the name of the port that is in use.
func (b *bundle) name() string { return fmt.Sprintf("uplink-port%d", b.port) }

// ported returns the kind of the uplink that an event needs; empty if it needs none.
func ported(event string) string {
	switch event {
	case BondPortReplaced:
		return "bond"
	case BridgePortReplaced:
		return "bridge"
	}
	return ""
}

// bundleUplink makes the uplink one that has a port, if an event needs that. It has the name, MAC, addresses and routes
// of the uplink before.
func (n *Node) bundleUplink() error {
	i := slices.IndexFunc(n.config.Events, func(event string) bool { return ported(event) != "" })
	if i < 0 {
		return nil
	}
	kind := ported(n.config.Events[i])
	link, err := n.uplink()
	if err != nil {
		return err
	}
	n.bundle = &bundle{uplink: n.config.Uplink, cable: cableName}
	if link.Type() == kind {
		if n.bundle.cable, err = loosePort(link); err != nil {
			return err
		}
	} else if err := n.replaceUplink(kind, link); err != nil {
		return fmt.Errorf("uplink %s as a %s: %w", n.config.Uplink, kind, err)
	}
	if err := n.bundle.plug(); err != nil {
		return err
	}
	if err := n.waitForCarrier(); err != nil {
		return err
	}
	return n.configure(n.addresses, n.routes)
}

// loosePort takes the only port out of an uplink, and returns its name.
func loosePort(uplink netlink.Link) (string, error) {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return "", err
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool {
		return l.Attrs().MasterIndex != uplink.Attrs().Index
	})
	if len(links) != 1 {
		return "", fmt.Errorf("uplink %s: want one port, got %d", uplink.Attrs().Name, len(links))
	}
	return links[0].Attrs().Name, netlink.LinkSetNoMaster(links[0])
}

// replaceUplink makes a bond or a bridge in place of the uplink, which becomes the cable.
func (n *Node) replaceUplink(kind string, link netlink.Link) error {
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	for _, a := range n.addresses {
		// The kernel has dropped those of IPv6 already.
		if err := netlink.AddrDel(link, &a); err != nil && a.IP.To4() != nil {
			return fmt.Errorf("address %s: %w", a.IPNet, err)
		}
	}
	if err := netlink.LinkSetName(link, cableName); err != nil {
		return err
	}
	if err := setIPv6(cableName, "disable_ipv6", "1"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = n.config.Uplink, link.Attrs().HardwareAddr, link.Attrs().MTU
	if err := netlink.LinkAdd(emptyBundle(kind, attrs)); err != nil {
		return err
	}
	for _, name := range []string{"accept_ra", "autoconf", "accept_dad"} { // as on each interface of the lab
		if err := setIPv6(n.config.Uplink, name, "0"); err != nil {
			return err
		}
	}
	fresh, err := n.uplink()
	if err != nil {
		return err
	}
	for i := range n.routes {
		n.routes[i].LinkIndex = fresh.Attrs().Index
	}
	return netlink.LinkSetUp(fresh)
}

// emptyBundle returns a bond, of which one port is in use at a time, or a bridge.
func emptyBundle(kind string, attrs netlink.LinkAttrs) netlink.Link {
	if kind == "bridge" {
		return &netlink.Bridge{LinkAttrs: attrs}
	}
	bond := netlink.NewLinkBond(attrs)
	bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 20
	return bond
}

// setIPv6 writes a setting of an interface, if the kernel has IPv6.
func setIPv6(link, name, value string) error {
	path := filepath.Join("/proc/sys/net/ipv6/conf", link, name)
	err := os.WriteFile(path, []byte(value), 0o644) //nolint:gosec // a sysctl
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// plug gives the uplink a new port.
func (b *bundle) plug() error {
	cable, err := netlink.LinkByName(b.cable)
	if err != nil {
		return fmt.Errorf("cable %s: %w", b.cable, err)
	}
	uplink, err := netlink.LinkByName(b.uplink)
	if err != nil {
		return fmt.Errorf("uplink %s: %w", b.uplink, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = b.name(), cable.Attrs().Index, cable.Attrs().MTU
	port := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PASSTHRU}
	if err := netlink.LinkAdd(port); err != nil {
		return fmt.Errorf("port %s: %w", attrs.Name, err)
	}
	if err := setIPv6(attrs.Name, "disable_ipv6", "1"); err != nil {
		return err
	}
	// A bond takes only ports that are down.
	for _, err := range []error{
		netlink.LinkSetUp(cable), netlink.LinkSetMaster(port, uplink), netlink.LinkSetUp(port),
	} {
		if err != nil {
			return fmt.Errorf("port %s of %s: %w", attrs.Name, b.uplink, err)
		}
	}
	return nil
}

// replacePort removes the port of the uplink, and gives it another one.
func (n *Node) replacePort() error {
	if err := n.bundle.replace(); err != nil {
		return err
	}
	n.undo = append(n.undo, func() error { return errors.Join(n.bundle.replace(), n.waitForCarrier()) })
	if err := n.waitForCarrier(); err != nil {
		return err
	}
	return n.configure(n.addresses, n.routes)
}

func (b *bundle) replace() error {
	port, err := netlink.LinkByName(b.name())
	if err != nil {
		return fmt.Errorf("port %s: %w", b.name(), err)
	}
	if err := netlink.LinkDel(port); err != nil {
		return fmt.Errorf("port %s: %w", b.name(), err)
	}
	b.port = 1 - b.port
	return b.plug()
}
