package conflist

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// show writes a plan as text: the network, then for each node its addresses and the ipam object that it got.
func show(t *testing.T, p *Plan) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\nuplink %s routed %t\nlan %s router %s host %s\n", p.Uplink, p.Routed, join(p.LAN),
		join(p.Router), join(p.LANHost))
	for _, external := range p.External {
		fmt.Fprintf(&b, "external %s router %s host %s\n", external.Prefix, external.Router, external.Host)
	}
	for _, node := range p.Nodes {
		fmt.Fprintf(&b, "node/%s %s %s pool %d pods %q\n", node.Name, node.Uplink, join(node.Addresses), node.PoolSize,
			join(node.PodPrefixes))
		var list struct {
			Plugins []struct{ IPAM json.RawMessage }
		}
		if err := json.Unmarshal(node.Conflist, &list); err != nil {
			t.Fatal(err)
		}
		ipam, err := json.Marshal(list.Plugins[0].IPAM)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "  %s\n", ipam)
	}
	for _, note := range p.Notes {
		fmt.Fprintln(&b, note)
	}
	return b.String()
}

func nodes(names ...string) []PlanNode {
	var nodes []PlanNode
	for _, name := range names {
		nodes = append(nodes, PlanNode{Name: name})
	}
	return nodes
}

// TestPlan makes plans from every good file of testdata, for one node that takes all addresses and one that wants room
// for 8 pods.
func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		file string
		want string
	}{
		{"seed-route.conflist", `
uplink eno1 routed false
lan 192.168.0.0/16 router 192.168.0.1/16 host 192.168.0.4/16
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eno1 192.168.0.2/16 pool 126 pods ""
  {"ranges":[[{"gateway":"192.168.0.1","rangeEnd":"192.168.1.127","rangeStart":"192.168.1.2","subnet":"192.168.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}],"type":"host-local"}
node/b eno1 192.168.0.3/16 pool 8 pods ""
  {"ranges":[[{"gateway":"192.168.0.1","rangeEnd":"192.168.1.135","rangeStart":"192.168.1.128","subnet":"192.168.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}],"type":"host-local"}
node/a: its share of the addresses is 192.168.1.2-192.168.1.127
node/b: its share of the addresses is 192.168.1.128-192.168.1.135
`},
		{"seed-veth-to-host.conflist", `
uplink enp5s0f0 routed false
lan 10.10.20.0/24 router 10.10.20.254/24 host 10.10.20.3/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a enp5s0f0 10.10.20.1/24 pool 5 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.54","rangeStart":"10.10.20.50","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
node/b enp5s0f0 10.10.20.2/24 pool 6 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.60","rangeStart":"10.10.20.55","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
node/a: its share of the addresses is 10.10.20.50-10.10.20.54
node/b: its share of the addresses is 10.10.20.55-10.10.20.60
node/b: want addresses for 8 pods, got 6
`},
		{"bridge.conflist", `
uplink eth0 routed true
lan 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.4/24
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth0 192.0.2.2/24 pool 253 pods "10.22.0.0/24"
  {"rangeEnd":"10.22.0.254","rangeStart":"10.22.0.2","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.22.0.0/24","type":"host-local"}
node/b eth0 192.0.2.3/24 pool 8 pods "10.22.1.0/24"
  {"rangeEnd":"10.22.1.9","rangeStart":"10.22.1.2","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.22.1.0/24","type":"host-local"}
bridge keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
node/a: pods in 10.22.0.0/24, routed via the node
node/b: pods in 10.22.1.0/24, routed via the node
`},
		{"ptp.conflist", `
uplink eth0 routed true
lan 192.0.2.0/24, 2001:db8::/64 router 192.0.2.1/24, 2001:db8::1/64 host 192.0.2.4/24, 2001:db8::4/64
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
external 2001:db8:0:1::/64 router 2001:db8:0:1::1/64 host 2001:db8:0:1::2/64
node/a eth0 192.0.2.2/24, 2001:db8::2/64 pool 11 pods "10.1.1.0/25, fd01:0:0:8::/80"
  {"ranges":[[{"rangeEnd":"10.1.1.20","rangeStart":"10.1.1.10","subnet":"10.1.1.0/25"}],[{"rangeEnd":"fd01::8:0:ffff:ffff:ffff","rangeStart":"fd01:0:0:8::2","subnet":"fd01:0:0:8::/80"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}],"type":"host-local"}
node/b eth0 192.0.2.3/24, 2001:db8::3/64 pool 8 pods "10.1.1.128/25, fd01:0:0:8:1::/80"
  {"ranges":[[{"rangeEnd":"10.1.1.145","rangeStart":"10.1.1.138","subnet":"10.1.1.128/25"}],[{"rangeEnd":"fd01::8:1:0:0:9","rangeStart":"fd01::8:1:0:0:2","subnet":"fd01:0:0:8:1::/80"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}],"type":"host-local"}
ptp keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24, 2001:db8::/64
node/a: pods in 10.1.1.0/25, fd01:0:0:8::/80, routed via the node
node/b: pods in 10.1.1.128/25, fd01:0:0:8:1::/80, routed via the node
`},
		{"apart.conflist", `
uplink eth0 routed true
lan 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.4/24
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth0 192.0.2.2/24 pool 15 pods "10.30.254.0/24, 10.30.255.0/24"
  {"ranges":[[{"rangeEnd":"10.30.254.19","rangeStart":"10.30.254.10","subnet":"10.30.254.0/24"},{"rangeEnd":"10.30.255.254","rangeStart":"10.30.255.250","subnet":"10.30.255.0/24"}]],"type":"host-local"}
node/b eth0 192.0.2.3/24 pool 8 pods "10.30.0.0/24, 10.30.1.0/24"
  {"ranges":[[{"rangeEnd":"10.30.0.17","rangeStart":"10.30.0.10","subnet":"10.30.0.0/24"}]],"type":"host-local"}
ptp keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
node/a: pods in 10.30.254.0/24, 10.30.255.0/24, routed via the node
node/b: pods in 10.30.0.0/24, 10.30.1.0/24, routed via the node
`},
		{"routed-placeholders.conflist", `
uplink eth0 routed true
lan 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.4/24
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth0 192.0.2.2/24 pool 192 pods "10.31.1.0/25, 10.31.1.128/26"
  {"rangeEnd":"10.31.1.191","rangeStart":"10.31.1.0","subnet":"10.31.0.0/16","type":"host-local"}
node/b eth0 192.0.2.3/24 pool 8 pods "10.31.2.0/25, 10.31.2.128/26"
  {"rangeEnd":"10.31.2.7","rangeStart":"10.31.2.0","subnet":"10.31.0.0/16","type":"host-local"}
ptp keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
`},
		{"short-ipv6.conflist", `
uplink eth0 routed false
lan fd00:b::/64 router fd00:b::1/64 host fd00:b::2:103/64
external 2001:db8::/64 router 2001:db8::1/64 host 2001:db8::2/64
node/a eth0 fd00:b::2:101/64 pool 65536 pods ""
  {"ranges":[[{"rangeEnd":"fd00:b::1:1","rangeStart":"fd00:b::2","subnet":"fd00:b::/64"}]],"type":"host-local"}
node/b eth0 fd00:b::2:102/64 pool 8 pods ""
  {"ranges":[[{"rangeEnd":"fd00:b::1:9","rangeStart":"fd00:b::1:2","subnet":"fd00:b::/64"}]],"type":"host-local"}
node/a: its share of the addresses is fd00:b::2-fd00:b::1:1
node/b: its share of the addresses is fd00:b::1:2-fd00:b::1:9
`},
		{"macvlan.conflist", `
uplink eth0 routed false
lan 172.20.5.0/24 router 172.20.5.1/24 host 172.20.5.4/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth0 172.20.5.2/24 pool 125 pods ""
  {"rangeEnd":"172.20.5.129","rangeStart":"172.20.5.5","subnet":"172.20.5.0/24","type":"host-local"}
node/b eth0 172.20.5.3/24 pool 8 pods ""
  {"rangeEnd":"172.20.5.137","rangeStart":"172.20.5.130","subnet":"172.20.5.0/24","type":"host-local"}
node/a: its share of the addresses is 172.20.5.5-172.20.5.129
node/b: its share of the addresses is 172.20.5.130-172.20.5.137
`},
		{"ipvlan.conflist", `
uplink ens5 routed false
lan 10.7.0.0/24, 2001:db8:7::/64 router 10.7.0.12/24, 10.7.0.253/24, fe80::1/64, 2001:db8:7::1/64 host 10.7.0.3/24, 2001:db8:7::4/64
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
external 2001:db8:7:1::/64 router 2001:db8:7:1::1/64 host 2001:db8:7:1::2/64
node/a ens5 10.7.0.1/24, 2001:db8:7::2/64 pool 2 pods ""
  {"ranges":[[{"gateway":"10.7.0.12","rangeEnd":"10.7.0.11","rangeStart":"10.7.0.10","subnet":"10.7.0.0/24"}],[{"gateway":"fe80::1","rangeEnd":"2001:db8:7::1:ffff","rangeStart":"2001:db8:7::1:0","subnet":"2001:db8:7::/64"}]],"routes":[{"dst":"10.0.0.0/8","gw":"10.7.0.253"},{"dst":"0.0.0.0/0"}],"type":"host-local"}
node/b ens5 10.7.0.2/24, 2001:db8:7::3/64 pool 3 pods ""
  {"ranges":[[{"gateway":"10.7.0.12","rangeEnd":"10.7.0.14","rangeStart":"10.7.0.13","subnet":"10.7.0.0/24"},{"gateway":"10.7.0.12","rangeEnd":"10.7.0.100","rangeStart":"10.7.0.100","subnet":"10.7.0.0/24","x-site":12345678901234567890}],[{"gateway":"fe80::1","rangeEnd":"2001:db8:7::2:7","rangeStart":"2001:db8:7::2:0","subnet":"2001:db8:7::/64"}]],"routes":[{"dst":"10.0.0.0/8","gw":"10.7.0.253"},{"dst":"0.0.0.0/0"}],"type":"host-local"}
node/a: its share of the addresses is 10.7.0.10-10.7.0.11, 2001:db8:7::1:0-2001:db8:7::1:ffff
node/b: its share of the addresses is 10.7.0.13-10.7.0.14, 10.7.0.100, 2001:db8:7::2:0-2001:db8:7::2:7
node/b: want addresses for 8 pods, got 3
`},
		{"ipv6.conflist", `
uplink eth1 routed false
lan fd00:a::/64 router fd00:a::1/64 host fd00:a::4/64
external 2001:db8::/64 router 2001:db8::1/64 host 2001:db8::2/64
node/a eth1 fd00:a::2/64 pool 128 pods ""
  {"ranges":[[{"rangeEnd":"fd00:a::1:7f","rangeStart":"fd00:a::1:0","subnet":"fd00:a::/64"}]],"type":"host-local"}
node/b eth1 fd00:a::3/64 pool 8 pods ""
  {"ranges":[[{"rangeEnd":"fd00:a::1:87","rangeStart":"fd00:a::1:80","subnet":"fd00:a::/64"}]],"type":"host-local"}
node/a: its share of the addresses is fd00:a::1:0-fd00:a::1:7f
node/b: its share of the addresses is fd00:a::1:80-fd00:a::1:87
`},
		{"static.conflist", `
uplink eth1 routed false
lan 10.9.0.0/24, fd09::/64 router 10.9.0.2/24, fd09::1/64 host 10.9.0.5/24, fd09::4/64
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
external 2001:db8::/64 router 2001:db8::1/64 host 2001:db8::2/64
node/a eth1 10.9.0.3/24, fd09::2/64 pool 1 pods ""
  {"addresses":[{"address":"10.9.0.1/24"},{"address":"fd09::5/64","gateway":"fd09::1"}],"type":"static"}
node/b eth1 10.9.0.4/24, fd09::3/64 pool 1 pods ""
  {"addresses":[{"address":"10.9.0.1/24"},{"address":"fd09::5/64","gateway":"fd09::1"}],"type":"static"}
node/a: static gives every pod the same addresses: one pod at a time
node/b: static gives every pod the same addresses: one pod at a time
`},
		{"placeholders.conflist", `
uplink eth1 routed false
lan 10.4.0.0/16 router 10.4.0.1/16 host 10.4.0.4/16
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth1 10.4.0.2/16 pool 99 pods ""
  {"rangeEnd":"10.4.1.99","rangeStart":"10.4.1.1","subnet":"10.4.0.0/16","type":"host-local"}
node/b eth2 10.4.0.3/16 pool 8 pods ""
  {"rangeEnd":"10.4.2.8","rangeStart":"10.4.2.1","subnet":"10.4.0.0/16","type":"host-local"}
node/b: its share of the addresses is 10.4.2.1-10.4.2.8
`},
		{"small.conflist", `
uplink eth1 routed false
lan 10.8.0.0/29 router 10.8.0.1/29 host 10.8.0.4/29
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth1 10.8.0.2/29 pool 1 pods ""
  {"rangeEnd":"10.8.0.5","rangeStart":"10.8.0.5","subnet":"10.8.0.0/29","type":"host-local"}
node/b eth1 10.8.0.3/29 pool 1 pods ""
  {"rangeEnd":"10.8.0.6","rangeStart":"10.8.0.6","subnet":"10.8.0.0/29","type":"host-local"}
node/a: its share of the addresses is 10.8.0.5
node/b: its share of the addresses is 10.8.0.6
node/b: want addresses for 8 pods, got 1
`},
		{"eni.conflist", `
uplink eth0 routed true
lan 192.0.2.0/24, 2001:db8::/64 router 192.0.2.1/24, 2001:db8::1/64 host 192.0.2.4/24, 2001:db8::4/64
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
external 2001:db8:0:1::/64 router 2001:db8:0:1::1/64 host 2001:db8:0:1::2/64
node/a eth0 192.0.2.2/24, 2001:db8::2/64 pool 0 pods ""
  null
node/b eth0 192.0.2.3/24, 2001:db8::3/64 pool 0 pods ""
  null
routed-eni: the conflist does not say where pods get addresses; if from the LAN, name it with --subnet
`},
		{"layer2.conflist", `
uplink eth1 routed false
lan 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.4/24
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth1 192.0.2.2/24 pool 125 pods ""
  null
node/b eth1 192.0.2.3/24 pool 8 pods ""
  null
the file has no addresses: after ADD the suite gives each pod an address of 192.0.2.0/24; name another network with --subnet
`},
		{"single.conf", `
uplink eth1 routed false
lan 10.3.0.0/24 router 10.3.0.1/24 host 10.3.0.4/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth1 10.3.0.2/24 pool 125 pods ""
  {"rangeEnd":"10.3.0.129","rangeStart":"10.3.0.5","subnet":"10.3.0.0/24","type":"host-local"}
node/b eth1 10.3.0.3/24 pool 8 pods ""
  {"rangeEnd":"10.3.0.137","rangeStart":"10.3.0.130","subnet":"10.3.0.0/24","type":"host-local"}
node/a: its share of the addresses is 10.3.0.5-10.3.0.129
node/b: its share of the addresses is 10.3.0.130-10.3.0.137
`},
	} {
		t.Run(tt.file, func(t *testing.T) {
			p, err := load(t, tt.file).Plan(PlanOptions{Nodes: []PlanNode{{Name: "a"}, {Name: "b", Addresses: 8}}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(show(t, p), tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

// TestPlan_options tests options that replace what the file says.
func TestPlan_options(t *testing.T) {
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	for _, tt := range []struct {
		name string
		file string
		opts PlanOptions
		want string
	}{
		{"one node keeps the file", "seed-veth-to-host.conflist", PlanOptions{Nodes: nodes("a")}, `
uplink enp5s0f0 routed false
lan 10.10.20.0/24 router 10.10.20.254/24 host 10.10.20.2/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a enp5s0f0 10.10.20.1/24 pool 11 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.60","rangeStart":"10.10.20.50","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
`},
		{"one node keeps the routed file", "bridge.conflist", PlanOptions{Nodes: nodes("a")}, `
uplink eth0 routed true
lan 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.3/24
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth0 192.0.2.2/24 pool 65533 pods "10.22.0.0/16"
  {"routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.22.0.0/16","type":"host-local"}
bridge keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
`},
		{"four nodes and eleven addresses", "seed-veth-to-host.conflist", PlanOptions{Nodes: nodes("a", "b", "c", "d")}, `
uplink enp5s0f0 routed false
lan 10.10.20.0/24 router 10.10.20.254/24 host 10.10.20.5/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a enp5s0f0 10.10.20.1/24 pool 2 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.51","rangeStart":"10.10.20.50","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
node/b enp5s0f0 10.10.20.2/24 pool 3 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.54","rangeStart":"10.10.20.52","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
node/c enp5s0f0 10.10.20.3/24 pool 3 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.57","rangeStart":"10.10.20.55","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
node/d enp5s0f0 10.10.20.4/24 pool 3 pods ""
  {"gateway":"10.10.20.254","rangeEnd":"10.10.20.60","rangeStart":"10.10.20.58","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.10.20.0/24","type":"host-local"}
node/a: its share of the addresses is 10.10.20.50-10.10.20.51
node/b: its share of the addresses is 10.10.20.52-10.10.20.54
node/c: its share of the addresses is 10.10.20.55-10.10.20.57
node/d: its share of the addresses is 10.10.20.58-10.10.20.60
`},
		{"uplink", "macvlan.conflist", PlanOptions{Nodes: nodes("a"), Uplink: "eth7"}, `
uplink eth7 routed false
lan 172.20.5.0/24 router 172.20.5.1/24 host 172.20.5.3/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth7 172.20.5.2/24 pool 251 pods ""
  {"rangeEnd":"172.20.5.254","rangeStart":"172.20.5.4","subnet":"172.20.5.0/24","type":"host-local"}
node/a: its share of the addresses is 172.20.5.4-172.20.5.254
`},
		{"uplink against the file", "ipv6.conflist", PlanOptions{Nodes: nodes("a"), Uplink: "eth7"}, `
uplink eth7 routed false
lan fd00:a::/64 router fd00:a::1/64 host fd00:a::3/64
external 2001:db8::/64 router 2001:db8::1/64 host 2001:db8::2/64
node/a eth7 fd00:a::2/64 pool 256 pods ""
  {"ranges":[[{"rangeEnd":"fd00:a::1:ff","rangeStart":"fd00:a::1:0","subnet":"fd00:a::/64"}]],"type":"host-local"}
node/a: the uplink is eth7 as the caller says; the conflist names eth1
`},
		{"subnet of a LAN with DHCP", "dhcp.conflist", PlanOptions{Nodes: nodes("a"), Subnets: prefixes("10.6.0.0/24")}, `
uplink eth1 routed false
lan 10.6.0.0/24 router 10.6.0.1/24 host 10.6.0.3/24
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth1 10.6.0.2/24 pool 0 pods ""
  {"type":"dhcp"}
the file has no addresses: the lab's DHCP server gives pods addresses of 10.6.0.0/24; as the caller says
`},
		{"subnet of pods on the LAN", "eni.conflist", PlanOptions{Nodes: nodes("a", "b"), Subnets: prefixes("10.0.0.0/16")}, `
uplink eth0 routed false
lan 10.0.0.0/16 router 10.0.0.1/16 host 10.0.0.4/16
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth0 10.0.0.2/16 pool 0 pods ""
  null
node/b eth0 10.0.0.3/16 pool 0 pods ""
  null
`},
		{"subnet around the file's", "single.conf", PlanOptions{Nodes: nodes("a"), Subnets: prefixes("10.0.0.0/8")}, `
uplink eth1 routed false
lan 10.0.0.0/8 router 10.3.0.1/8 host 10.0.0.2/8
external 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.2/24
node/a eth1 10.0.0.1/8 pool 253 pods ""
  {"subnet":"10.3.0.0/24","type":"host-local"}
`},
		{"avoided networks", "bridge.conflist", PlanOptions{
			Nodes: nodes("a"),
			Avoid: prefixes("192.0.2.0/24", "198.51.100.0/25", "203.0.113.0/24", "172.16.0.0/12", "192.168.0.0/17"),
		}, `
uplink eth0 routed true
lan 192.168.128.0/24 router 192.168.128.1/24 host 192.168.128.3/24
external 192.168.129.0/24 router 192.168.129.1/24 host 192.168.129.2/24
node/a eth0 192.168.128.2/24 pool 65533 pods "10.22.0.0/16"
  {"routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.22.0.0/16","type":"host-local"}
bridge keeps pods behind their node: the nodes' own LAN is 192.168.128.0/24
`},
		{"more pods than a /24 has", "bridge.conflist", PlanOptions{
			Nodes: []PlanNode{{Name: "a", Addresses: 1000}, {Name: "b"}},
		}, `
uplink eth0 routed true
lan 192.0.2.0/24 router 192.0.2.1/24 host 192.0.2.4/24
external 198.51.100.0/24 router 198.51.100.1/24 host 198.51.100.2/24
node/a eth0 192.0.2.2/24 pool 1000 pods "10.22.0.0/22"
  {"rangeEnd":"10.22.3.233","rangeStart":"10.22.0.2","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.22.0.0/22","type":"host-local"}
node/b eth0 192.0.2.3/24 pool 1021 pods "10.22.4.0/22"
  {"rangeEnd":"10.22.7.254","rangeStart":"10.22.4.2","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.22.4.0/22","type":"host-local"}
bridge keeps pods behind their node: the nodes' own LAN is 192.0.2.0/24
node/a: pods in 10.22.0.0/22, routed via the node
node/b: pods in 10.22.4.0/22, routed via the node
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := load(t, tt.file).Plan(tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(show(t, p), tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}
