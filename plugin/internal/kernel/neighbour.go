package kernel

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Permanent returns the permanent neighbours of a link, of both families.
func (n *Namespace) Permanent(link int) (map[netip.Addr]net.HardwareAddr, error) {
	neighbours, err := Retry(func() ([]netlink.Neigh, error) {
		return n.NeighList(link, netlink.FAMILY_ALL) //nolint:forbidigo // netlinksafe has none; retried here
	})
	if err != nil {
		return nil, fmt.Errorf("neighbours: %w", err)
	}
	permanent := map[netip.Addr]net.HardwareAddr{}
	for _, neighbour := range neighbours {
		if ip, ok := netipx.FromStdIP(neighbour.IP); ok && neighbour.State&unix.NUD_PERMANENT != 0 {
			permanent[ip] = neighbour.HardwareAddr
		}
	}
	return permanent, nil
}

// EnsureNeighbour makes sure that a permanent neighbour exists, in place of one that the kernel learned. The argument
// existing holds the permanent neighbours listed before.
func (n *Namespace) EnsureNeighbour(link int, ip netip.Addr, mac net.HardwareAddr,
	existing map[netip.Addr]net.HardwareAddr,
) error {
	if bytes.Equal(existing[ip], mac) {
		return nil
	}
	neighbour := &netlink.Neigh{LinkIndex: link, IP: ip.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
	if err := n.NeighSet(neighbour); err != nil {
		return fmt.Errorf("neighbour %s: %w", ip, err)
	}
	return nil
}

// DeleteNeighbour deletes a neighbour. It is no error if the neighbour is gone.
func (n *Namespace) DeleteNeighbour(link int, ip netip.Addr) error {
	if err := n.NeighDel(&netlink.Neigh{LinkIndex: link, IP: ip.AsSlice()}); err != nil && !IsNotFound(err) {
		return fmt.Errorf("neighbour %s: delete: %w", ip, err)
	}
	return nil
}
