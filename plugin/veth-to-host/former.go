package main

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// check compares the table with the node's, which a version before may have made, as it made the pod's record. Pods go
// on with it until ADD or GC replaces it.
func (t *nodeTable) check(conn *nftables.Conn) error {
	err := checkTable(conn, t.table)
	if err == nil {
		return nil
	}
	// None of those versions had the chain.
	if raw, listErr := t.hasChain(conn, guardRaw); raw || listErr != nil {
		return err
	}
	if slices.ContainsFunc(t.former(), func(old *table) bool { return checkTable(conn, old) == nil }) {
		return nil
	}
	return err
}

// former returns the tables of the versions before, the newest first: the one without the chain guard-raw, the one
// before it without the sets open, and the one before that without guard-replies, whose chain guard looked up
// `ct original saddr`.
//
// The table is one of at least one attachment.
func (t *nodeTable) former() []*table {
	notRaw := t.without(guardRaw)
	notOpen := t.withoutOpen(notRaw)
	lookup := notOpen.without(guardReplies)
	if t.guarded != nil {
		lookup.rules[guardChain] = nil
		for _, sum := range []string{"baf7778d", "478c4b15", "f2b63520", "5a42a1b0", "9f6961d7", "78836956"} {
			lookup.rules[guardChain] = append(lookup.rules[guardChain], &nftables.Rule{UserData: ruleTag(sum)})
		}
	}
	return []*table{notRaw, notOpen, lookup}
}

// without returns the table without a chain.
func (t *table) without(chain string) *table {
	old := *t
	old.chains = slices.DeleteFunc(slices.Clone(t.chains), func(c *nftables.Chain) bool { return c.Name == chain })
	old.rules = maps.Clone(t.rules)
	return &old
}

// withoutOpen returns a table without the sets open: every pod was in the sets served, and their rules came first, as
// they do now.
func (t *nodeTable) withoutOpen(from *table) *table {
	old := *from
	old.sets = slices.DeleteFunc(slices.Clone(t.sets), func(s *nftables.Set) bool {
		return s == t.open4 || s == t.open6
	})
	old.rules = maps.Clone(from.rules)
	old.rules[markChain] = t.rules[markChain][:3]
	old.elements = maps.Clone(t.elements)
	for open, ranges := range map[string]string{t.open4.Name: t.served4.Name, t.open6.Name: t.served6.Name} {
		old.elements[ranges] = maps.Clone(t.elements[ranges])
		for _, e := range t.elements[open] {
			ip, _ := netip.AddrFromSlice(e.Key)
			e = served(ip, portRange{0, maxPort})
			old.elements[ranges][elementKey(e)] = e
		}
	}
	return &old
}
