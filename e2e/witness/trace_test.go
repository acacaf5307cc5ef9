package witness_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/witness"
)

// ruleset makes a chain of the table ip site.
func ruleset(tb testing.TB, chain nftables.Chain, rules ...[]expr.Any) {
	tb.Helper()
	conn, err := nftables.New()
	check(tb, err)
	chain.Table = conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "site"})
	added := conn.AddChain(&chain)
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: added, Exprs: r})
	}
	check(tb, conn.Flush())
}

// toPort returns a rule for a port.
func toPort(port uint16, then ...expr.Any) []expr.Any {
	return append([]expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}, then...)
}

// send sends a datagram. It is no error if a rule forbids that.
func send(tb testing.TB, to string) {
	tb.Helper()
	conn, err := net.Dial("udp", to)
	check(tb, err)
	defer conn.Close()
	if _, err := conn.Write([]byte("datagram")); err != nil && !errors.Is(err, unix.EPERM) {
		tb.Fatal(err)
	}
}

func TestTrace(t *testing.T) {
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	input := nftables.Chain{
		Name: "in", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput,
		Priority: nftables.ChainPriorityFilter,
	}
	closed := input
	policy := nftables.ChainPolicyDrop
	closed.Policy = &policy
	for _, tt := range []struct {
		name string
		make func(*testing.T)
		to   []string
		want []witness.Verdict
	}{
		{"nothing is dropped", func(t *testing.T) { ruleset(t, input, toPort(53, drop)) }, []string{"192.168.0.1:80"}, nil},
		{"a rule drops", func(t *testing.T) {
			ruleset(t, input, toPort(53, drop))
		}, []string{"192.168.0.1:53", "192.168.0.1:80", "192.168.0.1:53"}, []witness.Verdict{
			{Action: witness.Dropped, Chain: "ip site in", Rule: "th dport 53 drop", Source: "192.168.0.1", Destination: "192.168.0.1", Times: 2},
		}},
		{"a policy drops", func(t *testing.T) { ruleset(t, closed) }, []string{"192.168.0.1:53"}, []witness.Verdict{
			{Action: witness.Dropped, Chain: "ip site in", Source: "192.168.0.1", Destination: "192.168.0.1", Times: 1},
		}},
		{"another address is not looked at", func(t *testing.T) { ruleset(t, closed) }, []string{"127.0.0.1:53"}, nil},
		{"a rule translates", func(t *testing.T) {
			ruleset(t, nftables.Chain{
				Name: "out", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput,
				Priority: nftables.ChainPriorityNATDest,
			},
				toPort(53, &expr.Immediate{Register: 1, Data: []byte{127, 0, 0, 1}}, &expr.NAT{
					Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1,
				}))
		}, []string{"192.168.0.1:53"}, []witness.Verdict{
			{
				Action: witness.Translated, Chain: "ip site out", Rule: "th dport 53 dnat to 127.0.0.1",
				Source: "192.168.0.1", Destination: "192.168.0.1", Times: 1,
			},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolate(t)
			tt.make(t)
			trace, err := witness.StartTrace("", []netip.Addr{netip.MustParseAddr("192.168.0.1")})
			check(t, err)
			for _, to := range tt.to {
				send(t, to)
			}
			got, err := trace.Stop()
			check(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
			conn, err := nftables.New()
			check(t, err)
			tables, err := conn.ListTables()
			check(t, err)
			if slices.ContainsFunc(tables, func(table *nftables.Table) bool { return table.Name != "site" }) {
				t.Errorf("got a table besides site after the trace: %v", tables)
			}
		})
	}
}

func TestCounters(t *testing.T) {
	isolate(t)
	before, err := witness.Counters("")
	check(t, err)
	send(t, "127.0.0.1:53") // nobody listens there
	after, err := witness.Counters("")
	check(t, err)
	if diff := cmp.Diff(map[string]uint64{"Udp.NoPorts": 1}, witness.Growth(before, after)); diff != "" {
		t.Errorf("growth (-want +got):\n%s", diff)
	}
}
