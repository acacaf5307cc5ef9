package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// node contains the addresses by which others know the node.
type node struct {
	host      *kernel.Namespace
	link      netlink.Link // hostInterface
	addresses []kernel.Address
}

// readNode returns hostInterface, and the node's addresses of some families; true means IPv6. An error says what is
// wrong with hostInterface.
func readNode(host *kernel.Namespace, name string, families ...bool) (*node, error) {
	link, err := host.LinkByName(name)
	if kernel.IsNotFound(err) {
		return nil, fmt.Errorf("hostInterface %q does not exist on this node", name)
	}
	if err != nil {
		return nil, fmt.Errorf("hostInterface %q: %w", name, err)
	}
	addrs, err := host.Addresses(families...)
	if err != nil {
		return nil, err
	}
	return &node{host: host, link: link, addresses: addrs}, nil
}

func (n *node) name() string { return n.link.Attrs().Name }

func (n *node) has(ip netip.Addr) bool {
	return slices.ContainsFunc(n.addresses, func(a kernel.Address) bool { return a.Prefix.Addr() == ip })
}

// source returns the address by which the node and a pod know each other: the address of hostInterface in the pod's
// subnet, or its first one of that family. It returns the zero value if hostInterface has no address of that family.
func (n *node) source(pod netip.Addr) netip.Addr {
	return kernel.Source(n.addresses, n.link.Attrs().Index, pod)
}

// all returns every address of a family that the node has, each once.
func (n *node) all(ipv6 bool) []netip.Addr {
	var addrs []netip.Addr
	for _, addr := range n.addresses {
		if ip := addr.Prefix.Addr(); ip.Is6() == ipv6 && !slices.Contains(addrs, ip) {
			addrs = append(addrs, ip)
		}
	}
	return addrs
}

func (n *node) hasFamily(ipv6 bool) bool {
	return slices.ContainsFunc(n.addresses, func(a kernel.Address) bool {
		return a.Link == n.link.Attrs().Index && a.Prefix.Addr().Is6() == ipv6
	})
}

// up returns an error if the link is down.
func (n *node) up() error {
	if !kernel.IsUp(n.link) {
		return fmt.Errorf("hostInterface %q is down: bring it up (ip link set %[1]s up)", n.name())
	}
	return nil
}

// ready returns the reason why the node cannot serve pods of some families: the link is down, has no address, or the
// node does not forward. In families, true means IPv6.
func (n *node) ready(families ...bool) error {
	if err := n.up(); err != nil {
		return err
	}
	var errs []error
	for _, ipv6 := range families {
		family := "IPv4"
		if ipv6 {
			family = "IPv6"
		}
		if !n.hasFamily(ipv6) {
			errs = append(errs,
				fmt.Errorf("hostInterface %q has no %s address by which pods could reach the node: give it one",
					n.name(), family))
		}
		errs = append(errs, n.forwards(ipv6))
	}
	return errors.Join(errs...)
}

// forwards returns an error if the node does not forward. It never changes the setting: that is for the node's
// administrator to decide, and a plugin could not tell later who else needs it by then.
func (n *node) forwards(ipv6 bool) error {
	family, key := "ipv4", "net.ipv4.ip_forward" // that of "all" is the same setting
	if ipv6 {
		family, key = "ipv6", "net.ipv6.conf.all.forwarding"
	}
	all, err := n.host.Sysctl(family, "all", "forwarding")
	if err != nil {
		return err
	}
	if all == "0" {
		return fmt.Errorf("the node does not forward, which services need: set sysctl %s=1", key)
	}
	if ipv6 {
		return nil // for IPv6, conf/LINK/forwarding tells whether the link is a router's, not whether it forwards
	}
	value, err := n.host.Sysctl("ipv4", n.name(), "forwarding")
	if err == nil && value == "0" {
		err = fmt.Errorf("the node does not forward packets from %s, which node ports need: set sysctl "+
			"net.ipv4.conf.%[1]s.forwarding=1", n.name())
	}
	return err
}
