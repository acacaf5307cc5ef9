package snapshot

import (
	"fmt"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// BenchmarkTake takes a snapshot of a node with four links, ten routes of pods and a ruleset: all kinds except files.
func BenchmarkTake(b *testing.B) {
	isolateNode(b)
	addMacvlan(b, "eno1.host", "02:00:00:00:00:02", "eno1")
	check(b, netlink.LinkSetUp(link(b, "eno1.host")))
	for i := range 10 {
		check(b, netlink.RouteAdd(&netlink.Route{
			LinkIndex: link(b, "eno1.host").Attrs().Index, Dst: prefix(b, fmt.Sprintf("192.168.1.%d/32", i)),
			Scope: netlink.SCOPE_LINK,
		}))
	}
	conn, err := nftables.New()
	check(b, err)
	ruleset(b, conn)
	check(b, conn.Flush())
	for _, kind := range append([]string{"all"}, networkKinds...) {
		opts := Options{Kinds: []string{kind}}
		if kind == "all" {
			opts.Kinds = nil
		}
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				take(b, opts)
			}
		})
	}
}
