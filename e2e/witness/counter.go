package witness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// telling returns the counters that grow when a packet is dropped, by their names in /proc/net/snmp and
// /proc/net/netstat, and in /proc/net/snmp6 (Linux, Documentation/networking/snmp_counter.rst).
func telling() map[string]bool {
	set := map[string]bool{}
	for _, name := range []string{
		"Ip.InHdrErrors", "Ip.InAddrErrors", "Ip.InDiscards", "Ip.InUnknownProtos", "Ip.OutDiscards", "Ip.OutNoRoutes",
		"Ip.ReasmFails", "Ip.FragFails",
		"Icmp.InCsumErrors", "Tcp.InErrs", "Tcp.InCsumErrors", "Udp.NoPorts", "Udp.InErrors", "Udp.InCsumErrors",
		"IpExt.InNoRoutes", "IpExt.InTruncatedPkts", "IpExt.InCsumErrors", "TcpExt.IPReversePathFilter",
		"TcpExt.ListenDrops", "TcpExt.ArpFilter",
		"Ip6InHdrErrors", "Ip6InTooBigErrors", "Ip6InNoRoutes", "Ip6InAddrErrors", "Ip6InDiscards", "Ip6OutDiscards",
		"Ip6OutNoRoutes", "Ip6FragFails",
		"Icmp6InCsumErrors", "Udp6NoPorts", "Udp6InErrors", "Udp6InCsumErrors",
	} {
		set[name] = true
	}
	return set
}

// Counters returns the counters of dropped packets in the namespace at path netns, such as "TcpExt.IPReversePathFilter"
// and "Ip6InNoRoutes". A kernel without IPv6 has no counters of IPv6. It may be called concurrently.
func Counters(netns string) (map[string]uint64, error) {
	counters := map[string]uint64{}
	err := within(netns, func() error {
		// Read those of the thread: /proc/net shows those of the process's first thread.
		for _, name := range []string{"snmp", "netstat", "snmp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + name)
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				return err
			}
			if name == "snmp6" {
				parseList(string(text), counters)
			} else {
				parseTables(string(text), counters)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return counters, nil
}

// Growth returns by how much each counter grew, without those that did not.
func Growth(before, after map[string]uint64) map[string]uint64 {
	grown := map[string]uint64{}
	for name, n := range after {
		if n > before[name] {
			grown[name] = n - before[name]
		}
	}
	return grown
}

// parseTables reads pairs of lines, the first with names and the second with values: "Ip: Forwarding DefaultTTL", "Ip:
// 1 64".
func parseTables(text string, into map[string]uint64) {
	wanted := telling()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := 1; j < min(len(names), len(values)); j++ {
			keep(strings.TrimSuffix(names[0], ":")+"."+names[j], values[j], wanted, into)
		}
	}
}

// parseList reads lines of one name and one value.
func parseList(text string, into map[string]uint64) {
	wanted := telling()
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 {
			keep(fields[0], fields[1], wanted, into)
		}
	}
}

// keep records a counter if it is wanted. Some other counters are negative.
func keep(name, value string, wanted map[string]bool, into map[string]uint64) {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil && wanted[name] {
		into[name] = n
	}
}
