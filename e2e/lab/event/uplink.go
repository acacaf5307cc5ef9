package event

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// carrierLimit is how long a link may take until it is ready again.
const carrierLimit = 5 * time.Second

func (n *Node) flap() error {
	link, err := n.uplink()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if err := n.waitForCarrier(); err != nil {
		return err
	}
	return n.configure(n.addresses, n.routes)
}

// waitForCarrier waits until the uplink can send.
func (n *Node) waitForCarrier() error {
	interval := machinetime.Start()
	for {
		link, err := n.uplink()
		if err != nil {
			return err
		}
		// Some drivers never tell more than unknown. A bond and a bridge do, but not at once.
		switch state := link.Attrs().OperState; {
		case state == netlink.OperUp || state == netlink.OperUnknown && n.bundle == nil:
			return nil
		case interval.Given() > carrierLimit:
			return fmt.Errorf("uplink %s is %s %s after it was set up", n.config.Uplink, state, carrierLimit)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// configure adds the addresses and routes that the uplink does not have.
func (n *Node) configure(addresses []netlink.Addr, routes []netlink.Route) error {
	link, err := n.uplink()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		a.Flags &^= unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE
		if err := netlink.AddrReplace(link, &a); err != nil {
			return fmt.Errorf("address %s: %w", a.IPNet, err)
		}
	}
	for _, r := range routes {
		r.Flags &^= int(unix.RTNH_F_LINKDOWN | unix.RTNH_F_DEAD)
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("route %s: %w", r, err)
		}
	}
	return nil
}

// changeAddresses replaces the addresses of the uplink. The kernel drops the routes whose source they are.
func (n *Node) changeAddresses() error {
	var others []netlink.Addr
	for _, a := range n.addresses {
		other, err := n.other(a)
		if err != nil {
			return err
		}
		others = append(others, other)
	}
	n.undo = append(n.undo, func() error { return n.replace(others, n.addresses) })
	return n.replace(n.addresses, others)
}

// other returns the address that takes the place of one of the node's.
func (n *Node) other(a netlink.Addr) (netlink.Addr, error) {
	is4 := a.IP.To4() != nil
	for _, addr := range n.config.Others {
		if addr.Is4() == is4 && addr != netip.MustParseAddr(a.IP.String()) {
			a.IPNet = &net.IPNet{IP: addr.AsSlice(), Mask: a.Mask}
			return a, nil
		}
	}
	return a, fmt.Errorf("no address in place of %s", a.IP)
}

// replace removes addresses of the uplink, as a DHCP client whose lease is over, and then adds others. With the last
// address of IPv4 the kernel drops all routes of the link, in all tables.
func (n *Node) replace(old, fresh []netlink.Addr) error {
	link, err := n.uplink()
	if err != nil {
		return err
	}
	for _, a := range old {
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("address %s: %w", a.IPNet, err)
		}
	}
	var routes []netlink.Route
	for _, r := range n.routes {
		if !slices.ContainsFunc(fresh, func(a netlink.Addr) bool { return a.IP.Equal(r.Src) }) {
			r.Src = nil
		}
		routes = append(routes, r)
	}
	return n.configure(fresh, routes)
}

// setMACs sets a new MAC where the kernel chose one at random (include/uapi/linux/netdevice.h, NET_ADDR_RANDOM), as
// systemd.link(5) says of MACAddressPolicy=persistent.
func (n *Node) setMACs() error {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		random, err := hasRandomMAC(link.Attrs().Name)
		if err != nil {
			return err
		}
		if !random {
			continue
		}
		if err := netlink.LinkSetHardwareAddr(link, persistentMAC(link.Attrs().Name)); err != nil {
			return fmt.Errorf("link %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}
