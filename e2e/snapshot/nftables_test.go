package snapshot

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleset makes a table as plugins, kube-proxy and administrators write them.
func ruleset(tb testing.TB, conn *nftables.Conn) {
	tb.Helper()
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "cni"})
	drop := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{Name: "own", Table: table})
	post := conn.AddChain(&nftables.Chain{
		Name: "post", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	})
	pre := conn.AddChain(&nftables.Chain{
		Name: "pre", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityNATDest,
	})
	forward := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	addSets(tb, conn, table)
	check(tb, conn.AddSet(&nftables.Set{
		Table: table, Name: "verdicts", IsMap: true, KeyType: nftables.TypeInetService, DataType: nftables.TypeVerdict,
	}, []nftables.SetElement{{Key: []byte{0, 80}, VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: "own"}}}))
	services := &nftables.Set{Table: table, Anonymous: true, Constant: true, KeyType: nftables.TypeInetService}
	check(tb, conn.AddSet(services, []nftables.SetElement{{Key: []byte{0, 80}}, {Key: []byte{1, 187}}}))
	conn.AddObj(&nftables.NamedObj{
		Table: table, Name: "count", Type: nftables.ObjTypeCounter, Obj: &expr.Counter{Bytes: 5, Packets: 1},
	})

	source := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	target := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
	port := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	for _, rule := range []struct {
		chain *nftables.Chain
		exprs []expr.Any
	}{
		{post, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: append([]byte("eth0"), make([]byte, 12)...)},
			source, &expr.Bitwise{
				SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{255, 240, 0, 0}, Xor: make([]byte, 4),
			},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{172, 16, 0, 0}},
			target, &expr.Lookup{SourceRegister: 1, SetName: "pods", Invert: true},
			&expr.Counter{Bytes: 100, Packets: 2}, &expr.Masq{Random: true},
		}},
		{pre, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			port, &expr.Lookup{SourceRegister: 1, SetName: services.Name, SetID: services.ID},
			&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, &expr.Cmp{
				Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL),
			},
			&expr.Immediate{Register: 1, Data: []byte{10, 1, 0, 5}}, &expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(8080)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
		}},
		{pre, []expr.Any{port, &expr.Lookup{SourceRegister: 1, SetName: "verdicts", IsDestRegSet: true}}},
		{pre, []expr.Any{
			target, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 9},
			&expr.Payload{DestRegister: 10, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, &expr.Lookup{SourceRegister: 1, SetName: "endpoints"},
			&expr.Verdict{Kind: expr.VerdictGoto, Chain: "own"},
		}},
		{forward, []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 3},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{10, 1, 0}},
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(6), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}},
		{forward, []expr.Any{
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(0x4000)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
			&expr.Limit{Rate: 5, Unit: expr.LimitTimeSecond, Burst: 3},
			&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}},
	} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: rule.chain, Exprs: rule.exprs})
	}
}

func addSets(tb testing.TB, conn *nftables.Conn, table *nftables.Table) {
	tb.Helper()
	check(tb, conn.AddSet(&nftables.Set{Table: table, Name: "pods", KeyType: nftables.TypeIPAddr},
		[]nftables.SetElement{
			{Key: []byte{10, 0, 0, 1}}, {Key: []byte{10, 0, 0, 2}},
		}))
	endpoint, err := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	check(tb, err)
	check(tb, conn.AddSet(&nftables.Set{Table: table, Name: "endpoints", KeyType: endpoint, Concatenation: true},
		[]nftables.SetElement{
			{Key: []byte{10, 0, 0, 1, unix.IPPROTO_TCP, 0, 0, 0, 0, 80, 0, 0}},
		}))
}

func TestTakeNftables(t *testing.T) {
	isolate(t)
	opts := Options{Kinds: []string{Nftables}}
	before := take(t, opts)
	conn, err := nftables.New()
	check(t, err)
	ruleset(t, conn)
	check(t, conn.Flush())
	want := []string{
		"+ nftables chain ip cni forward: type filter hook forward priority 0 policy drop",
		"+ nftables chain ip cni own",
		"+ nftables chain ip cni post: type nat hook postrouting priority 100 policy accept",
		"+ nftables chain ip cni pre: type nat hook prerouting priority -100 policy accept",
		"+ nftables element ip cni endpoints: 10.0.0.1 . 6 . 80",
		"+ nftables element ip cni pods: 10.0.0.1",
		"+ nftables element ip cni pods: 10.0.0.2",
		"+ nftables element ip cni verdicts: 80 : jump own",
		"+ nftables object ip cni count: counter",
		"+ nftables rule ip cni forward: ip daddr 10.1.0.0/24 ct state & 0x6 != 0x0 accept",
		"+ nftables rule ip cni forward: meta mark set 0x4000 limit rate 5 per 1s burst 3 " +
			"byteorder #1=0x00000001 #2=0x00000001 #3=0x00000001 #4=0x00000004 #5=0x00000004 drop",
		`+ nftables rule ip cni post: oifname != "eth0" ip saddr & /12 172.16.0.0 ip daddr != @pods counter masquerade random`,
		"+ nftables rule ip cni pre: ip daddr . meta l4proto . th dport @endpoints goto own",
		"+ nftables rule ip cni pre: meta l4proto 6 th dport { 443, 80 } fib daddr type 0x2 dnat to 10.1.0.5 port 8080",
		"+ nftables rule ip cni pre: th dport vmap @verdicts",
		"+ nftables set ip cni endpoints: type ipv4_addr . inet_proto . inet_service",
		"+ nftables set ip cni pods: type ipv4_addr",
		"+ nftables set ip cni verdicts: type inet_service : verdict",
		"+ nftables table ip cni",
	}
	after := take(t, opts)
	if diff := cmp.Diff(lines(Diff(before, after)), want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
	if got := Diff(after, take(t, opts)); got != nil {
		t.Errorf("got %q from a second look, want no change", lines(got))
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "cni"})
	check(t, conn.Flush())
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q after undoing, want no change", lines(got))
	}
}

// counted adds a table that counts outgoing packets and has a set whose element expires after a moment.
func counted(tb testing.TB) {
	tb.Helper()
	conn, err := nftables.New()
	check(tb, err)
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "counted"})
	output := conn.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityFilter,
	})
	check(tb, conn.AddSet(&nftables.Set{Table: table, Name: "recent", KeyType: nftables.TypeIPAddr, HasTimeout: true},
		[]nftables.SetElement{
			{Key: []byte{10, 0, 0, 1}, Timeout: 3 * time.Second},
		}))
	conn.AddRule(&nftables.Rule{Table: table, Chain: output, Exprs: []expr.Any{
		// Matching the state of connections makes the kernel track them in this namespace.
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, &expr.Counter{},
	}})
	check(tb, conn.Flush())
}
