package netfilter

import (
	"testing"
)

// FuzzLegacy checks that following a packet through any table of legacy iptables ends.
func FuzzLegacy(f *testing.F) {
	for _, ipv6 := range []bool{false, true} {
		family := legacyFamilies()[0]
		if ipv6 {
			family = legacyFamilies()[1]
		}
		// An entry without matches whose target is ACCEPT, and which is the policy.
		entry := make([]byte, family.size+40)
		entry[family.head], entry[family.head+2] = byte(family.size), byte(len(entry))
		copy(entry[family.size+32:], []byte{0xfe, 0xff, 0xff, 0xff})
		f.Add(entry, uint32(0), uint32(0), ipv6)
		f.Add(append(entry, entry...), uint32(0), uint32(len(entry)), ipv6)
		f.Add(entry[:family.size], uint32(0), uint32(0), ipv6)
	}
	f.Fuzz(func(_ *testing.T, entries []byte, first, policy uint32, ipv6 bool) {
		table := &legacyTable{legacyFamily: legacyFamilies()[0], entries: entries}
		if ipv6 {
			table.legacyFamily = legacyFamilies()[1]
		}
		table.HookEntry[forwardHook], table.Underflow[forwardHook] = first, policy
		_ = table.drops(Forwarding{From: "eni", To: []string{"eth0"}})
	})
}
