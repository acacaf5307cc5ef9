package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// id is the identity of a pod's eth0 in the labs' network.
func (p *pod) identity() identity {
	return identity{record.Attachment{Network: "net", ContainerID: p.id, IfName: "eth0"}}
}

func (p *pod) link() string { return p.identity().name("eni") }

// hostLines returns a pod's route and rules on the node. For a pod on the primary ENI, eniRule is empty.
func (p *pod) hostLines(ip string, mtu int) (link, route, toRule string) {
	link = fmt.Sprintf("link %s veth mtu %d address %s up alias \"routed-eni net/%s/eth0\"\n", p.link(), mtu,
		p.identity().mac("host"), p.id)
	return link, fmt.Sprintf("route %s dev %s scope link\n", ip, p.link()), "512:\tfrom all to " + ip + " lookup main\n"
}

func recordLines(pods ...*pod) string {
	text := "file /run/cni\nfile /run/cni/routed-eni\nfile /run/cni/routed-eni/.index\nfile /run/cni/routed-eni/net\n"
	for _, p := range pods {
		text += fmt.Sprintf("file /run/cni/routed-eni/net/%[1]s\nfile /run/cni/routed-eni/net/%[1]s/eth0\n", p.id)
	}
	return text
}

// The rules of a node whose only pod is on a secondary ENI equal those of the seed, and so do the pod's routes and
// neighbour.
func TestAdd_as_the_seed(t *testing.T) {
	l := newLab(t)
	l.start()
	first, p := l.pod("first"), l.pod("p")
	l.mustAdd(first) // gets the primary ENI
	l.mustAdd(p)
	l.mustDel(first)
	seed, err := os.ReadFile("testdata/seed-rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(seed), lines(l.state(), "0:", "512:", "1025:", "1536:")); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	want := fmt.Sprintf("addr 10.0.97.30/32 dev eth0\naddr 127.0.0.1/8 dev lo\naddr ::1/128 dev lo\nlink eth0 veth "+
		"mtu 1500 address %s up\n"+
		"link lo device mtu 65536 address  up\nneigh 169.254.1.1 dev eth0 lladdr %s PERMANENT\n"+
		"route 169.254.1.1 dev eth0 scope link\nroute default via 169.254.1.1 dev eth0\n", p.identity().mac("pod"),
		p.identity().mac("host"))
	if diff := cmp.Diff(want, lines(stateOf(t, p.ns), "addr", "link", "neigh", "route")); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
}

// Everything that ADD makes is on the node, in the pod and in the result; DEL removes all of it.
func TestAdd_and_Del(t *testing.T) {
	l := newLab(t)
	l.start()
	bare := l.state()
	a, b := l.pod("a"), l.pod("b")
	l.mustAdd(a)
	l.mustAdd(b)
	linkA, routeA, toA := a.hostLines("10.0.0.30", 1500)
	linkB, routeB, toB := b.hostLines("10.0.97.30", 1500)
	if linkA > linkB {
		linkA, linkB = linkB, linkA
	}
	want := linkA + linkB + routeA + routeB + toA + toB + "1536:\tfrom 10.0.97.30 lookup eni-1\n" + recordLines(a, b)
	if diff := cmp.Diff(want, added(bare, l.state())); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	result := fmt.Sprintf(
		`{"cniVersion":"1.1.0","interfaces":[{"mac":%q,"mtu":1500,"name":%q},{"mac":%q,"mtu":1500,"name":"eth0","sandbox":%q}],`+
			`"ips":[{"address":"10.0.97.30/32","gateway":"169.254.1.1","interface":1}],`+
			`"routes":[{"dst":"169.254.1.1/32","scope":253},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]}`,
		b.identity().mac("host"), b.link(), b.identity().mac("pod"), b.ns.Path())
	if diff := cmp.Diff(parse(t, result), parse(t, b.result)); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	for _, p := range []*pod{a, b} {
		wantError(t, l.check(p, nil), "")
		l.mustDel(p)
		if got := lines(stateOf(t, p.ns), "link eth0", "route", "neigh"); got != "" {
			t.Errorf("got %s in the pod, want nothing", got)
		}
	}
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("after DEL (-want +got):\n%s", diff)
	}
	if got := l.assigned(); got != 0 {
		t.Errorf("got %d addresses assigned, want 0", got)
	}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

func TestAdd_versions(t *testing.T) {
	l := newLab(t)
	l.start()
	bare := l.state()
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			change := map[string]any{"cniVersion": version}
			p := l.pod("p")
			if err := l.add(p, change); err != nil {
				t.Fatal(err)
			}
			if got := parse(t, p.result)["cniVersion"]; got != version {
				t.Errorf("got %v, want %s", got, version)
			}
			if version >= "0.4.0" {
				wantError(t, l.check(p, change), "")
			}
			wantError(t, l.silent(call{
				Command: "DEL", ID: p.id, Netns: p.ns.Path(), Stdin: l.conf(with(change, p.prev())),
			}), "")
			if diff := cmp.Diff(bare, l.state()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdd_settings(t *testing.T) {
	l := newLab(t)
	l.in(l.node, func() error {
		link, err := netlink.LinkByName("eth1")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, 9001)
	})
	l.start()
	first, p := l.pod("first"), l.pod("p")
	l.mustAdd(first)
	l.mustAdd(p) // on eth1
	if link, _, _ := p.hostLines("", 9001); lines(l.state(), "link "+p.link()) != link {
		t.Errorf("got %s, want %s", lines(l.state(), "link "+p.link()), link)
	}
	l.mustDel(p)
	for _, mtu := range []any{1400, "1400"} {
		change := map[string]any{
			"mtu": mtu, "vethPrefix": "pod", "dns": map[string]any{"nameservers": []string{"10.0.0.2"}},
		}
		if err := l.add(p, change); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("link %s veth mtu 1400 address %s up alias \"routed-eni net/p/eth0\"\n",
			p.identity().name("pod"), p.identity().mac("host"))
		if diff := cmp.Diff(want, lines(l.state(), "link pod")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]any{"nameservers": []any{"10.0.0.2"}}, parse(t, p.result)["dns"]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		wantError(t, l.check(p, change), "")
		l.mustDel(p) // the record knows the prefix
	}
}

// A runtime's mistakes are refused before any request to the daemon, which is not running here.
func TestAdd_refused(t *testing.T) {
	l := newLab(t)
	bare := l.state()
	p := l.pod("p")
	l.in(p.ns, func() error { return plugintest.Configure("lo", "10.1.1.1/32") })
	for _, tt := range []struct {
		name string
		call call
		want string
	}{
		{
			"own namespace",
			call{Command: "ADD", ID: "p", Netns: l.node.Path(), Stdin: l.conf(nil)},
			"4: CNI_NETNS \"" + l.node.Path() + "\" is the namespace of the node, want that of a pod",
		},
		{
			"no namespace",
			call{Command: "ADD", ID: "p", Netns: "/run/none", Stdin: l.conf(nil)},
			"4: CNI_NETNS: network namespace \"/run/none\": no such file or directory",
		},
		{
			"taken name",
			call{Command: "ADD", ID: "p", Netns: p.ns.Path(), IfName: "lo", Stdin: l.conf(nil)},
			"4: CNI_IFNAME: link \"lo\" is in the pod already",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := stateOf(t, p.ns)
			_, err := l.run(tt.call)
			wantError(t, err, tt.want)
			if diff := cmp.Diff(bare+before, l.state()+stateOf(t, p.ns)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A second interface of a pod does not change the routes of the first.
func TestAdd_second_interface(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.pod("p")
	l.mustAdd(p)
	routing := func() string { return lines(stateOf(t, p.ns), "route", "1536:") }
	before := routing()
	c := l.addCall(p, nil)
	c.IfName = "net1"
	out, err := l.run(c)
	wantError(t, err, "")
	// What has the address of net1 as its source leaves by net1.
	want := "route 169.254.1.1 dev net1 scope link metric 1\nroute 169.254.1.1 dev net1 table eni-1536 scope link\n" +
		"route default via 169.254.1.1 dev net1 metric 1\nroute default via 169.254.1.1 dev net1 table eni-1536\n" +
		"1536:\tfrom 10.0.97.30 lookup eni-1536\n"
	if diff := cmp.Diff(want, added(before, routing())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(out, `"priority": 1`) {
		t.Errorf("got %s, want routes with priority 1", out)
	}
	for _, verb := range []string{"CHECK", "DEL"} {
		wantError(t, l.silent(call{
			Command: verb, ID: p.id, IfName: "net1", Netns: p.ns.Path(),
			Stdin: l.conf(map[string]any{"prevResult": json.RawMessage(out)}),
		}), "")
	}
	if diff := cmp.Diff(before, routing()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantError(t, l.check(p, nil), "")
}

// E08: state that an earlier owner of the address has left on the node does not hinder ADD, and is removed.
func TestAdd_stale(t *testing.T) {
	l := newLab(t)
	l.start()
	first, p := l.pod("first"), l.pod("p")
	l.mustAdd(first)
	bare, ip := l.state(), netip.MustParseAddr("10.0.97.30")
	l.in(l.node, func() error {
		for _, table := range []int{2, 77} {
			rule := netlink.NewRule()
			rule.Src, rule.Priority, rule.Table = netipx.AddrIPNet(ip), 1536, table
			if err := netlink.RuleAdd(rule); err != nil {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{
			Dst: netipx.AddrIPNet(ip), LinkIndex: lo.Attrs().Index, Priority: 5, Scope: netlink.SCOPE_LINK,
		})
	})
	l.mustAdd(p)
	link, route, to := p.hostLines("10.0.97.30", 1500)
	want := link + route + to +
		"1536:\tfrom 10.0.97.30 lookup eni-1\nfile /run/cni/routed-eni/net/p\nfile /run/cni/routed-eni/net/p/eth0\n"
	if diff := cmp.Diff(want, added(bare, l.state())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantError(t, l.check(p, nil), "")
}

// A failure after the address was assigned gives it back, and leaves nothing.
func TestAdd_undone(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.pod("p")
	for _, tt := range []struct {
		name          string
		spoil, repair func() error
		want          string
	}{
		{
			"a file in the place of records", func() error {
				return plugintest.PlaceFile("/run/cni/routed-eni/net")
			}, func() error { return os.RemoveAll("/run/cni") },
			"999: record net/p/eth0: mkdir /run/cni/routed-eni/net: not a directory",
		},
		{
			"a link of the same name", func() error {
				return l.foreign(p.link())
			}, func() error { return l.removeLink(p.link()) },
			"999: link " + p.link() + ", with eth0 in the pod: create: file exists",
		},
		{
			"a pod that refuses the default route", func() error {
				return p.ns.Do(func(ns.NetNS) error { return netlink.RuleAdd(unreachable()) })
			},
			func() error { return p.ns.Do(func(ns.NetNS) error { return netlink.RuleDel(unreachable()) }) },
			"999: in the pod: default route: network is unreachable",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.spoil(); err != nil {
				t.Fatal(err)
			}
			bare := l.state() + stateOf(t, p.ns)
			wantError(t, l.add(p, nil), tt.want)
			if diff := cmp.Diff(bare, l.state()+stateOf(t, p.ns)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := l.assigned(); got != 0 {
				t.Errorf("got %d addresses assigned, want 0", got)
			}
			if err := tt.repair(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// unreachable returns a rule by which no next hop can be reached.
func unreachable() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Priority, rule.Type = 1, unix.FR_ACT_UNREACHABLE
	return rule
}

func (l *lab) foreign(name string) error {
	return l.node.Do(func(ns.NetNS) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "p-" + name[:3]})
	})
}

func (l *lab) removeLink(name string) error {
	return l.node.Do(func(ns.NetNS) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
}
