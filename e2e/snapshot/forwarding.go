package snapshot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// takeForwarding reads the forwarding entries that somebody wrote: static entries of bridges and VXLANs, and unicast
// addresses that a link receives in addition to its own. The kernel makes such entries for the MAC of each port and, on
// a parent, for that of each macvlan, in whichever namespace it is.
func (n network) takeForwarding() ([]object, error) {
	entries, err := n.listWritten()
	// A namespace that nothing holds any more keeps its links until the kernel gets to it, and what they have written
	// seems to be of nobody meanwhile.
	for wait := time.Millisecond; wait < dying && err == nil && slices.ContainsFunc(entries, isSelf); wait *= 2 {
		time.Sleep(wait)
		before := entries
		entries, err = n.listWritten()
		entries = slices.DeleteFunc(entries, func(e netlink.Neigh) bool {
			return isSelf(e) && !slices.ContainsFunc(before, func(b netlink.Neigh) bool {
				return b.LinkIndex == e.LinkIndex && bytes.Equal(b.HardwareAddr, e.HardwareAddr)
			})
		})
	}
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, e := range entries {
		self := isSelf(e)
		var name, text words
		name.addf(true, "%s dev %s", e.HardwareAddr, n.name(e.LinkIndex))
		name.addf(e.Vlan != 0, "vlan %d", e.Vlan)
		text.addf(e.IP != nil, "dst %s", e.IP)
		text.addf(self, "self")
		text.addf(e.MasterIndex != 0, "master %s", n.name(e.MasterIndex))
		text.addf(e.State&unix.NUD_NOARP != 0, "static")
		text.addf(e.State&unix.NUD_PERMANENT != 0, "permanent")
		objects = append(objects, object{
			Item: Item{Name: name.String(), Text: text.String()}, remove: func() error { return n.handle.NeighDel(&e) },
		})
	}
	return objects, nil
}

// dying bounds, together with the waits before, how long links of a namespace that nothing holds are waited for.
const dying = 256 * time.Millisecond

func isSelf(e netlink.Neigh) bool { return e.Flags&unix.NTF_SELF != 0 }

func (n network) listWritten() ([]netlink.Neigh, error) {
	entries, err := retry(func() ([]netlink.Neigh, error) { return n.handle.NeighList(0, unix.AF_BRIDGE) })
	if err != nil {
		return nil, unlessLacking(err)
	}
	return n.written(entries)
}

// written returns the entries that are not the kernel's own.
func (n network) written(entries []netlink.Neigh) ([]netlink.Neigh, error) {
	own := map[string]bool{}
	for _, link := range n.links {
		own[link.Attrs().HardwareAddr.String()] = true
	}
	var elsewhere map[string]bool
	var written []netlink.Neigh
	for _, e := range entries {
		mac := e.HardwareAddr
		self := isSelf(e)
		byHand := e.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 && len(mac) == 6 &&
			mac.String() != net.HardwareAddr(make([]byte, 6)).String()
		if !byHand || own[mac.String()] || self && mac[0]&1 != 0 {
			continue
		}
		if self && elsewhere == nil {
			var err error
			if elsewhere, err = hardwareElsewhere(); err != nil {
				return nil, err
			}
		}
		if !self || !elsewhere[mac.String()] {
			written = append(written, e)
		}
	}
	return written, nil
}

// hardwareElsewhere returns the MACs of links in the other network namespaces that processes and mounts below /proc
// show. A namespace that cannot be read is an error: the entries of its links would seem to be written by somebody.
func hardwareElsewhere() (map[string]bool, error) {
	macs, seen := map[string]bool{}, map[uint64]bool{}
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/net") // the pattern is well formed
	mounted, err := mountedNamespaces()
	if err != nil {
		return nil, err
	}
	for _, path := range append(paths, mounted...) {
		info, err := os.Stat(path)
		if err != nil {
			continue // it ended
		}
		inode := info.Sys().(*syscall.Stat_t).Ino
		if seen[inode] {
			continue
		}
		seen[inode] = true
		err = ns.WithNetNSPath(path, func(ns.NetNS) error {
			links, err := retry(netlink.LinkList) //nolint:forbidigo // netlinksafe returns what it has after five tries
			for _, link := range links {
				macs[link.Attrs().HardwareAddr.String()] = true
			}
			return err
		})
		var ended ns.NSPathNotExistErr
		var unmounted ns.NSPathNotNSErr
		if err != nil && !errors.As(err, &ended) && !errors.As(err, &unmounted) {
			return nil, fmt.Errorf("links of namespace %s: %w", path, err)
		}
	}
	return macs, nil
}

// mountedNamespaces returns the paths at which network namespaces are mounted (proc_pid_mountinfo(5)).
func mountedNamespaces() ([]string, error) {
	file, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var paths []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[3], "net:[") {
			paths = append(paths, fields[4])
		}
	}
	return paths, lines.Err()
}

// takeGroups reads the multicast addresses that somebody added to a link, as `ip maddr add` does, and the entries that
// somebody wrote into the multicast tables of bridges. dev_mcast counts what the kernel joins by itself separately
// (net/core/dev_addr_lists_proc.c, global_use).
func (n network) takeGroups() ([]object, error) {
	text, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
	if err != nil {
		return nil, err
	}
	var objects []object
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 5 {
			continue
		}
		if global, err := strconv.Atoi(fields[3]); err != nil || global == 0 {
			continue
		}
		objects = append(objects, object{Item: Item{Name: fields[4] + " dev " + fields[1], Text: "users " + fields[3]}})
	}
	entries, err := n.bridgeGroups()
	return append(objects, entries...), err
}

// bridgeGroups returns the permanent entries of bridges' multicast tables (include/uapi/linux/if_bridge.h, struct
// br_mdb_entry).
func (n network) bridgeGroups() ([]object, error) {
	const (
		attribute                                             = 1 // MDBA_MDB, MDBA_MDB_ENTRY and MDBA_MDB_ENTRY_INFO
		stateAt, vlanAt, groupAt, protocolAt, size, permanent = 4, 6, 8, 24, 28, 1
	)
	messages, err := dump(unix.NETLINK_ROUTE, unix.RTM_GETMDB, append([]byte{unix.AF_BRIDGE}, make([]byte, 7)...))
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, m := range messages {
		if len(m) < 8 {
			continue
		}
		bridge := n.name(int(binary.NativeEndian.Uint32(m[4:])))
		var entries [][]byte
		for _, table := range nestedOf(m[8:], attribute) {
			for _, entry := range nestedOf(table, attribute) {
				entries = append(entries, nestedOf(entry, attribute)...)
			}
		}
		for _, e := range entries {
			if len(e) < size || e[stateAt] != permanent {
				continue
			}
			var w words
			w.addf(true, "%s dev %s port %s", groupName(e[groupAt:groupAt+16], binary.BigEndian.Uint16(e[protocolAt:])),
				bridge, n.name(int(binary.NativeEndian.Uint32(e))))
			w.addf(binary.NativeEndian.Uint16(e[vlanAt:]) != 0, "vid %d", binary.NativeEndian.Uint16(e[vlanAt:]))
			objects = append(objects, object{Item: Item{Name: w.String(), Text: "permanent"}})
		}
	}
	return objects, nil
}

// groupName returns the address of an entry of a multicast table for a protocol; without a protocol it is a MAC.
func groupName(address []byte, protocol uint16) string {
	switch protocol {
	case unix.ETH_P_IP:
		return netip.AddrFrom4([4]byte(address[:4])).String()
	case unix.ETH_P_IPV6:
		return netip.AddrFrom16([16]byte(address)).String()
	}
	return net.HardwareAddr(address[:6]).String()
}

// nestedOf returns the values of all attributes of one type.
func nestedOf(b []byte, key uint16) [][]byte {
	list, err := attributesOf(b)
	if err != nil {
		return nil
	}
	var values [][]byte
	for _, a := range list {
		if a.Type&nl.NLA_TYPE_MASK == key {
			values = append(values, a.Data)
		}
	}
	return values
}

// dump returns all objects of a kind; none if the kernel does not know the kind.
func dump(protocol, message int, header []byte) ([][]byte, error) {
	messages, err := retry(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(message, unix.NLM_F_DUMP)
		request.AddRawData(header)
		return request.Execute(protocol, 0)
	})
	if err != nil {
		return nil, unlessLacking(err)
	}
	return messages, nil
}

// unlessLacking returns an error, or nil if the error says that the kernel was built without the feature.
func unlessLacking(err error) error {
	for _, lacking := range []error{
		unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EINVAL, unix.ENOENT, unix.EPROTOTYPE,
	} {
		if errors.Is(err, lacking) {
			return nil
		}
	}
	return fmt.Errorf("dump: %w", err)
}
