package disturbance

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// neighbourTable is one of the two tables of neighbours, ARP's or ND's, that a kernel has for all its namespaces. If it
// is full, an address that is not in it cannot be reached from anywhere on the machine, bare veth pairs included.
type neighbourTable struct {
	refused uint64 // entries, since the kernel started
	limit   uint32 // entries of all namespaces
}

// neighbourTables returns the tables by family, unix.AF_INET and unix.AF_INET6. It returns nil if the kernel does not
// tell: then nobody notices that one is full.
func neighbourTables() map[byte]neighbourTable {
	// The numbers of linux/neighbour.h: NDTA_THRESH3 and NDTA_STATS, and the place of ndts_table_fulls in the latter.
	const threshold3, stats, tableFulls = 4, 7, 10 * 8
	request := nl.NewNetlinkRequest(unix.RTM_GETNEIGHTBL, unix.NLM_F_DUMP)
	request.AddRawData(make([]byte, unix.SizeofRtGenmsg+3)) // struct ndtmsg of any family
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGHTBL)
	if err != nil {
		return nil
	}
	tables := map[byte]neighbourTable{}
	for _, message := range messages {
		attributes, err := nl.ParseRouteAttr(message[4:])
		if err != nil {
			return nil
		}
		var t neighbourTable
		counted := false
		for _, a := range attributes {
			switch {
			case a.Attr.Type == threshold3 && len(a.Value) >= 4:
				t.limit = binary.NativeEndian.Uint32(a.Value)
			case a.Attr.Type == stats && len(a.Value) >= tableFulls+8:
				t.refused, counted = binary.NativeEndian.Uint64(a.Value[tableFulls:]), true
			}
		}
		// The other messages are the settings of links.
		if counted {
			tables[message[0]] = t
		}
	}
	return tables
}

// overflowed describes which tables were full between two calls of neighbourTables; empty if none was.
func overflowed(before, after map[byte]neighbourTable) []string {
	var found []string
	for family, words := range map[byte][2]string{unix.AF_INET: {"ARP", "ipv4"}, unix.AF_INET6: {"ND", "ipv6"}} {
		from, knew := before[family]
		to, knows := after[family]
		if knew && knows && to.refused != from.refused {
			found = append(found, fmt.Sprintf("its %s table, which all namespaces share, was full and refused %d "+
				"entries (raise net.%s.neigh.default.gc_thresh3, which is %d)", words[0], to.refused-from.refused,
				words[1], to.limit))
		}
	}
	slices.Sort(found)
	return found
}
