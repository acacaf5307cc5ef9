package service

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// TestMark sets another program's bit in the mark of every packet: the masquerade mark is added to it on the way
// through the node, and removed before the packet leaves; the other bit stays.
func TestMark(t *testing.T) {
	const theirs = 0x1
	for _, p := range planes() {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.needs...)
			l := newLab(t)
			var seen func() []string
			l.node.do(t, func() (err error) {
				if err := Apply(t.Context(), Options{Dataplane: p.name}, labServices()); err != nil {
					return err
				}
				seen, err = watchMarks(theirs, theirs, theirs|masqueradeMark, masqueradeMark, 0)
				return err
			})
			ask{
				"", client, "tcp", "10.1.0.1", 30010, map[string]string{"one": "10.2.1.1", "two": "10.2.2.1"}, "",
			}.check(t, l)
			var got []string
			l.node.do(t, func() error {
				got = seen()
				return nil
			})
			if diff := cmp.Diff(got, p.marks); diff != "" {
				t.Errorf("marks of packets towards the endpoints (-got +want):\n%s", diff)
			}
		})
	}
}

// watchMarks gives every incoming packet a mark. In FORWARD and after all chains of POSTROUTING it counts the packets
// that have exactly one of the given marks. seen returns the ones that occurred.
func watchMarks(set uint32, marks ...uint32) (seen func() []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	table := conn.AddTable(&nftables.Table{Name: "watch", Family: nftables.TableFamilyIPv4})
	hook := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{
			Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: &priority,
		})
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: hook("in", nftables.ChainHookPrerouting, -300), Exprs: []expr.Any{
		&expr.Immediate{Register: 1, Data: native(set)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}})
	for _, chain := range []*nftables.Chain{
		hook("forward", nftables.ChainHookForward, -300), hook("postrouting", nftables.ChainHookPostrouting, 300),
	} {
		for _, mark := range marks {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(mark)},
				&expr.Counter{},
			}})
		}
	}
	return func() (names []string) {
		for _, chain := range []string{"forward", "postrouting"} {
			rules, err := conn.GetRules(table, &nftables.Chain{Name: chain, Table: table})
			if err != nil {
				return []string{err.Error()}
			}
			for i, rule := range rules {
				if rule.Exprs[2].(*expr.Counter).Packets > 0 {
					names = append(names, fmt.Sprintf("%s %#x", chain, marks[i]))
				}
			}
		}
		return names
	}, conn.Flush()
}
