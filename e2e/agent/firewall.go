package agent

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// FirewallTable is the nftables table for rules that represent other software on a node or in a pod.
const FirewallTable = "cnitest-lab"

// dropForwarded makes `chain forward { type filter hook forward priority filter; policy drop; … accept }` in the
// calling thread's namespace.
func dropForwarded(accept []netip.Prefix) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	drop := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: FirewallTable})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	for _, prefix := range accept {
		for _, source := range []bool{true, false} {
			exprs := append(matchAddress(prefix, source), &expr.Verdict{Kind: expr.VerdictAccept})
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		}
	}
	return conn.Flush()
}

// matchAddress matches `ip saddr PREFIX`, or daddr, in the prefix's family.
func matchAddress(prefix netip.Prefix, source bool) []expr.Any {
	family, offset, length := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if source {
		offset = 12
	}
	if prefix.Addr().Is6() {
		family, offset, length = unix.NFPROTO_IPV6, 24, 16
		if source {
			offset = 8
		}
	}
	network := netipx.RangeOfPrefix(prefix.Masked())
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: network.From().AsSlice(), ToData: network.To().AsSlice()},
	}
}

// redirect makes `tcp dport PORT redirect to :TO` in the calling thread's namespace.
func redirect(port, to uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: FirewallTable})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "redirect", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityNATDest,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Redir{RegisterProtoMin: 1},
	}})
	return conn.Flush()
}
