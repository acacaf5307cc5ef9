// Package netfilter deletes the tracked connections of an address, and finds the chains of other programs that drop
// forwarded packets. It never writes into a table.
//
// It is not an nftables library (that is github.com/google/nftables).
//
// Tests: go test ./plugin/internal/netfilter (as root)
package netfilter

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// FlushConnections makes connection tracking in the namespace of the calling thread forget all connections from or to
// one of the addresses, before or after translation. Otherwise the next owner of an address gets packets that were
// meant for the last one: a UDP entry lives as long as somebody sends. A kernel without connection tracking is no
// error.
func FlushConnections(addrs ...netip.Addr) error {
	// The kernel walks the whole table for each list, however empty it is.
	if count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count"); err == nil &&
		string(bytes.TrimSpace(count)) == "0" {
		return nil
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		ours := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
			return a.Is4() != (family == unix.AF_INET)
		})
		if len(ours) == 0 {
			continue
		}
		_, err := netlinksafe.ConntrackDeleteFilters(netlink.ConntrackTable, family, connectionsOf(ours))
		// An entry that expires between listing and deleting counts as deleted.
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) &&
			!errors.Is(err, unix.EPROTONOSUPPORT) {
			return fmt.Errorf("tracked connections: delete: %w", err)
		}
	}
	return nil
}

type connectionsOf []netip.Addr

// MatchConntrackFlow reports whether the connection has one of the addresses at either end.
func (c connectionsOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range [][]byte{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		if addr, ok := netipx.FromStdIP(ip); ok && slices.Contains(c, addr) {
			return true
		}
	}
	return false
}
