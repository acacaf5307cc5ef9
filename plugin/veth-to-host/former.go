package main

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// check compares the table with the node's, which a version before may have made. Pods go on with it until ADD or GC
// replaces it.
func (t *nodeTable) check(conn *nftables.Conn) error {
	err := checkTable(conn, t.table)
	if err == nil || slices.ContainsFunc(t.former(), func(old *table) bool { return checkTable(conn, old) == nil }) {
		return nil
	}
	return err
}

// former returns the tables of the versions before, the newest first: the one whose guard came after connection
// tracking, the one before it without the sets open, and the one before that, whose guard looked up
// `ct original saddr`.
//
// The table is one of at least one attachment.
func (t *nodeTable) former() []*table {
	late := t.withGuard(map[string][]string{
		guardChain:   {"baf7778d", "478c4b15", "5a42a1b0", "4c9904bc", "78836956"},
		guardReplies: {"2906bfcb", "fc97bbaf"},
	})
	lookup := t.withGuard(map[string][]string{
		guardChain: {"baf7778d", "478c4b15", "f2b63520", "5a42a1b0", "9f6961d7", "78836956"},
	})
	return []*table{late, t.withoutOpen(late), t.withoutOpen(lookup)}
}

// withGuard returns the table with other chains of the guard, given by the comments of their rules.
func (t *nodeTable) withGuard(chains map[string][]string) *table {
	old := *t.table
	old.chains = slices.DeleteFunc(slices.Clone(t.chains), func(c *nftables.Chain) bool {
		return c.Name == guardReplies && chains[c.Name] == nil
	})
	old.rules = maps.Clone(t.rules)
	for _, c := range t.chains {
		if c.Name != guardChain && c.Name != guardReplies {
			continue
		}
		old.rules[c.Name] = nil
		for _, sum := range chains[c.Name] {
			old.rules[c.Name] = append(old.rules[c.Name], &nftables.Rule{UserData: ruleTag(sum)})
		}
	}
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
