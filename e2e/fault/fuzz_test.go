package fault

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzMessages checks that whatever a traced plugin sends through netlink is described.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x20\x00\x00\x00\x10\x00\x05\x06\x01\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00"))
	f.Add([]byte("\x1c\x00\x00\x00\x18\x00\x05\x06\x01\x00\x00\x00\x00\x00\x00\x00\x02\x20\x00\x00\xfe\x03\x00\x01\x00\x00\x00\x00"))
	f.Add([]byte("\x14\x00\x00\x00\x00\x0a\x05\x06\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0a"))
	link := func(uint32) string { return "eth0" }
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, m := range messages(data) {
			for _, protocol := range []int{unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER, unix.NETLINK_XFRM} {
				m.changes(protocol)
			}
			describeRoute(m.header.Type, m.body, link)
			describeNftables(m.header.Type&0xff, m.body)
			nftExpressions("inet", m.body)
			if attributes := attributesOf(m.body); len(m.body) >= unix.SizeofRtMsg {
				routeTable(m.body, attributes)
			}
		}
	})
}
