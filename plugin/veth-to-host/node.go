package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// node has the addresses by which others know the node.
type node struct {
	link      netlink.Link // hostInterface
	addresses []kernel.Address
}

// readNode looks at the node. An error says what is wrong with hostInterface.
func readNode(host *kernel.Namespace, name string) (*node, error) {
	link, err := host.LinkByName(name)
	if kernel.IsNotFound(err) {
		return nil, fmt.Errorf("hostInterface %q does not exist on this node", name)
	}
	if err != nil {
		return nil, fmt.Errorf("hostInterface %q: %w", name, err)
	}
	addrs, err := host.Addresses()
	if err != nil {
		return nil, err
	}
	return &node{link: link, addresses: addrs}, nil
}

func (n *node) name() string { return n.link.Attrs().Name }

func (n *node) has(ip netip.Addr) bool {
	return slices.ContainsFunc(n.addresses, func(a kernel.Address) bool { return a.Prefix.Addr() == ip })
}

// source returns the address that the node and a pod know each other by: that of hostInterface in the pod's subnet,
// else its first of that family. The zero value means that hostInterface has none of that family.
func (n *node) source(pod netip.Addr) netip.Addr {
	return kernel.Source(n.addresses, n.link.Attrs().Index, pod)
}

// all returns every address of the node of a family, each once.
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

// ready says why the node cannot carry pods of some families yet: the link is down, has no address, or the node does
// not forward. Families says for each whether it is IPv6.
func (n *node) ready(families ...bool) error {
	if !kernel.IsUp(n.link) {
		return fmt.Errorf("hostInterface %q is down: bring it up (ip link set %[1]s up)", n.name())
	}
	var errs []error
	for _, ipv6 := range families {
		family := "IPv4"
		if ipv6 {
			family = "IPv6"
		}
		if !n.hasFamily(ipv6) {
			errs = append(errs,
				fmt.Errorf("hostInterface %q has no %s address for pods to know the node by: give it one", n.name(),
					family))
		}
		errs = append(errs, forwards(ipv6, n.name()))
	}
	return errors.Join(errs...)
}

// forwards reads, and never writes: whether a node forwards is its administrator's decision, and no plugin could tell
// later who else has come to need it.
func forwards(ipv6 bool, link string) error {
	path, key := "/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"
	if ipv6 {
		path, key = "/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(raw)) == "0" {
		return fmt.Errorf("the node does not forward, and services are forwarded: set sysctl %s=1", key)
	}
	if ipv6 {
		return nil // conf/LINK/forwarding says there whether the link is a router's, and has no say in forwarding
	}
	value, err := kernel.ReadSysctl("ipv4", link, "forwarding")
	if err == nil && value == "0" {
		err = fmt.Errorf("the node does not forward from %s, and node ports are forwarded: set sysctl "+
			"net.ipv4.conf.%[1]s.forwarding=1", link)
	}
	return err
}
