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
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// FlushConnections makes connection tracking in the namespace of the calling thread forget all connections from or to
// one of the addresses, before or after translation. Otherwise the next owner of an address gets packets that were
// meant for the last one: a UDP entry lives as long as somebody sends. A kernel without connection tracking is no
// error.
func FlushConnections(addrs ...netip.Addr) error {
	if !mayHaveConnections(addrs) {
		return nil
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		ours := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
			return a.Is4() != (family == unix.AF_INET)
		})
		if len(ours) == 0 {
			continue
		}
		err := flush(family, ours)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPROTONOSUPPORT) {
			return fmt.Errorf("tracked connections: delete: %w", err)
		}
	}
	return nil
}

// longest is more than a line about a connection in /proc has.
const longest = 512

// mayHaveConnections reports whether connection tracking may know one of the addresses. For a netlink list the kernel
// takes a lock for each chain of the machine's table, however empty that is: 9 ms with 262,144 chains. For /proc it
// takes none, in 0.4 ms.
//
// Only a list that fits into one read of a page is trusted: of a longer one, kernels before 6.16 find the place of the
// next read by counting, and miss a connection if an earlier one has ended in between. Nothing is known without the
// file, either, which is an option of the kernel (CONFIG_NF_CONNTRACK_PROCFS).
func mayHaveConnections(addrs []netip.Addr) bool {
	if count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count"); err == nil &&
		string(bytes.TrimSpace(count)) == "0" {
		return false
	}
	file, err := os.Open("/proc/thread-self/net/nf_conntrack")
	if err != nil {
		return true
	}
	defer file.Close()
	page := make([]byte, os.Getpagesize())
	n, err := file.Read(page)
	if err != nil && !errors.Is(err, io.EOF) || n > len(page)-longest {
		return true
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		// src=, dst=; IPv6 addresses have all their digits.
		return bytes.Contains(page[:n], []byte("="+a.StringExpanded()+" "))
	})
}

// flush lists the connections of a family and deletes those of the addresses.
func flush(family uint8, addrs []netip.Addr) error {
	found, err := kernel.Retry(func() ([][]byte, error) { return list(family, addrs) })
	if err != nil {
		return err
	}
	var errs []error
	for _, connection := range found {
		remove := request(family, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		remove.AddRawData(connection[nl.SizeofNfgenmsg:])
		// An entry that expires between listing and deleting counts as deleted.
		if _, err := remove.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// list returns the connections of some addresses. Only those are kept and parsed: the netlink library's
// ConntrackDeleteFilters does that with all, half a second and 50 MB on a node with 100,000.
func list(family uint8, addrs []netip.Addr) (found [][]byte, err error) {
	err = request(family, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP).ExecuteIter(unix.NETLINK_NETFILTER, 0,
		func(connection []byte) bool {
			if hasAddress(connection, addrs) {
				found = append(found, bytes.Clone(connection))
			}
			return true
		})
	return found, err
}

func request(family uint8, operation, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return r
}

// hasAddress reports whether a connection has one of the addresses at either end.
func hasAddress(connection []byte, addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(ip netip.Addr) bool {
		address := ip.AsSlice()
		if !bytes.Contains(connection, address) { // a counter or a mark may have the same bytes
			return false
		}
		for _, tuple := range attributes(connection[nl.SizeofNfgenmsg:], nl.CTA_TUPLE_ORIG, nl.CTA_TUPLE_REPLY) {
			for _, ends := range attributes(tuple, nl.CTA_TUPLE_IP) {
				if slices.ContainsFunc(attributes(ends, nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST, nl.CTA_IP_V6_SRC,
					nl.CTA_IP_V6_DST), func(end []byte) bool { return bytes.Equal(end, address) }) {
					return true
				}
			}
		}
		return false
	})
}

// attributes returns the values of some kinds of attributes.
func attributes(message []byte, kinds ...uint16) [][]byte {
	parsed, err := nl.ParseRouteAttr(message)
	if err != nil {
		return nil
	}
	var values [][]byte
	for _, a := range parsed {
		if slices.Contains(kinds, a.Attr.Type&nl.NLA_TYPE_MASK) {
			values = append(values, a.Value)
		}
	}
	return values
}
