package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NeighbourEntry is a host's entry for a neighbour in its ARP or ND table.
type NeighbourEntry struct {
	// MAC is the link layer address; empty while it is not known.
	MAC string `json:"mac,omitempty"`
	// State is the state as ip-neighbour(8) prints it: REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP, INCOMPLETE,
	// FAILED.
	State string `json:"state"`
}

// Neighbour returns the entry for addr on the interface ifname, in the network namespace at path netns. A missing entry
// is not an error.
func Neighbour(netns, ifname, addr string) (entry NeighbourEntry, found bool, err error) {
	want, err := parseAddress(addr)
	if err != nil {
		return NeighbourEntry{}, false, fmt.Errorf("neighbour: %w", err)
	}
	err = onLink(netns, ifname, func(handle netlinksafe.Handle, link netlink.Link) error {
		neighbours, err := neighbours(handle, link, family(want))
		for _, n := range neighbours {
			if addrOf(n.IP) == want.WithZone("") {
				entry, found = NeighbourEntry{MAC: n.HardwareAddr.String(), State: stateText(n.State)}, true
			}
		}
		return err
	})
	return entry, found, err
}

// neighbours returns the table of a link.
func neighbours(handle netlinksafe.Handle, link netlink.Link, family int) ([]netlink.Neigh, error) {
	list, err := uninterrupted(5, func() ([]netlink.Neigh, error) {
		return handle.NeighList(link.Attrs().Index, family)
	})
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	return list, nil
}

// uninterrupted repeats a list that was interrupted by a change, which netlinksafe does not have, until it was made
// that many times.
func uninterrupted[T any](tries int, list func() ([]T, error)) (all []T, err error) {
	for range tries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func stateText(state int) string {
	var names []string
	for _, s := range []struct {
		bit  int
		name string
	}{
		{netlink.NUD_INCOMPLETE, "INCOMPLETE"},
		{netlink.NUD_REACHABLE, "REACHABLE"},
		{netlink.NUD_STALE, "STALE"},
		{netlink.NUD_DELAY, "DELAY"},
		{netlink.NUD_PROBE, "PROBE"},
		{netlink.NUD_FAILED, "FAILED"},
		{netlink.NUD_NOARP, "NOARP"},
		{netlink.NUD_PERMANENT, "PERMANENT"},
	} {
		if state&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ",")
}

// linkLocal returns the link-local address from which the link can send; the zero address while there is none.
func linkLocal(handle netlinksafe.Handle, link netlink.Link) (netip.Addr, error) {
	addrs, err := handle.AddrList(link, unix.AF_INET6)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, addr := range addrs {
		if addr.IP.IsLinkLocalUnicast() && addr.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			return addrOf(addr.IP), nil
		}
	}
	return netip.Addr{}, nil
}
