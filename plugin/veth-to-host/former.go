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
	if err == nil {
		return nil
	}
	sets, listErr := conn.GetSets(t.Table)
	if listErr != nil || slices.ContainsFunc(sets, func(s *nftables.Set) bool { return s.Name == t.open4.Name }) {
		return err
	}
	old := t.withoutOpen()
	err = checkTable(conn, old)
	if err != nil && t.guarded != nil && checkTable(conn, withoutGuardReplies(old)) == nil {
		return nil
	}
	return err
}

// withoutOpen returns the table of the version without the sets open: every pod was in the sets served, and their rules
// came first, as they do now.
//
// The table is one of at least one attachment.
func (t *nodeTable) withoutOpen() *table {
	old := *t.table
	old.sets = slices.DeleteFunc(slices.Clone(t.sets), func(s *nftables.Set) bool {
		return s == t.open4 || s == t.open6
	})
	old.rules = maps.Clone(t.rules)
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

// formerGuard has the comments of the rules of the chain guard as the version without guardReplies made them: it looked
// up `ct original saddr`.
var formerGuard = []string{"baf7778d", "478c4b15", "f2b63520", "5a42a1b0", "9f6961d7", "78836956"}

func withoutGuardReplies(t *table) *table {
	old := *t
	old.chains = slices.DeleteFunc(slices.Clone(t.chains), func(c *nftables.Chain) bool {
		return c.Name == guardReplies
	})
	old.rules = maps.Clone(t.rules)
	old.rules[guardChain] = nil
	for _, sum := range formerGuard {
		old.rules[guardChain] = append(old.rules[guardChain], &nftables.Rule{UserData: ruleTag(sum)})
	}
	return &old
}
