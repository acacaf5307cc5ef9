package main

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// What versions before made for a pod that is reached by every port.
func TestFormer(t *testing.T) {
	a := attachment{Mark: defaultMark, Ports: []portRange{{0, maxPort}}, Addresses: []netip.Addr{
		netip.MustParseAddr("10.10.20.50"), netip.MustParseAddr("fd00:20::50"),
	}}
	old := newNodeTable([]entry{{State: a}}).former()[1]
	var sets, keys []string
	for _, s := range old.sets {
		sets = append(sets, s.Name)
	}
	if want := "links leaving source4 source6 served4 served6"; strings.Join(sets, " ") != want {
		t.Errorf("sets: got %v, want %s", sets, want)
	}
	want := []string{pluginName + " bff4c741", pluginName + " 21b3dab8", pluginName + " 9d9ce004"}
	if diff := cmp.Diff(want, old.tags(old.chains[0])); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for _, set := range []string{"served4", "served6"} {
		for _, e := range old.elements[set] {
			keys = append(keys, hex.EncodeToString(e.Key)+"-"+hex.EncodeToString(e.KeyEnd))
		}
	}
	if diff := cmp.Diff([]string{
		"0a0a143200000000-0a0a1432ffff0000",
		"fd00002000000000000000000000005000000000-fd000020000000000000000000000050ffff0000",
	}, keys); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
}

// A table of a version before passes CHECK unless something is gone from it. The next ADD or GC replaces it.
func TestFormer_goes_on(t *testing.T) {
	l := newLab(t)
	p, leaves, next := l.pod(l.node1, "p1", 50, bridgeMode), l.pod(l.node1, "p2", 51, bridgeMode),
		l.pod(l.node1, "p3", 52, bridgeMode)
	l.node1.mustAdd(t, p)
	l.node1.mustAdd(t, leaves)
	form := withoutHandles(matching(l.node1.state(t), "^nft "+nodeTableName))
	succeeds := func(want string) {
		t.Helper()
		if _, err := l.node1.run(t, p.call("CHECK")); err != nil {
			t.Errorf("CHECK: got %s, want none", err)
		}
		if got := withoutHandles(matching(l.node1.state(t), "^nft "+nodeTableName)); (got == form) != (want == form) {
			t.Errorf("got table %s, want %s", got, want)
		}
	}
	for version, make := range map[string]func() error{
		"without guard-raw": withoutRawTable, "without open": withoutOpenTable,
		"without guard-replies": withoutRepliesTable,
	} {
		for what, renew := range map[string]func(){
			"ADD": func() { l.node1.mustAdd(t, next) },
			"GC": func() {
				if err := l.node1.gc(t, nil, p, next); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(version+"/"+what, func(t *testing.T) {
				l.node1.in(t, make)
				succeeds("another")
				renew()
				succeeds(form)
			})
		}
		t.Run(version+"/DEL", func(t *testing.T) {
			l.node1.mustAdd(t, leaves)
			l.node1.in(t, make)
			l.node1.mustDel(t, leaves.call("DEL"))
			if _, err := l.node1.run(t, p.call("CHECK")); err != nil {
				t.Errorf("CHECK: got %s, want none", err)
			}
		})
		t.Run(version+"/broken", func(t *testing.T) {
			l.node1.in(t, make)
			l.node1.in(t, flushChains(guardChain))
			if _, err := l.node1.run(t, p.call("CHECK")); err == nil || !strings.Contains(err.Msg, "nftables: table") {
				t.Errorf("CHECK: got %v, want that the table is another", err)
			}
		})
	}
}

// A later version may have other rules than this one knows, in chains that this one knows. After a downgrade CHECK says
// so until the next ADD or GC, which replaces the table. A chain that only the later version knows is none of CHECK's
// business.
func TestFormer_downgraded(t *testing.T) {
	l := newLab(t)
	p, next := l.pod(l.node1, "p1", 50, bridgeMode), l.pod(l.node1, "p2", 51, bridgeMode)
	l.node1.mustAdd(t, p)
	later := func(name string) {
		l.node1.in(t, editTable(func(c *nftables.Conn, t *nodeTable) {
			chain := c.AddChain(&nftables.Chain{Name: name, Table: t.Table})
			c.AddRule(&nftables.Rule{
				Table: t.Table, Chain: chain, Exprs: verdict(expr.VerdictReturn), UserData: ruleTag("11111111"),
			})
		}))
	}
	later("later")
	if _, err := l.node1.run(t, p.call("CHECK")); err != nil {
		t.Errorf("another chain: CHECK: got %s, want none", err)
	}
	for what, renew := range map[string]func(){
		"ADD": func() { l.node1.mustAdd(t, next) },
		"GC": func() {
			if err := l.node1.gc(t, nil, p, next); err != nil {
				t.Fatal(err)
			}
		},
	} {
		later(guardChain)
		want := "chain guard: want 5 rules of this plugin, got 5 and 1 others"
		if _, err := l.node1.run(t, p.call("CHECK")); err == nil || !strings.Contains(err.Msg, want) {
			t.Errorf("CHECK: got %v, want %s", err, want)
		}
		renew()
		if _, err := l.node1.run(t, p.call("CHECK")); err != nil {
			t.Errorf("after %s: CHECK: got %s, want none", what, err)
		}
		l.node1.mustDel(t, next.call("DEL"))
	}
}

// remake makes a table of the pods on the node, and records of a version before.
func remake(of func(*nodeTable) *table) error {
	s, err := openStore(true)
	if err != nil {
		return err
	}
	entries, _, err := s.List()
	if err != nil {
		return err
	}
	for _, e := range entries {
		e.State.Raw = false
		if err := s.Save(e); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	old := of(newNodeTable(entries))
	conn.DelTable(old.Table)
	return old.create(conn, conn.AddTable)
}

// withoutRawTable makes the table of the version without the chain guard-raw.
func withoutRawTable() error { return remake(func(t *nodeTable) *table { return t.without(guardRaw) }) }

// withoutOpenTable makes the table of the version before, which had no sets open.
func withoutOpenTable() error {
	return remake(func(t *nodeTable) *table { return t.withoutOpen(t.without(guardRaw)) })
}

// withoutRepliesTable makes the table of the version before that one, whose chain guard was another.
func withoutRepliesTable() error {
	if err := withoutOpenTable(); err != nil {
		return err
	}
	return editTable(func(c *nftables.Conn, t *nodeTable) {
		late := &nftables.Chain{Name: guardReplies, Table: t.Table}
		c.FlushChain(late)
		c.DelChain(late)
		guard := &nftables.Chain{Name: guardChain, Table: t.Table}
		c.FlushChain(guard)
		link, accept := loadMeta(expr.MetaKeyIIFNAME, register1), verdict(expr.VerdictAccept)
		drop := verdict(expr.VerdictDrop)
		former := &nodeTable{table: newTable(t.Name), guard: t.guard}
		former.rule(guard, link, inSet(t.guarded), family(false), destinationAddress(false, register1),
			prefixOf(loopback()), drop)
		for _, own := range []*nftables.Set{t.own4, t.own6} {
			ipv6 := own == t.own6
			former.rule(guard, family(ipv6), link, sourceAddress(ipv6, registerAfterName), inSet(own), accept)
			former.rule(guard, direction(directionReply), family(ipv6), link,
				[]expr.Any{&expr.Ct{Key: expr.CtKeySRC, Register: registerAfterName}}, inSet(own), accept)
		}
		former.rule(guard, link, inSet(t.guarded), drop)
		for _, r := range former.rules[guardChain] {
			c.AddRule(r)
		}
	})()
}
