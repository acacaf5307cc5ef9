package snapshot

import (
	"maps"
	"net"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// provoked are events that affect no plugin, each with the rows of ignored that it makes necessary.
var provoked = []struct {
	name  string
	rows  []int
	event func(testing.TB)
	// seen contains the beginnings of lines that are then in one state only; the test waits for them.
	seen []string
}{
	{
		name: "other end goes down",
		rows: []int{0, 1, 3},
		event: func(tb testing.TB) {
			check(tb, netlink.LinkSetDown(link(tb, "wire")))
		},
		seen: []string{
			"link eno1: <BROADCAST,MULTICAST,UP> mtu 1500 state LOWER-LAYER-DOWN",
			"route 192.168.0.0/16 table main: dev eno1 linkdown",
		},
	},
	{
		name:  "duplicate address detection ends",
		rows:  []int{2, 4},
		event: func(testing.TB) {},
		seen: []string{
			"address fd00::1/64 dev eno1: inet6 scope global", "route local fd00::1/128 table local dev eno1",
		},
	},
	{
		name: "carrier comes",
		rows: []int{0, 1, 3, 5},
		event: func(tb testing.TB) {
			check(tb, netlink.LinkSetUp(link(tb, "late")))
		},
		seen: []string{
			"route multicast ff00::/8 table local metric 256 dev early",
			"link early: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP",
		},
	},
	{
		name: "connection is tracked",
		rows: []int{6},
		event: func(tb testing.TB) {
			conn, err := net.Dial("udp", "127.0.0.1:9")
			check(tb, err)
			defer conn.Close()
			_, err = conn.Write([]byte("x"))
			check(tb, err)
		},
		seen: []string{"sysctl net.netfilter.nf_conntrack_count: 1"},
	},
	{
		name:  "element expires",
		rows:  []int{7},
		event: func(testing.TB) {},
		seen:  []string{"-nftables element ip counted recent: 10.0.0.1 timeout"},
	},
}

func TestIgnored(t *testing.T) {
	covered := map[int]bool{}
	for _, p := range provoked {
		for _, row := range p.rows {
			covered[row] = true
		}
		t.Run(p.name, func(t *testing.T) {
			isolateNode(t)
			addVeth(t, "early", "02:00:00:00:00:04", "late")
			check(t, netlink.LinkSetUp(link(t, "early")))
			counted(t)
			check(t, netlink.AddrAdd(link(t, "eno1"), address(t, "fd00::1/64")))
			// The end of the pair that goes up does not matter for what is compared.
			opts := Options{Kinds: networkKinds}
			before := take(t, opts)
			p.event(t)
			for _, seen := range p.seen {
				var after State
				eventually(t, "want "+seen, func() bool {
					after = take(t, opts)
					return appeared(before, after, seen)
				})
				ours := slices.DeleteFunc(Diff(before, after), func(c Change) bool {
					return c.Item.Name == "wire" || c.Item.Name == "late"
				})
				if len(ours) > 0 {
					t.Errorf("got %q, want no change", lines(ours))
				}
			}
		})
	}
	if got, want := slices.Sorted(maps.Keys(covered)), len(ignored()); len(got) != want {
		t.Errorf("got rows %v shown, want all %d", got, want)
	}
}

// appeared reports whether a line that begins with prefix is only in after; with a dash before it, only in before.
func appeared(before, after State, prefix string) bool {
	if prefix[0] == '-' {
		before, after, prefix = after, before, prefix[1:]
	}
	begins := func(text string) bool { return len(text) >= len(prefix) && text[:len(prefix)] == prefix }
	old := texts(before.Items)
	return slices.ContainsFunc(texts(after.Items), func(text string) bool {
		return begins(text) && !slices.Contains(old, text)
	})
}

// TestIgnoredRows shows that each row is needed: without it there would be a change.
func TestIgnoredRows(t *testing.T) {
	for i, line := range []struct {
		kind, name, before, after string
	}{
		{Link, "eno1", "<UP,LOWER_UP> mtu 1500", "<UP> mtu 1500"},
		{Link, "eno1", "<UP> mtu 1500 state UP group 0", "<UP> mtu 1500 state LOWER-LAYER-DOWN group 0"},
		{Address, "fd00::1/64 dev eno1", "inet6 scope global tentative", "inet6 scope global"},
		{Route, "192.168.0.0/16 table main", "dev eno1 linkdown proto kernel", "dev eno1 proto kernel"},
		{Route, "local fd00::1/128 table local dev eno1", "proto kernel scope global", ""},
		{Route, "multicast ff00::/8 table local metric 256 dev eno1", "proto kernel scope global", ""},
		{Sysctl, "net.netfilter.nf_conntrack_count", "0", "3"},
		{Nftables, "element ip filter recent", "10.0.0.1 timeout", ""},
	} {
		before := State{Items: []Item{{Kind: line.kind, Name: line.name, Text: line.before}}}
		after := State{}
		if line.after != "" {
			after.Items = []Item{{Kind: line.kind, Name: line.name, Text: line.after}}
		}
		if got := Diff(before, after); got != nil {
			t.Errorf("got %q, want row %d to ignore it", lines(got), i)
		}
		row := ignored()[i]
		if row.Kind != line.kind || !row.Pattern.MatchString(line.name+": "+line.before) || row.Reason == "" {
			t.Errorf("row %d: got %v, want it to be the one that ignores %v", i, row, line)
		}
	}
	// These resemble ignored changes and count nevertheless.
	for _, tt := range []struct{ before, after Item }{
		{Item{Kind: Link, Name: "eno1", Text: "<UP,LOWER_UP> mtu 1500"}, Item{Kind: Link, Name: "eno1", Text: "<LOWER_UP> mtu 1500"}},
		{
			Item{Kind: Address, Name: "fd00::1/64 dev eno1", Text: "inet6 scope global tentative"},
			Item{Kind: Address, Name: "fd00::1/64 dev eno1", Text: "inet6 scope global tentative dadfailed"},
		},
		{Item{Kind: Route, Name: "local 10.0.0.1/32 table local dev eno1", Text: "proto kernel scope host"}, Item{Kind: Rule, Name: "x"}},
		{Item{Kind: Nftables, Name: "element ip filter recent", Text: "10.0.0.1"}, Item{Kind: Rule, Name: "x"}},
	} {
		if got := Diff(State{Items: []Item{tt.before}}, State{Items: []Item{tt.after}}); got == nil {
			t.Errorf("got no change from %v to %v, want one", tt.before, tt.after)
		}
	}
}
