package witness_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/witness"
)

func TestLookup(t *testing.T) {
	route := func(dst string, change func(*netlink.Route)) func(*testing.T) {
		return func(t *testing.T) {
			r := &netlink.Route{Dst: prefix(t, dst)}
			change(r)
			check(t, netlink.RouteAdd(r))
		}
	}
	of := func(kind int) func(*netlink.Route) { return func(r *netlink.Route) { r.Type = kind } }
	rule := func(change func(*netlink.Rule)) func(*testing.T) {
		return func(t *testing.T) {
			r := netlink.NewRule()
			r.Family, r.Priority = netlink.FAMILY_V4, 100
			change(r)
			check(t, netlink.RuleAdd(r))
		}
	}
	all := func(steps ...func(*testing.T)) func(*testing.T) {
		return func(t *testing.T) {
			for _, step := range steps {
				step(t)
			}
		}
	}
	inTable := func(t *testing.T) {
		check(t, netlink.RouteAdd(&netlink.Route{
			Dst: prefix(t, "10.1.0.0/16"), Gw: prefix(t, "192.168.0.9/32").IP,
			Table: 77, LinkIndex: link(t, "eno1").Attrs().Index,
		}))
	}
	onWire := func(t *testing.T) {
		check(t, netlink.RouteAdd(&netlink.Route{
			Dst: prefix(t, "192.168.1.2/32"), LinkIndex: link(t, "wire").Attrs().Index, Scope: netlink.SCOPE_LINK,
		}))
	}
	filter := func(value string) func(*testing.T) {
		return func(t *testing.T) {
			set(t, "ipv4/conf/all/rp_filter", "0")
			set(t, "ipv4/conf/eno1/rp_filter", value)
			set(t, "ipv4/conf/all/arp_ignore", "0")
			set(t, "ipv4/ip_forward", "1")
		}
	}
	const connected = "192.168.0.0/16 dev eno1 src 192.168.0.1 table main"
	for _, tt := range []struct {
		name string
		make func(*testing.T)
		q    witness.Question
		want witness.Way
	}{
		{"on the link", all(), witness.Question{Destination: "192.168.1.2"}, witness.Way{Device: "eno1", Source: "192.168.0.1", Route: connected}},
		{
			"IPv6", all(),
			witness.Question{Destination: "fd00::2"},
			witness.Way{Device: "eno1", Source: "fd00::1", Route: "fd00::/64 dev eno1 table main"},
		},
		{"its own", all(), witness.Question{Destination: "192.168.0.1"}, witness.Way{
			Device: "lo", Source: "192.168.0.1", Local: true,
			Route: "local 192.168.0.1 dev eno1 src 192.168.0.1 table local",
		}},
		{"a longer prefix", onWire, witness.Question{Destination: "192.168.1.2"}, witness.Way{
			Device: "wire", Source: "192.168.0.1", Route: "192.168.1.2 dev wire table main",
		}},
		{"no route", all(), witness.Question{Destination: "10.1.2.3"}, witness.Way{Refusal: "network is unreachable"}},
		{
			"a blackhole", route("10.1.0.0/16", of(unix.RTN_BLACKHOLE)),
			witness.Question{Destination: "10.1.2.3"},
			witness.Way{
				Refusal: "invalid argument", Route: "blackhole 10.1.0.0/16 table main",
			},
		},
		{"an unreachable route", route("10.1.0.0/16", of(unix.RTN_UNREACHABLE)), witness.Question{
			Destination: "10.1.2.3",
		}, witness.Way{
			Refusal: "no route to host", Route: "unreachable 10.1.0.0/16 table main",
		}},
		{
			"a prohibiting rule", rule(func(r *netlink.Rule) {
				r.Type, r.Dst = unix.RTN_PROHIBIT, prefix(t, "192.168.1.2/32")
			}),
			witness.Question{Destination: "192.168.1.2"},
			witness.Way{Refusal: "permission denied", Rule: "100: from all to 192.168.1.2 prohibit"},
		},
		{
			"an unreachable rule for a mark", rule(func(r *netlink.Rule) {
				r.Type, r.Mark = unix.RTN_UNREACHABLE, 0x10
			}),
			witness.Question{Destination: "192.168.1.2", Mark: 0x10},
			witness.Way{Refusal: "network is unreachable", Rule: "100: from all fwmark 0x10 unreachable"},
		},
		{
			"a rule for another mark", rule(func(r *netlink.Rule) { r.Type, r.Mark = unix.RTN_UNREACHABLE, 0x10 }),
			witness.Question{Destination: "192.168.1.2", Mark: 0x20},
			witness.Way{Device: "eno1", Source: "192.168.0.1", Route: connected},
		},
		{
			"a table of a source", all(inTable, rule(func(r *netlink.Rule) {
				r.Src, r.Table = prefix(t, "192.168.0.1/32"), 77
			})),
			witness.Question{Destination: "10.1.2.3", Source: "192.168.0.1"},
			witness.Way{
				Device: "eno1", Gateway: "192.168.0.9",
				Route: "10.1.0.0/16 via 192.168.0.9 dev eno1 table 77", Rule: "100: from 192.168.0.1 lookup 77",
			},
		},
		{
			"a table that does not hold the address", all(inTable, rule(func(r *netlink.Rule) { r.Table = 77 })),
			witness.Question{Destination: "192.168.1.2"},
			witness.Way{Device: "eno1", Source: "192.168.0.1", Route: connected},
		},
		{"strict filter, other way back", all(filter("1"), onWire), witness.Question{
			Destination: "192.168.0.1", Source: "192.168.1.2", Interface: "eno1",
		}, witness.Way{
			Refusal: "invalid argument", ReversePath: true, Filter: 1,
		}},
		{"loose filter, other way back", all(filter("2"), onWire), witness.Question{
			Destination: "192.168.0.1", Source: "192.168.1.2", Interface: "eno1",
		}, witness.Way{
			Device: "lo", Local: true, Route: "local 192.168.0.1 dev eno1 src 192.168.0.1 table local",
		}},
		{"loose filter, no way back", filter("2"), witness.Question{
			Destination: "192.168.0.1", Source: "10.9.9.9", Interface: "eno1",
		}, witness.Way{
			Refusal: "invalid argument", ReversePath: true, Filter: 2,
		}},
		{
			"no answers to ARP", all(filter("0"), func(t *testing.T) { set(t, "ipv4/conf/eno1/arp_ignore", "8") }),
			witness.Question{Destination: "192.168.0.1", Source: "192.168.1.2", Interface: "eno1"},
			witness.Way{
				Device: "lo", Local: true, IgnoresARP: 8,
				Route: "local 192.168.0.1 dev eno1 src 192.168.0.1 table local",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolate(t)
			tt.make(t)
			got, err := witness.Lookup("", tt.q)
			check(t, err)
			if got.ReversePath {
				// Linux has used another error for it since 6.13.
				tt.want.Refusal = got.Refusal
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("way (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLookup_of_what_cannot_be_asked(t *testing.T) {
	for _, tt := range []struct {
		netns string
		q     witness.Question
		want  string
	}{
		{"", witness.Question{Destination: "pod"}, `way to pod: ParseAddr("pod"): unable to parse IP`},
		{"", witness.Question{Destination: "10.0.0.1", Source: "x"}, `way to 10.0.0.1: ParseAddr("x"): unable to parse IP`},
		{
			"/nowhere",
			witness.Question{Destination: "10.0.0.1"},
			`way to 10.0.0.1: network namespace "/nowhere": failed to Statfs "/nowhere": no such file or directory`,
		},
	} {
		t.Run(fmt.Sprintf("%s%+v", tt.netns, tt.q), func(t *testing.T) {
			_, err := witness.Lookup(tt.netns, tt.q)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
