package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// child describes the node's own macvlan: one link, shared by all attachments of all networks on a master.
type child struct {
	name   string
	master netlink.Link
	// the device on which the kernel makes it: the master, or the device below a master that is a macvlan
	lower netlink.Link
}

// mac returns the child's hardware address. It depends only on the master's address and the child's name: a child that
// somebody removes comes back with the address that pods know, and GC recognises the links that the plugin made. In
// addition, udev's MACAddressPolicy does not change a link whose address was set when it was made.
func (c *child) mac() net.HardwareAddr {
	sum := sha256.Sum256([]byte(c.lower.Attrs().HardwareAddr.String() + " " + c.name))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac
}

// linkLocal returns the child's IPv6 address, which pods use as the next hop to their node. It is as unique on a LAN as
// the master's hardware address.
func (c *child) linkLocal() netip.Addr {
	mac := c.mac()
	return netip.AddrFrom16([16]byte{
		0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// guards are the sysctls that keep a macvlan without addresses from disturbing its node. They are set before the link
// is up.
func (c *child) guards() []kernel.Sysctl {
	return []kernel.Sysctl{
		// Answer ARP for the node's addresses only to senders that are routed over the child, which are its pods.
		// Otherwise the LAN learns the child's hardware address for the node's address, and the node loses packets that
		// are sent there.
		{Family: "ipv4", Key: "arp_filter", Value: "1"},
		// A router's advertisements are for the master. The child would add a second address and default route.
		{Family: "ipv6", Key: "accept_ra", Value: "0"},
		{Family: "ipv6", Key: "autoconf", Value: "0"},
	}
}

// sysctls returns the guards, and the settings that make the child independent of the values of "default". CHECK
// ignores the latter, since other programs may change them: systemd, for example, sets the rp_filter of each new link.
func (c *child) sysctls() []kernel.Sysctl {
	return append(c.guards(),
		kernel.Sysctl{Family: "ipv4", Key: "arp_ignore", Value: "0"},
		// With proxy_arp on "all", the child would answer for every host of the LAN; -1 means that no medium is the
		// same.
		kernel.Sysctl{Family: "ipv4", Key: "proxy_arp", Value: "0"},
		kernel.Sysctl{Family: "ipv4", Key: "medium_id", Value: "-1"},
		// Accept only packets that come from a pod: the child gets a copy of each broadcast that the master gets. A
		// looser setting of "all" wins (ip-sysctl.rst: the maximum counts).
		kernel.Sysctl{Family: "ipv4", Key: "rp_filter", Value: "1"},
		kernel.Sysctl{Family: "ipv6", Key: "accept_redirects", Value: "0"},
		kernel.Sysctl{Family: "ipv6", Key: "proxy_ndp", Value: "0"},
		// The kernel must not make an address: linkLocal is the only one.
		kernel.Sysctl{Family: "ipv6", Key: "addr_gen_mode", Value: "1"},
	)
}

// conflict returns why a link with the child's name cannot be the child, and how to resolve that.
func (c *child) conflict(link netlink.Link) error {
	var is string
	macvlan, ok := link.(*netlink.Macvlan)
	switch {
	case !ok:
		is = "of kind " + kind(link)
	case link.Attrs().NetNsID >= 0:
		is = "a macvlan of a device in another namespace"
	case link.Attrs().ParentIndex != c.lower.Attrs().Index:
		is = fmt.Sprintf("a macvlan of the device with index %d", link.Attrs().ParentIndex)
	case macvlan.Mode != netlink.MACVLAN_MODE_BRIDGE:
		is = "a macvlan in mode " + modeName(macvlan.Mode)
	default:
		return nil
	}
	return fmt.Errorf("link %s exists and is %s, want a macvlan of %s (index %d) in mode bridge: remove it, or set "+
		"bridge to a free name",
		c.name, is, c.master.Attrs().Name, c.lower.Attrs().Index)
}

func kind(link netlink.Link) string {
	if link.Type() == "device" || link.Type() == "" {
		return "device (hardware or built in)"
	}
	return link.Type()
}

func modeName(mode netlink.MacvlanMode) string {
	for known, name := range map[netlink.MacvlanMode]string{
		netlink.MACVLAN_MODE_PRIVATE: "private", netlink.MACVLAN_MODE_VEPA: "vepa",
		netlink.MACVLAN_MODE_BRIDGE:   "bridge",
		netlink.MACVLAN_MODE_PASSTHRU: "passthru", netlink.MACVLAN_MODE_SOURCE: "source",
	} {
		if mode == known {
			return name
		}
	}
	return fmt.Sprintf("%d", mode)
}

// find returns the child, or nil if no link has its name. It is an error if that link cannot be the child.
func (c *child) find(host *kernel.Namespace) (netlink.Link, error) {
	link, err := host.LinkByName(c.name)
	if kernel.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", c.name, err)
	}
	return link, c.conflict(link)
}

// ensure makes or repairs the child and reports whether it was newly made. The child uses IPv6 only if a pod does. The
// caller holds the lock.
func (c *child) ensure(host *kernel.Namespace, ipv6 bool) (link netlink.Link, created bool, err error) {
	if !kernel.IsUp(c.master) {
		// The kernel refuses to bring up a macvlan of a device that is down.
		return nil, false, chain.NotAvailable("master %q is down: bring it up (ip link set %[1]s up)",
			c.master.Attrs().Name)
	}
	link, err = c.find(host)
	if err != nil {
		return nil, false, chain.BadConfig("%w", err)
	}
	if link == nil {
		if link, err = c.create(host); err != nil {
			return nil, false, err
		}
		created = true
	}
	if err := c.configure(host, link, ipv6); err != nil {
		if created {
			err = errors.Join(err, c.remove(host, link))
		}
		return nil, false, err
	}
	return link, created, nil
}

func (c *child) create(host *kernel.Namespace) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.name
	attrs.ParentIndex = c.lower.Attrs().Index
	attrs.HardwareAddr = c.mac()
	attrs.MTU = c.master.Attrs().MTU
	if err := host.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return nil, fmt.Errorf("link %s: create as macvlan of %s: %w", c.name, c.master.Attrs().Name, err)
	}
	link, err := host.LinkByName(c.name)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", c.name, err)
	}
	return link, nil
}

func (c *child) configure(host *kernel.Namespace, link netlink.Link, ipv6 bool) error {
	if err := host.EnsureSysctls(c.name, c.sysctls()...); err != nil {
		return err
	}
	if mtu := c.master.Attrs().MTU; link.Attrs().MTU != mtu {
		if err := host.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("link %s: mtu %d: %w", c.name, mtu, err)
		}
	}
	if !kernel.IsUp(link) {
		if err := host.LinkSetUp(link); err != nil {
			return fmt.Errorf("link %s: bring up: %w", c.name, err)
		}
	}
	if !ipv6 {
		return nil
	}
	if err := host.EnsureSysctl(c.name, kernel.Sysctl{Family: "ipv6", Key: "disable_ipv6", Value: "0"}); err != nil {
		return fmt.Errorf("link %s: the pod has an IPv6 address: %w", c.name, err)
	}
	return host.EnsureLinkLocal(link, c.linkLocal())
}

// isOwn reports whether the plugin made the link, rather than an administrator.
func (c *child) isOwn(link netlink.Link) bool {
	return bytes.Equal(link.Attrs().HardwareAddr, c.mac())
}

func (c *child) remove(host *kernel.Namespace, link netlink.Link) error {
	if err := host.LinkDel(link); err != nil && !kernel.IsNotFound(err) {
		return fmt.Errorf("link %s: delete: %w", c.name, err)
	}
	return nil
}

// linkOf returns the link that carries the routes of an attachment, or nil if that link is gone.
func linkOf(host *kernel.Namespace, name string) (netlink.Link, error) {
	link, err := host.LinkByName(name)
	if kernel.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	if _, ok := link.(*netlink.Macvlan); !ok {
		log.Printf("link %s is of kind %s now and carries nothing of this plugin", name, kind(link))
		return nil, nil
	}
	return link, nil
}
