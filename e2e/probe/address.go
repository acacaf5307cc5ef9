package probe

import (
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// endpoint is an address and port together with the index of the interface that an IPv6 zone names.
//
// Indexes are kept instead of zone names because package net translates names through one cache for the whole process,
// whichever namespace a name belongs to.
type endpoint struct {
	addr netip.Addr
	port uint16
	link int
}

// parseAddress reads an address without resolving its zone.
func parseAddress(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	return addr.Unmap(), nil
}

// resolve turns the zone of addr into the index that the interface has in the namespace.
func (n namespace) resolve(addr netip.Addr, port uint16) (endpoint, error) {
	e := endpoint{addr: addr.WithZone(""), port: port}
	if addr.Zone() == "" {
		return e, nil
	}
	if index, err := strconv.Atoi(addr.Zone()); err == nil {
		e.link = index
		return e, nil
	}
	handle, err := n.netlink()
	if err != nil {
		return e, err
	}
	defer handle.Close()
	link, err := handle.LinkByName(addr.Zone())
	if err != nil {
		return e, fmt.Errorf("zone of %s: %w", addr, err)
	}
	e.link = link.Attrs().Index
	return e, nil
}

func (e endpoint) sockaddr() unix.Sockaddr {
	if e.addr.Is4() {
		return &unix.SockaddrInet4{Port: int(e.port), Addr: e.addr.As4()}
	}
	return &unix.SockaddrInet6{Port: int(e.port), Addr: e.addr.As16(), ZoneId: uint32(e.link)}
}

// endpointOf returns the endpoint of a socket address; the zero endpoint if it belongs to another family.
func endpointOf(sa unix.Sockaddr) endpoint {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return endpoint{addr: netip.AddrFrom4(sa.Addr), port: uint16(sa.Port)}
	case *unix.SockaddrInet6:
		return endpoint{addr: netip.AddrFrom16(sa.Addr), port: uint16(sa.Port), link: int(sa.ZoneId)}
	}
	return endpoint{}
}

// family returns the address family of the sockets that reach addr.
func family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// text returns the address as results show it: empty if it is not known, and without the zone, which has no meaning
// outside of its namespace.
func text(addr netip.Addr) string {
	if !addr.IsValid() || addr.IsUnspecified() {
		return ""
	}
	return addr.WithZone("").String()
}
