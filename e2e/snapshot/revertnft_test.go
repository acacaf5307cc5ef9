package snapshot

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// filter adds a table with a chain of equal rules.
func filter(tb testing.TB, rules int) {
	tb.Helper()
	conn, err := nftables.New()
	check(tb, err)
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "guard"})
	chain := conn.AddChain(&nftables.Chain{Table: table, Name: "own"})
	for range rules {
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}},
		})
	}
	check(tb, conn.Flush())
}

// intervals adds a set of intervals, the last of which has no end, a map, and a set of intervals over two fields.
func intervals(tb testing.TB) {
	tb.Helper()
	conn, err := nftables.New()
	check(tb, err)
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "ranges"})
	check(tb, conn.AddSet(&nftables.Set{Table: table, Name: "nets", KeyType: nftables.TypeIPAddr, Interval: true},
		[]nftables.SetElement{
			{Key: []byte{10, 0, 0, 0}},
			{Key: []byte{10, 0, 1, 0}, IntervalEnd: true},
			{Key: []byte{10, 0, 4, 0}},
			{Key: []byte{10, 0, 5, 0}, IntervalEnd: true},
			{Key: []byte{255, 0, 0, 0}},
		}))
	ports := &nftables.Set{
		Table: table, Name: "ports", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeInetService,
	}
	check(tb, conn.AddSet(ports, []nftables.SetElement{
		{Key: []byte{10, 0, 0, 1}, Val: []byte{0, 80}}, {Key: []byte{10, 0, 0, 2}, Val: []byte{0, 80}},
	}))
	pair, err := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	check(tb, err)
	check(tb, conn.AddSet(&nftables.Set{
		Table: table, Name: "pairs", KeyType: pair, Concatenation: true, Interval: true,
	}, []nftables.SetElement{
		{Key: []byte{10, 0, 0, 0, 0, 80, 0, 0}, KeyEnd: []byte{10, 0, 0, 255, 0, 90, 0, 0}},
		{Key: []byte{10, 0, 1, 0, 0, 80, 0, 0}, KeyEnd: []byte{10, 0, 1, 255, 0, 90, 0, 0}},
	}))
	check(tb, conn.Flush())
}

func TestRevertNftables(t *testing.T) {
	opts := Options{Kinds: []string{Nftables}}
	for _, tt := range []struct {
		name   string
		change func(testing.TB)
		want   int
	}{
		{"ruleset", func(tb testing.TB) {
			conn, err := nftables.New()
			check(tb, err)
			ruleset(tb, conn)
			check(tb, conn.Flush())
		}, 19},
		{"equal rules", func(tb testing.TB) { filter(tb, 3) }, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolate(t)
			before := take(t, opts)
			tt.change(t)
			changes := innermost(Diff(before, take(t, opts)))
			if len(changes) != tt.want {
				t.Errorf("got %d changes %q, want %d", len(changes), lines(changes), tt.want)
			}
			undo(t, before, changes, opts)
		})
	}
}

func TestRevertNftables_intervals(t *testing.T) {
	isolate(t)
	opts := Options{Kinds: []string{Nftables}}
	intervals(t)
	for _, tt := range []struct {
		element Item
		want    []string
	}{
		{
			Item{Name: "element ip ranges nets", Text: "10.0.0.0"},
			[]string{"- nftables element ip ranges nets: 10.0.0.0", "- nftables element ip ranges nets: 10.0.1.0 end"},
		},
		{Item{Name: "element ip ranges nets", Text: "255.0.0.0"}, []string{"- nftables element ip ranges nets: 255.0.0.0"}},
		{Item{Name: "element ip ranges ports", Text: "10.0.0.2 : 80"}, []string{"- nftables element ip ranges ports: 10.0.0.2 : 80"}},
		{
			Item{Name: "element ip ranges pairs", Text: "10.0.1.0 . 80 - 10.0.1.255 . 90"},
			[]string{"- nftables element ip ranges pairs: 10.0.1.0 . 80 - 10.0.1.255 . 90"},
		},
	} {
		tt.element.Kind = Nftables
		before := take(t, opts)
		check(t, Revert(t.Context(), Change{Op: Added, Item: tt.element}, opts))
		if diff := cmp.Diff(lines(Diff(before, take(t, opts))), tt.want); diff != "" {
			t.Errorf("%s: changes (-got +want):\n%s", tt.element.Text, diff)
		}
	}
}

func TestRevertNftables_inUse(t *testing.T) {
	isolate(t)
	opts := Options{Kinds: []string{Nftables}}
	conn, err := nftables.New()
	check(t, err)
	ruleset(t, conn)
	check(t, conn.Flush())
	before := take(t, opts)
	err = Revert(t.Context(), Change{Op: Added, Item: Item{Kind: Nftables, Name: "chain ip cni own"}}, opts)
	want := "revert nftables chain ip cni own: conn.Receive: netlink receive: device or resource busy"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if got := Diff(before, take(t, opts)); got != nil {
		t.Errorf("got %q, want no change", lines(got))
	}
}
