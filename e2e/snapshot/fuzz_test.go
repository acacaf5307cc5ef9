package snapshot

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzTables checks that whatever plugins put into the tables of a kernel is shown: attributes of nf_tables, entries of
// iptables, and attributes of links.
func FuzzTables(f *testing.F) {
	f.Add([]byte("\x0b\x00\x01\x00counter\x00\x0c\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add(append(make([]byte, 112), "\x70\x00\x98\x00\x28\x00ERROR\x00"...))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, name := range expressionNames() {
			a, err := parseAttrs(data)
			if err != nil {
				break
			}
			nftExpressions[name](&nftRenderer{registers: map[uint64]operand{}}, a)
		}
		for _, family := range xtFamilies {
			entries, err := family.entries(data)
			if err != nil {
				continue
			}
			for _, e := range entries {
				family.ruleText(e, nil)
			}
		}
		nestedOf(data, unix.IFLA_LINKINFO)
		actionsOf("mirred", data)
	})
}

func expressionNames() (names []string) {
	for name := range nftExpressions {
		if name != "lookup" { // it asks the kernel for the set
			names = append(names, name)
		}
	}
	return names
}
