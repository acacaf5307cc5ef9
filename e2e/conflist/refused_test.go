package conflist

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlan_refused(t *testing.T) {
	conflist := func(plugin string) string {
		return `{"cniVersion": "1.0.0", "name": "n", "plugins": [` + plugin + `]}`
	}
	hostLocal := func(ranges string) string {
		return conflist(`{"type": "macvlan", "ipam": {"type": "host-local", "ranges": ` + ranges + `}}`)
	}
	for _, tt := range []struct {
		name string
		text string
		opts PlanOptions
		want string
	}{
		{"no nodes", conflist(`{"type": "macvlan"}`), PlanOptions{}, `n: plan has no nodes; want at least 1`},
		{"nodes of one name", conflist(`{"type": "macvlan"}`), PlanOptions{Nodes: nodes("a", "a")}, `n: node/a occurs twice in the plan`},
		{
			"uplink's name", conflist(`{"type": "macvlan"}`),
			PlanOptions{Nodes: nodes("a"), Uplink: "sixteen-bytes-ab"},
			`n: interface name "sixteen-bytes-ab" has 16 bytes; Linux takes at most 15`,
		},
		{
			"no room for nodes", hostLocal(`[[{"subnet": "10.0.0.0/30"}]]`),
			PlanOptions{Nodes: nodes("a", "b")},
			`n:1: subnet 10.0.0.0/30 has too few free addresses for 2 nodes and the lab's hosts: want 3, got 1; take ` +
				`a larger subnet or fewer nodes`,
		},
		{
			"no room for pods", hostLocal(`[[{"subnet": "10.0.0.0/29"}]]`),
			PlanOptions{Nodes: nodes("a", "b", "c")},
			`n:1: range 10.0.0.1-10.0.0.6 has no address left for node/a (3 nodes); take a larger range or fewer nodes`,
		},
		{"fewer addresses than nodes", hostLocal(`[[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": ` +
			`"10.0.0.9"}]]`), PlanOptions{Nodes: nodes("a", "b")}, `n:1: range 10.0.0.9-10.0.0.9 has no address left ` +
			`for node/a (2 nodes); take a larger range or fewer nodes`},
		{
			"unknown subnet", conflist(`{"type": "macvlan", "ipam": {"type": "mine"}}`),
			PlanOptions{Nodes: nodes("a")},
			`n:1: macvlan's IPAM mine does not say its subnet here; name it with --subnet, and its router with ` +
				`--gateway`,
		},
		{"a subnet elsewhere", hostLocal(`[[{"subnet": "10.0.0.0/24"}]]`), PlanOptions{
			Nodes: nodes("a"), Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		}, `n:1: subnet 10.0.0.0/24 is not in the subnet that the caller gives, 10.1.0.0/16`},
		{"a LAN in the pods' subnet", conflist(`{"type": "ptp", "ipam": {"type": "host-local", "subnet": ` +
			`"10.1.0.0/24"}}`), PlanOptions{
			Nodes:   nodes("a"),
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		}, `n:1: subnet 10.1.0.0/24 is behind the ` +
			`nodes (ptp), but overlaps the LAN that the caller gives, 10.1.0.0/16`},
		{
			"nodes with the same addresses", hostLocal(`[[{"subnet": "10.0.0.0/24", "rangeStart": ` +
				`"10.0.0.${NODE_INDEX}", "rangeEnd": "10.0.0.9"}]]`),
			PlanOptions{Nodes: nodes("a", "b")},
			`n: node/a has 10.0.0.2-10.0.0.9 and node/b has 10.0.0.2-10.0.0.9; give each node addresses of its own`,
		},
		{
			"a placeholder that does not fit", hostLocal(`[[{"subnet": "10.0.0.0/24", "gateway": ` +
				`"10.0.0.25${NODE_INDEX}"}]]`),
			PlanOptions{Nodes: nodes("a", "b", "c", "d", "e", "f")},
			`node/f: n:1: gateway "10.0.0.256" is not an address; write one such as 10.1.0.1`,
		},
		{
			"routed subnet too small",
			conflist(`{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.0.0.0/29"}}`),
			PlanOptions{Nodes: nodes("a", "b", "c")},
			`n:1: subnet 10.0.0.0/29 is too small to divide among 3 nodes, ` +
				`which need a /30 each; take a larger subnet or fewer nodes`,
		},
		{"routed ranges too far apart", conflist(`{"type": "ptp", "ipam": {"type": "host-local", "ranges": [
			[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.20"}],
			[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.200", "rangeEnd": "10.0.0.210"}]]}}`), PlanOptions{Nodes: nodes("a", "b")}, `n:2: the ranges of subnet 10.0.0.0/24 spread over too much of it to divide among 2 nodes; write one range per subnet, or use ${NODE_INDEX}`},
		{"all private networks in use", conflist(`{"type": "ptp", "ipam": {"type": "static"}, "taken": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "172.16.0.0/12",
			"192.168.0.0/16", "10.0.0.0/8"]}`), PlanOptions{Nodes: nodes("a")}, `n:1: no IPv4 network is left for the lab: the conflist mentions all private ones`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("n", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Plan(tt.opts)
			if err == nil {
				t.Fatal("got no error")
			}
			if diff := cmp.Diff(err.Error(), tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}
