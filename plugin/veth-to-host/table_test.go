package main

import (
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
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
