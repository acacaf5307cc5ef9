package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

func TestAdd(t *testing.T) {
	l := newLab(t)
	p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
	l.mustAdd(p)
	want := `
link eno1 veth mtu 1500 up
link eno1.host macvlan mtu 1500 mode bridge address 2a:90:52:59:0a:43 up
link lo device mtu 65536 up
neigh 192.168.1.2 dev eno1.host lladdr 02:00:00:0b:01:ef
neigh fd00:20::102 dev eno1.host lladdr 02:00:00:0b:01:ef
route 192.168.0.0/16 dev eno1 src 192.168.0.5
route 192.168.1.2/32 dev eno1.host src 192.168.0.5
route fd00:20::/64 dev eno1
route fd00:20::102/128 dev eno1.host src fd00:20::5
file /run/cni
file /run/cni/route
file /run/cni/route/.index
file /run/cni/route/default
file /run/cni/route/default/a
file /run/cni/route/default/a/eth0
`
	if diff := cmp.Diff(want, "\n"+l.state()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
	l.mustReach(l.node, p.ns, "fd00:20::102", "fd00:20::5")
	l.mustReach(p.ns, l.node, "192.168.0.5", "192.168.1.2")
	l.mustReach(p.ns, l.node, "fd00:20::5", "fd00:20::102")
}

// The pod's addresses are on two macvlans, and on a veth that a later plugin might own.
func TestAdd_all_addresses_of_all_interfaces(t *testing.T) {
	l := newLab(t)
	p := l.pod("a", "192.168.1.2/16", "192.168.1.3/16")
	l.macvlan(p, "net1", "eno1", netlink.MACVLAN_MODE_BRIDGE, "192.168.2.2/16", "fd00:20::102/64")
	l.in(p.ns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "veth0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"})
	})
	prev := p.prev()
	sandbox := p.ns.Path()
	prev["interfaces"] = []any{
		map[string]any{"name": "eth0", "sandbox": sandbox},
		map[string]any{"name": "net1", "sandbox": sandbox},
		map[string]any{"name": "veth0", "sandbox": sandbox},
		map[string]any{"name": "host0"},
	}
	prev["ips"] = []any{
		map[string]any{"address": "192.168.1.2/16", "interface": 0},
		map[string]any{"address": "192.168.1.3/16"},
		map[string]any{"address": "192.168.2.2/16", "interface": 1},
		map[string]any{"address": "fd00:20::102/64", "interface": 1},
		map[string]any{"address": "192.168.3.2/32", "interface": 2},
		map[string]any{"address": "192.168.3.3/32", "interface": 3},
		map[string]any{"address": "fe80::1/64", "interface": 1},
	}
	if _, err := l.run(call{
		Command: "ADD", ID: "a", Netns: sandbox, Stdin: conf(map[string]any{"prevResult": prev}),
	}); err != nil {
		t.Fatal(err)
	}
	want := `
neigh 192.168.1.2 dev eno1.host lladdr 02:00:00:0b:01:ef
neigh 192.168.1.3 dev eno1.host lladdr 02:00:00:0b:01:ef
neigh 192.168.2.2 dev eno1.host lladdr 02:00:00:0b:01:f0
neigh fd00:20::102 dev eno1.host lladdr 02:00:00:0b:01:f0
route 192.168.0.0/16 dev eno1 src 192.168.0.5
route 192.168.1.2/32 dev eno1.host src 192.168.0.5
route 192.168.1.3/32 dev eno1.host src 192.168.0.5
route 192.168.2.2/32 dev eno1.host src 192.168.0.5
route fd00:20::/64 dev eno1
route fd00:20::102/128 dev eno1.host src fd00:20::5
`
	if diff := cmp.Diff(want, "\n"+lines(l.state(), "neigh", "route")); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// SPEC.md, section 5: the answer has the version of the configuration. Before 0.3.0 a result names no interface.
func TestAdd_versions(t *testing.T) {
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			l := newLab(t)
			l.nic("eth9", "10.9.0.7/24")
			p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
			given, want := convert(t, p, version, false), convert(t, p, version, true)
			out, err := l.run(call{
				Command: "ADD", ID: "a", Netns: p.ns.Path(),
				Stdin: conf(map[string]any{"cniVersion": version, "prevResult": json.RawMessage(given)}),
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decode(t, want), decode(t, out)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
			l.mustReach(l.node, p.ns, "fd00:20::102", "fd00:20::5")
			// libcni passes no prevResult at 0.3.1 and below.
			l.mustDel("a", map[string]any{"cniVersion": version})
			want = "link eno1 veth mtu 1500 up\nlink eno1.host macvlan mtu 1500 mode bridge address " + childMAC +
				" up\n" +
				"link eth9 veth mtu 1500 up\nlink lo device mtu 65536 up\n"
			if diff := cmp.Diff(want, lines(l.state(), "link", "neigh", "file")); diff != "" {
				t.Errorf("state after DEL (-want +got):\n%s", diff)
			}
		})
	}
}

// convert returns the pod's prevResult at a version, on request with the child and the routes that ADD appends.
func convert(t *testing.T, p *pod, version string, appended bool) string {
	t.Helper()
	raw, err := json.Marshal(p.prev())
	if err != nil {
		t.Fatal(err)
	}
	var result current.Result
	if err := json.Unmarshal(raw, &result); err != nil {
		t.Fatal(err)
	}
	result.Routes = []*types.Route{
		{Dst: net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, GW: net.ParseIP("192.168.0.1")},
	}
	if appended {
		other, master := 0, 0
		if version == "1.1.0" {
			other, master = metricOther, metricMaster
		}
		child := &current.Interface{Name: "eno1.host", Mac: childMAC}
		if version == "1.1.0" {
			child.Mtu = 1500
		}
		result.Interfaces = append(result.Interfaces, child)
		result.Routes = append(result.Routes,
			&types.Route{Dst: *netipx.AddrIPNet(netipx.MustFromStdIP(net.ParseIP("10.9.0.7"))), GW: net.ParseIP("192.168.0.5"), Priority: other},
			&types.Route{
				Dst: *netipx.AddrIPNet(netipx.MustFromStdIP(net.ParseIP("fd00:20::5"))),
				GW:  net.ParseIP(childLL), Priority: master,
			})
	}
	converted, err := result.GetAsVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := converted.PrintTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func decode(t *testing.T, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v in %q", err, s)
	}
	return v
}

// E08, C01: an earlier pod with the same address has left a route and a neighbour.
func TestAdd_replaces_stale_state(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	l.mustAdd(l.pod("other", "192.168.1.9/16", "fd00:20::109/64"))
	before := l.state()
	l.inNode(func() error {
		dead, err := net.ParseMAC("02:de:ad:00:00:01")
		if err != nil {
			return err
		}
		for _, dst := range []string{"192.168.1.2/32", "fd00:20::102/128"} {
			prefix, err := netlink.ParseIPNet(dst)
			if err != nil {
				return err
			}
			for _, r := range []netlink.Route{
				{LinkIndex: linkIndex("eth9"), Priority: 0},
				{LinkIndex: linkIndex("eth9"), Priority: 77},
				{LinkIndex: linkIndex("eno1.host"), Priority: 78},
				{Type: unix.RTN_BLACKHOLE, Priority: 79},
			} {
				r.Dst = prefix
				if err := netlink.RouteAdd(&r); err != nil {
					return fmt.Errorf("%v: %w", r, err)
				}
			}
			neighbour := &netlink.Neigh{
				LinkIndex: linkIndex("eno1.host"), IP: prefix.IP, HardwareAddr: dead, State: netlink.NUD_PERMANENT,
			}
			if err := netlink.NeighAdd(neighbour); err != nil {
				return err
			}
		}
		return nil
	})
	p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
	l.mustAdd(p)
	want := before + `neigh 192.168.1.2 dev eno1.host lladdr 02:00:00:0b:01:ef
neigh fd00:20::102 dev eno1.host lladdr 02:00:00:0b:01:ef
route 192.168.1.2/32 dev eno1.host src 192.168.0.5
route fd00:20::102/128 dev eno1.host src fd00:20::5
`
	if diff := cmp.Diff(sorted(lines(want, "neigh", "route")), sorted(lines(l.state(), "neigh", "route"))); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
}

// linkIndex does the same as indexOf, for code that is in the namespace already. It returns 0 if there is no such link.
func linkIndex(name string) int {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0
	}
	return link.Attrs().Index
}

// F04: a runtime repeats ADD without a DEL in between. The result is the same as after one ADD, whatever the first one
// got.
func TestAdd_again(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	p := l.pod("a", "192.168.1.2/16", "192.168.1.3/16")
	l.mustAdd(p)
	p.ips = p.ips[1:]
	l.mustAdd(p)
	want := `
neigh 192.168.1.3 dev eno1.host lladdr 02:00:00:0b:01:ef
route 10.9.0.0/24 dev eth9 src 10.9.0.7
route 192.168.0.0/16 dev eno1 src 192.168.0.5
route 192.168.1.3/32 dev eno1.host src 192.168.0.5
route fd00:20::/64 dev eno1
`
	if diff := cmp.Diff(want, "\n"+lines(l.state(), "neigh", "route")); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	l.mustReach(l.node, p.ns, "192.168.1.3", "192.168.0.5")
	if diff := cmp.Diff("route 10.9.0.7/32 dev eth0 via 192.168.0.5\n", hostRoutesOf(l, p)); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
}

// ADD fails at its last step, in the pod, and undoes all steps before it.
func TestAdd_undoes_what_it_did(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	p := l.pod("a", "192.168.1.2/16")
	l.in(p.ns, func() error { // without this address there is no route to the next hop
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("192.168.1.2/16")
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, addr)
	})
	before := l.state()
	want := "999: in the pod: route to 10.9.0.7: network is unreachable"
	if got := l.add(p, nil).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if diff := cmp.Diff(before, l.state()); diff != "" {
		t.Errorf("state (-before +after):\n%s", diff)
	}
}

func TestAdd_defaults(t *testing.T) {
	for _, tt := range []struct {
		name, master, via, want string
	}{
		{"master of the default route", "eno1", "192.168.0.1", "eno1.host"},
		{"a master whose name leaves no room", "enp129s0f0np0", "10.9.0.1", "enp125c0f6.host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.nic("enp129s0f0np0", "10.9.0.7/24")
			l.inNode(func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(tt.via)}) })
			p := &pod{ns: newNamespace(t), id: "a", ips: []string{"10.9.0.9/24"}}
			l.macvlan(p, "eth0", tt.master, netlink.MACVLAN_MODE_BRIDGE, p.ips...)
			if err := l.add(p, map[string]any{"master": nil, "bridge": nil}); err != nil {
				t.Fatal(err)
			}
			if got := lines(l.state(), "link "+tt.want+" macvlan"); got == "" {
				t.Errorf("got\n%s\nwant link %s", l.state(), tt.want)
			}
			if got := lines(l.state(), "route 10.9.0.9/32 dev "+tt.want); got == "" {
				t.Errorf("got\n%s\nwant a route on %s", l.state(), tt.want)
			}
			l.mustDel("a", map[string]any{"master": nil, "bridge": nil})
			if got := lines(l.state(), "route 10.9.0.9/32", "file"); got != "" {
				t.Errorf("after DEL: got %s, want nothing", got)
			}
		})
	}
}

// The master's addresses decide from which address the node talks, and how the pod reaches the others (K04, A02).
func TestAdd_nodes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		master    []string
		second    []string
		pod       []string
		want      string
		podRoutes string
	}{
		{
			name: "second NIC", master: []string{"192.168.0.5/16", "fd00:20::5/64"}, second: []string{
				"10.9.0.7/24",
				"fd00:9::7/64",
			},
			pod:  []string{"192.168.1.2/16", "fd00:20::102/64"},
			want: "route 192.168.1.2/32 dev eno1.host src 192.168.0.5\nroute fd00:20::102/128 dev eno1.host src fd00:20::5\n",
			podRoutes: "route 10.9.0.7/32 dev eth0 via 192.168.0.5\nroute fd00:20::5/128 dev eth0 via " + childLL +
				"\nroute fd00:9::7/128 dev eth0 via " + childLL + "\n",
		},
		{
			name: "several addresses on the master", master: []string{"172.16.0.5/24", "192.168.0.5/16"},
			pod:       []string{"192.168.1.2/16"},
			want:      "route 192.168.1.2/32 dev eno1.host src 192.168.0.5\n",
			podRoutes: "route 172.16.0.5/32 dev eth0 via 192.168.0.5\n",
		},
		{
			name: "master outside the pod's subnet", master: []string{"172.16.0.5/24"}, second: []string{"10.9.0.7/24"},
			pod:       []string{"192.168.1.2/16"},
			want:      "route 192.168.1.2/32 dev eno1.host src 172.16.0.5\n",
			podRoutes: "route 10.9.0.7/32 dev eth0 via 172.16.0.5\nroute 172.16.0.5/32 dev eth0\n",
		},
		{
			name: "master without an address", second: []string{"10.9.0.7/24", "fd00:9::7/64"},
			pod:       []string{"192.168.1.2/16", "fd00:20::102/64"},
			want:      "route 192.168.1.2/32 dev eno1.host\nroute fd00:20::102/128 dev eno1.host\n",
			podRoutes: "route 10.9.0.7/32 dev eth0\nroute fd00:9::7/128 dev eth0 via " + childLL + "\n",
		},
		{
			name: "second NIC in the pod's subnet", master: []string{"192.168.0.5/16"},
			second: []string{"192.168.0.6/16"}, pod: []string{"192.168.1.2/16"},
			want:      "route 192.168.1.2/32 dev eno1.host src 192.168.0.5\n",
			podRoutes: "route 192.168.0.6/32 dev eth0 via 192.168.0.5\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, append([]string{}, tt.master...)...)
			l.nic("a0", tt.second...)
			p := l.pod("a", tt.pod...)
			l.mustAdd(p)
			if diff := cmp.Diff(tt.want, lines(l.state(), "route 192.168.1.2/32",
				"route fd00:20::102/128")); diff != "" {
				t.Errorf("node (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.podRoutes, hostRoutesOf(l, p)); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
			for _, ip := range append(tt.master, tt.second...) {
				ip = strings.Split(ip, "/")[0]
				client := strings.Split(p.ips[0], "/")[0]
				if strings.Contains(ip, ":") {
					client = strings.Split(p.ips[1], "/")[0]
				}
				l.mustReach(p.ns, l.node, ip, client)
			}
			l.mustDel("a", nil)
			if diff := cmp.Diff("", hostRoutesOf(l, p)); diff != "" {
				t.Errorf("pod after DEL (-want +got):\n%s", diff)
			}
		})
	}
}

func hostRoutesOf(l *lab, p *pod) string {
	l.t.Helper()
	var out strings.Builder
	l.in(p.ns, func() error {
		state, err := kernelState()
		for _, line := range state {
			if strings.Contains(line, "/32 ") || strings.Contains(line, "/128 ") {
				out.WriteString(line + "\n")
			}
		}
		return err
	})
	return out.String()
}
