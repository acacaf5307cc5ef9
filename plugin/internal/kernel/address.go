package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Address is an address of a link with the length of its subnet.
type Address struct {
	Prefix netip.Prefix
	Link   int
}

// IsUp reports whether an administrator has brought the link up, whatever its carrier.
func IsUp(link netlink.Link) bool {
	return link.Attrs().RawFlags&unix.IFF_UP != 0
}

// Addresses returns the addresses of global scope on links that are up, by which other hosts reach the node. Temporary,
// deprecated and not yet usable IPv6 addresses are left out. An address on several links is named once per link. In
// families, true means IPv6: for each of them the kernel goes through all links.
func (n *Namespace) Addresses(families ...bool) ([]Address, error) {
	var addrs []netlink.Addr
	for _, ipv6 := range families {
		listed, err := n.addrList(nil, familyOf(ipv6))
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, listed...)
	}
	up := map[int]bool{}
	const unusable = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	var usable []Address
	for _, addr := range addrs {
		prefix, ok := netipx.FromStdIPNet(addr.IPNet)
		if !ok || addr.Scope != unix.RT_SCOPE_UNIVERSE || prefix.Addr().IsLoopback() {
			continue
		}
		if prefix.Addr().Is6() && addr.Flags&unusable != 0 {
			continue
		}
		// List the addresses of each link alone: few links of a node have one, and thousands of links of pods have
		// none.
		if _, seen := up[addr.LinkIndex]; !seen {
			link, err := n.LinkByIndex(addr.LinkIndex)
			if err != nil && !IsNotFound(err) {
				return nil, fmt.Errorf("link of address %s: %w", prefix.Addr(), err)
			}
			up[addr.LinkIndex] = err == nil && IsUp(link)
		}
		if up[addr.LinkIndex] {
			usable = append(usable, Address{prefix, addr.LinkIndex})
		}
	}
	return usable, nil
}

// Source returns the address from which a node talks to a pod over a link: the link's address in the pod's subnet, else
// its first address of that family. The zero value means that the link has no address of that family.
func Source(addrs []Address, link int, pod netip.Addr) netip.Addr {
	var first netip.Addr
	for _, addr := range addrs {
		if addr.Link != link || addr.Prefix.Addr().Is4() != pod.Is4() {
			continue
		}
		if addr.Prefix.Contains(pod) {
			return addr.Prefix.Addr()
		}
		if !first.IsValid() {
			first = addr.Prefix.Addr()
		}
	}
	return first
}

// HasAddress reports whether link has an address, whatever the length of its subnet.
func (n *Namespace) HasAddress(link netlink.Link, ip netip.Addr) (bool, error) {
	addrs, err := n.addrList(link, familyOf(ip.Is6()))
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.Equal(ip.AsSlice()) }), nil
}

// EnsureLinkLocal gives link an IPv6 link-local address that is usable at once. Duplicate address detection is skipped:
// it would make the address unusable for a second, so the caller has to know that the address is unique.
func (n *Namespace) EnsureLinkLocal(link netlink.Link, ip netip.Addr) error {
	has, err := n.HasAddress(link, ip)
	if has || err != nil {
		return err
	}
	addr := &netlink.Addr{
		IPNet: netipx.PrefixIPNet(netip.PrefixFrom(ip, 64)),
		Scope: unix.RT_SCOPE_LINK,
		Flags: unix.IFA_F_NODAD,
	}
	if err := n.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("link %s: address %s: %w", link.Attrs().Name, ip, err)
	}
	return nil
}

func (n *Namespace) addrList(link netlink.Link, family int) ([]netlink.Addr, error) {
	addrs, err := Retry(func() ([]netlink.Addr, error) {
		return n.Handle.AddrList(link, family) //nolint:forbidigo // netlinksafe takes no handle; retried
	})
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	return addrs, nil
}
