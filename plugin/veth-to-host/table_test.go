package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// A transaction fails if one of its messages is answered with ENOENT: here the jump to a chain that does not exist.
func TestTable_that_cannot_be_made(t *testing.T) {
	l := newLab(t)
	in(t, l.node1.ns, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		broken := newTable("broken")
		c := broken.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
			*nftables.ChainPriorityFilter)
		broken.rule(c, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "none"}})
		want := "nftables: table broken: conn.Receive: netlink receive: no such file or directory"
		if err := broken.ensure(conn); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if exists, err := broken.exists(conn); exists || err != nil {
			t.Errorf("exists: got %t, %v, want false", exists, err)
		}
		return broken.remove(conn)
	})
}

// make replaces a table of its name with everything in it, such as one that an earlier pod of the namespace left.
func TestTable_make_replaces(t *testing.T) {
	l := newLab(t)
	in(t, l.node1.ns, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		old := newTable("replaced")
		old.chain("old", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityFilter)
		wanted := newTable("replaced")
		c := wanted.chain("wanted", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
		wanted.rule(c, iifname("eth0"), verdict(expr.VerdictDrop))
		for _, table := range []*table{old, wanted, wanted} {
			if err := table.make(conn); err != nil {
				return err
			}
		}
		if why, err := wanted.difference(conn); why != "" || err != nil {
			t.Errorf("difference: got %q, %v, want none", why, err)
		}
		for name, want := range map[string]bool{"old": false, "wanted": true} {
			if exists, err := wanted.hasChain(conn, name); exists != want || err != nil {
				t.Errorf("chain %s: got %t, %v, want %t", name, exists, err, want)
			}
		}
		return wanted.remove(conn)
	})
}

// The table of a node with many pods is made in one transaction.
func TestTable_of_many_pods(t *testing.T) {
	l := newLab(t)
	var entries []entry
	ip := netip.MustParseAddr("10.0.0.1")
	for number := range 3000 {
		a := attachment{
			Veth: kernel.Veth{Host: fmt.Sprintf("veth%08x", number)}, Mark: defaultMark, Masquerade: true,
			Ports: []portRange{{0, 8080}}, Addresses: []netip.Addr{ip}, Sources: []netip.Addr{ip},
			Node: []netip.Addr{ip},
		}
		of := record.Attachment{ContainerID: fmt.Sprint(number)}
		entries, ip = append(entries, entry{Attachment: of, State: a}), ip.Next()
	}
	in(t, l.node1.ns, func() error { return syncNodeTable(entries) })
	in(t, l.node1.ns, func() error { return syncNodeTable(nil) })
}
