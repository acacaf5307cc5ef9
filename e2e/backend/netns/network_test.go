package netns_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
	"github.com/cnitest/cnitest/e2e/probe"
)

// ask checks that an address answers ICMP, and TCP from a server that it starts there.
func ask(tb testing.TB, from *cluster.Place, there *agent.Client, netns, address string) {
	tb.Helper()
	if err := there.Listen(ctx(tb), netns, probe.ListenSpec{Protocol: probe.TCP, Port: 8080}); err != nil &&
		!strings.Contains(err.Error(), "address already in use") {
		tb.Fatal(err)
	}
	for _, spec := range []probe.Spec{
		{Protocol: probe.ICMP, To: address}, {Protocol: probe.TCP, Port: 8080, To: address},
	} {
		result, err := from.Agent.Probe(ctx(tb), from.Netns, spec)
		check(tb, err)
		if !result.OK {
			tb.Errorf("%s to %s: want an answer to %s, got %s", from.Name, address, spec.Protocol, result.Error)
		}
	}
}

func TestNetwork_everybody_reaches_everybody(t *testing.T) {
	for _, tt := range []struct {
		name, conflist string
		change         func(*cluster.Request)
		families       []bool // whether IPv4
		// members are the places of the cluster's own network. The others are beyond the router.
		interfaces []string // of node/a, in the order of their index
	}{
		{name: "IPv4", conflist: macvlanConflist, families: []bool{true}, interfaces: []string{"lo", "eno1"}},
		{name: "dual stack", conflist: dualStackConflist, families: []bool{true, false}, interfaces: []string{"lo", "eno1"}},
		{
			name:     "IPv6",
			conflist: strings.Replace(dualStackConflist, `[{"subnet": "10.9.0.0/16"}], `, "", 1),
			families: []bool{false}, interfaces: []string{"lo", "eno1"},
		},
		{
			name: "uplink is a bridge", conflist: dualStackConflist, families: []bool{true, false},
			interfaces: []string{"lo", "eno1", "uplink-port"},
			change:     func(r *cluster.Request) { r.UplinkKind = "bridge" },
		},
		{
			name: "two interfaces", conflist: dualStackConflist, families: []bool{true, false},
			interfaces: []string{"lo", "mgmt0", "eno1"},
			change:     func(r *cluster.Request) { r.Nodes[0].NICs, r.Nodes[1].NICs = 2, 2 },
		},
		{
			name: "uplink by another name", conflist: macvlanConflist, families: []bool{true},
			interfaces: []string{"lo", "bond0.7"},
			change:     func(r *cluster.Request) { r.Uplink = "bond0.7" },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := request(t, tt.conflist, 2)
			if tt.change != nil {
				tt.change(&req)
			}
			c := start(t, req)
			places := []*cluster.Place{
				&c.Nodes()[0].Place, &c.Nodes()[1].Place, c.Hosts()["router"], c.Hosts()["lan"], c.Hosts()["external"],
			}
			for _, to := range places {
				for _, is4 := range tt.families {
					address, err := to.Address("uplink", is4)
					check(t, err)
					for _, from := range places {
						if from != to {
							ask(t, from, to.Agent, to.Netns, address.String())
						}
					}
				}
			}
			links, err := places[0].Agent.Links(ctx(t), "")
			check(t, err)
			slices.SortFunc(links, func(a, b agent.Link) int { return a.Index - b.Index })
			var names []string
			for _, l := range links {
				names = append(names, l.Name)
				if l.MTU != 1500 && l.Name != "lo" {
					t.Errorf("%s: got an MTU of %d, want 1500", l.Name, l.MTU)
				}
			}
			if diff := cmp.Diff(tt.interfaces, names); diff != "" {
				t.Errorf("interfaces of %s (-want +got):\n%s", places[0].Name, diff)
			}
		})
	}
}

func TestNetwork_management_is_apart(t *testing.T) {
	req := request(t, dualStackConflist, 2)
	req.Nodes[0].NICs, req.Nodes[1].NICs = 2, 2
	c := start(t, req)
	a, b := c.Nodes()[0], c.Nodes()[1]
	for _, is4 := range []bool{true, false} {
		address, err := b.Address("management", is4)
		check(t, err)
		ask(t, &a.Place, b.Agent, "", address.String())
		route, err := a.Agent.Route(ctx(t), "", address.String())
		check(t, err)
		own, err := a.Address("management", is4)
		check(t, err)
		if want := (agent.Route{Device: "mgmt0", Source: own.String()}); route != want {
			t.Errorf("got the route %s, want %s", route, want)
		}
	}
}

func TestNetwork_pods_on_macvlan(t *testing.T) {
	c := start(t, request(t, dualStackConflist, 2))
	one, two := attach(t, c.Nodes()[0], "one"), attach(t, c.Nodes()[1], "two")
	for _, is4 := range []bool{true, false} {
		address := addressOf(t, two, is4)
		ask(t, &one, two.Agent, two.Netns, address)
		ask(t, c.Hosts()["lan"], two.Agent, two.Netns, address)
		ask(t, c.Hosts()["external"], two.Agent, two.Netns, address)
		for name, host := range c.Hosts() {
			address, err := host.Address("uplink", is4)
			check(t, err)
			ask(t, &one, host.Agent, host.Netns, address.String())
			if !host.Owns(address) {
				t.Errorf("host/%s: want it to own %s", name, address)
			}
		}
	}
}

func TestNetwork_pods_behind_their_nodes(t *testing.T) {
	c := start(t, request(t, bridgeConflist, 2))
	one, two := attach(t, c.Nodes()[0], "one"), attach(t, c.Nodes()[1], "two")
	address := addressOf(t, two, true)
	for _, from := range []*cluster.Place{
		&one, &c.Nodes()[0].Place, c.Hosts()["router"], c.Hosts()["lan"], c.Hosts()["external"],
	} {
		ask(t, from, two.Agent, two.Netns, address)
	}
	node, err := c.Nodes()[1].Address("uplink", true)
	check(t, err)
	route, err := c.Hosts()["lan"].Agent.Route(ctx(t), c.Hosts()["lan"].Netns, address)
	check(t, err)
	if got, want := route.Gateway, node.String(); got != want {
		t.Errorf("host/lan to %s: got the gateway %s, want the node's %s", address, got, want)
	}
}

// A node named like a host must not get the host's routes.
func TestNetwork_node_named_as_a_host(t *testing.T) {
	req := request(t, bridgeConflist, 2)
	req.Nodes[0].Name, req.Nodes[1].Name = "lan", "router"
	c := start(t, req)
	for i, node := range c.Nodes() {
		pod := attach(t, node, "pod")
		for _, from := range []*cluster.Place{&c.Nodes()[1-i].Place, c.Hosts()["lan"], c.Hosts()["router"]} {
			ask(t, from, pod.Agent, pod.Netns, addressOf(t, pod, true))
		}
	}
}

func TestNetwork_no_way_out(t *testing.T) {
	before, err := netlink.LinkList()
	check(t, err)
	c := start(t, request(t, macvlanConflist, 1))
	after, err := netlink.LinkList()
	check(t, err)
	if diff := cmp.Diff(names(before), names(after)); diff != "" {
		t.Errorf("the machine's links (-before +after):\n%s", diff)
	}
	const address = "203.0.113.7"
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	addr, err := netlink.ParseAddr(address + "/32")
	check(t, err)
	check(t, netlink.AddrAdd(lo, addr))
	t.Cleanup(func() { check(t, netlink.AddrDel(lo, addr)) })
	for _, from := range append(slices.Collect(maps.Values(c.Hosts())), &c.Nodes()[0].Place,
		&cluster.Place{Name: "machine"}) {
		// The machine answers itself. From elsewhere no answer comes, so the time limit does not matter.
		spec := probe.Spec{Protocol: probe.ICMP, To: address, Attempts: 1, Within: patience}
		if from.Agent != nil {
			spec.Within = 50 * time.Millisecond
		}
		result, err := probe.Run(ctx(t), "", spec)
		if from.Agent != nil {
			result, err = from.Agent.Probe(ctx(t), from.Netns, spec)
		}
		check(t, err)
		if want := from.Agent == nil; result.OK != want {
			t.Errorf("%s asks the machine: got an answer: %t, want %t", from.Name, result.OK, want)
		}
	}
}

func names(links []netlink.Link) []string {
	var names []string
	for _, l := range links {
		names = append(names, fmt.Sprintf("%s %s", l.Attrs().Name, l.Attrs().OperState))
	}
	return names
}

func TestNetwork_dummy_uplink(t *testing.T) {
	missing, err := start(t, request(t, macvlanConflist, 1)).Nodes()[0].Agent.LinkKinds(ctx(t), []string{"dummy"})
	check(t, err)
	req := request(t, macvlanConflist, 1)
	req.UplinkKind = "dummy"
	if len(missing) > 0 {
		_, err := backend().Start(ctx(t), req)
		if got, want := fmt.Sprint(err), "node/a: dummy link: operation not supported"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		kerneltest.Lacks(t, "dummy")
	}
	c := start(t, req)
	address, err := c.Nodes()[0].Address("uplink", true)
	check(t, err)
	ask(t, &c.Nodes()[0].Place, c.Nodes()[0].Agent, "", address.String())
}

func TestNetwork_places_know_their_addresses(t *testing.T) {
	c := start(t, request(t, dualStackConflist, 2))
	for _, place := range []*cluster.Place{
		&c.Nodes()[0].Place, &c.Nodes()[1].Place, c.Hosts()["router"], c.Hosts()["lan"], c.Hosts()["external"],
	} {
		links, err := place.Agent.Links(ctx(t), place.Netns)
		check(t, err)
		var got, want []string
		for _, l := range links {
			if l.Name == "lo" {
				continue
			}
			for _, cidr := range l.Addresses {
				prefix, err := netip.ParsePrefix(cidr)
				check(t, err)
				got = append(got, prefix.Addr().String())
			}
		}
		for _, addrs := range place.Interfaces {
			for _, a := range addrs {
				want = append(want, a.String())
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", place.Name, diff)
		}
	}
}
