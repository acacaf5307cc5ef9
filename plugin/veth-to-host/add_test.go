package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// SPEC.md, section 5: the answer has the version of the configuration. Before 0.3.0 a result names no interface.
func TestAdd_versions(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	bare, barePod := l.node1.state(t), state(t, p.ns)
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			prev := map[string]any{
				"cniVersion": version, "ip4": map[string]any{"ip": p.ips[0]}, "ip6": map[string]any{"ip": p.ips[1]},
			}
			if version >= "0.3.0" {
				prev = map[string]any{
					"cniVersion": version, "interfaces": []any{map[string]any{"name": "eth0", "sandbox": p.ns.Path()}},
					"ips": []any{
						map[string]any{"version": "4", "address": p.ips[0], "interface": 0},
						map[string]any{"version": "6", "address": p.ips[1], "interface": 0},
					},
					"routes": []any{map[string]any{"dst": "0.0.0.0/0", "gw": "10.10.20.254"}, map[string]any{"dst": "192.0.2.0/24"}},
				}
			}
			out, err := l.node1.run(t, p.call("ADD", map[string]any{"cniVersion": version, "prevResult": prev}))
			if err != nil {
				t.Fatal(err)
			}
			var result struct {
				CNIVersion string
				Interfaces []struct{ Name, Sandbox string }
				Routes     []struct{ Dst, GW string }
			}
			if err := json.Unmarshal([]byte(out), &result); err != nil {
				t.Fatal(err)
			}
			got := result.CNIVersion
			for _, i := range result.Interfaces {
				got += " " + i.Name + map[bool]string{true: "@node"}[i.Sandbox == ""]
			}
			for _, r := range result.Routes {
				got += " " + r.Dst + ">" + r.GW
			}
			want := version
			if version >= "0.3.0" {
				want += " eth0 " + l.node1.hostEnd(t) +
					"@node veth0 192.0.2.0/24> 10.10.20.152/32> fd00:20::152/128> 0.0.0.0/0>10.10.20.152 " +
					"::/0>fd00:20::152"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			// libcni passes no prevResult at 0.3.1 and below
			l.node1.mustDel(t, call{ID: p.id, Netns: p.ns.Path(), Stdin: conf(map[string]any{"cniVersion": version})})
			if diff := cmp.Diff([]string{bare, barePod}, []string{l.node1.state(t), state(t, p.ns)}); diff != "" {
				t.Errorf("state after DEL (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdd_refuses(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	bare, barePod := l.node1.state(t), state(t, p.ns)
	withChild := p.prev()
	withChild["interfaces"] = append(withChild["interfaces"].([]any), map[string]any{"name": "child"})
	for _, tt := range []struct {
		name    string
		changes map[string]any
		call    call
		want    string
	}{
		{
			name: "no prevResult", changes: map[string]any{"prevResult": nil},
			want: `7: prevResult is missing: "veth-to-host" works on the interface of a plugin before it; list it after that plugin`,
		},
		{
			name: "no address", changes: map[string]any{"prevResult": p.prevOf("eth0")},
			want: "7: prevResult has no address on eth0: give the plugin that makes the link an ipam",
		},
		{name: "no such link", call: call{IfName: "eth7"}, want: "7: link eth7 is not in the pod: list a plugin that makes it before veth-to-host"},
		{name: "no hostInterface", changes: map[string]any{"hostInterface": "eth9"}, want: `7: hostInterface "eth9" does not exist on this node`},
		{
			name: "an address of the node", changes: map[string]any{"prevResult": p.prevOf("eth0", "10.10.20.152/24")},
			want: "7: address 10.10.20.152 of the pod is an address of the node: take it out of the ranges of ipam",
		},
		{
			name: "the underlay link as veth", changes: map[string]any{"containerInterface": "eth0"},
			want: `7: containerInterface "eth0" is the underlay link itself: leave containerInterface out or name a free link`,
		},
		{
			name: "a link that exists", changes: map[string]any{"containerInterface": "lo"},
			want: "7: link lo exists in the pod and is not this plugin's: set containerInterface to a free name",
		},
		{
			name: "route before it, by its result", changes: map[string]any{"prevResult": withChild},
			want: "7: route stands before veth-to-host in the chain: remove route, veth-to-host does all that it does",
		},
		{
			name: "no such namespace", call: call{Netns: "/run/netns/nobody"},
			want: `4: CNI_NETNS: network namespace "/run/netns/nobody": no such file or directory`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.name, "route") {
				l.node1.in(t, func() error { return addMacvlan("child") })
				defer l.node1.in(t, func() error { return delLink("child") })
			}
			c := p.call("ADD", tt.changes)
			c.IfName = tt.call.IfName
			if tt.call.Netns != "" {
				c.Netns = tt.call.Netns
			}
			_, err := l.node1.run(t, c)
			if diff := cmp.Diff(tt.want, err.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("route before it, by its record", func(t *testing.T) {
		l.node1.in(t, func() error {
			if err := os.MkdirAll("/run/cni/route/cni0/p1", 0o755); err != nil {
				return err
			}
			return os.WriteFile("/run/cni/route/cni0/p1/eth0", nil, 0o644)
		})
		if got, want := l.node1.add(t, p).String(), "7: route stands before veth-to-host in the chain: remove route, "+
			"veth-to-host does all that it does"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		l.node1.in(t, func() error { return os.RemoveAll("/run/cni/route") })
	})
	t.Run("another mark", func(t *testing.T) {
		other := l.pod(l.node1, "p2", 51, bridgeMode)
		l.node1.mustAdd(t, other, map[string]any{"nodePortMark": 0x100})
		want := "7: nodePortMark is 0x2000, and attachment cni0/p2/eth0 has 0x100: set the same for all networks, or " +
			"delete the pods of the other first"
		if got := l.node1.add(t, p).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		l.node1.mustDel(t, other.call("DEL"))
	})
	if diff := cmp.Diff([]string{bare, barePod}, []string{l.node1.state(t), state(t, p.ns)}); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func addMacvlan(name string) error {
	parent, err := netlink.LinkByName(uplink)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, parent.Attrs().Index
	return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: bridgeMode})
}

func delLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// I07: whether the node forwards is its administrator's decision.
func TestAdd_without_forwarding(t *testing.T) {
	for path, want := range map[string]string{
		"ipv4/ip_forward": "50: the node does not forward, which services need: set sysctl net.ipv4.ip_forward=1\nthe node does not forward packets from enp5s0f0, which node ports need: set sysctl net.ipv4.conf.enp5s0f0.forwarding=1",
		"ipv4/conf/" + uplink + "/forwarding": "50: the node does not forward packets from enp5s0f0, which node ports " +
			"need: set sysctl net.ipv4.conf.enp5s0f0.forwarding=1",
		"ipv6/conf/all/forwarding": "50: the node does not forward, which services need: set sysctl net.ipv6.conf.all.forwarding=1",
	} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			l := newLab(t)
			p := l.pod(l.node1, "p1", 50, bridgeMode)
			l.node1.in(t, func() error { return os.WriteFile("/proc/sys/net/"+path, []byte("0"), 0) })
			bare := l.node1.state(t)
			want, _, _ := strings.Cut(want, "\n")
			got, _, _ := strings.Cut(l.node1.add(t, p).String(), "\n")
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if diff := cmp.Diff(bare, l.node1.state(t)); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// E08, H03: leftovers on the node of a new pod: a rule and routes of an earlier pod, and another link with the name of
// the veth.
func TestAdd_over_leftovers(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	l.node1.mustAdd(t, p)
	name := l.node1.hostEnd(t)
	l.node1.mustDel(t, p.call("DEL"))
	l.node1.in(t, func() error {
		if err := addVeth(name, "foreign"); err != nil {
			return err
		}
		host, err := kernel.Current()
		if err != nil {
			return err
		}
		defer host.Close()
		link, err := host.LinkByName("foreign")
		if err != nil {
			return err
		}
		if err := host.LinkSetUp(link); err != nil {
			return err
		}
		if err := host.RouteAdd(hostRoute(p.addr(), "foreign").netlink(link.Attrs().Index)); err != nil {
			return err
		}
		return host.EnsureRule(kernel.Rule{Priority: 100, IifName: identity{p.attachment(), 1}.name(), Table: 77}, nil)
	})
	l.node1.mustAdd(t, p)
	serve(t, p.ns, "p1")
	if got := ask(l.node1.ns, "tcp", "10.10.20.50", endpointPort); got != "p1 sees 10.10.20.152" {
		t.Errorf("node to pod: got %q", got)
	}
	got := matching(l.node1.state(t), `^link (veth|foreign)|^rule 100 |^route 10.10.20.50/32`)
	second := identity{p.attachment(), 1}.name()
	want := "link foreign veth mtu 1500 up true\nlink " + name + " veth mtu 1500 up false\nlink " + second +
		" veth mtu 1500 up true\n" +
		"route 10.10.20.50/32 dev " + second + " src 10.10.20.152 metric 0\n"
	if diff := cmp.Diff(sortLines(want), sortLines(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// If a runtime repeats an ADD, it gets the same result, and one DEL removes everything.
func TestAdd_again(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	bare, barePod := l.node1.state(t), state(t, p.ns)
	l.node1.mustAdd(t, p)
	once, oncePod := l.node1.state(t), state(t, p.ns)
	l.node1.mustAdd(t, p)
	if diff := cmp.Diff([]string{withoutHandles(once), withoutHandles(oncePod)}, []string{
		withoutHandles(l.node1.state(t)), withoutHandles(state(t, p.ns)),
	}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.node1.mustDel(t, p.call("DEL"))
	if diff := cmp.Diff([]string{bare, barePod}, []string{l.node1.state(t), state(t, p.ns)}); diff != "" {
		t.Errorf("after DEL (-want +got):\n%s", diff)
	}
}

// I01: both ends have the MTU of hostInterface, or the configured one.
func TestAdd_MTU(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	for want, changes := range map[string]map[string]any{"1500": {}, "1400": {"mtu": 1400}} {
		l.node1.mustAdd(t, p, changes)
		got := matching(l.node1.state(t), "^link "+vethPrefix) + matching(state(t, p.ns), "^link veth0")
		if diff := cmp.Diff("link "+l.node1.hostEnd(t)+" veth mtu "+want+" up true\nlink veth0 veth mtu "+want+
			" up true\n", got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		l.node1.mustDel(t, p.call("DEL"))
	}
}

// A pod has net1 beside eth0, on another NIC: the node and hosts beyond it reach both, and one can be deleted without
// the other.
func TestAdd_second_interface(t *testing.T) {
	l := newLab(t)
	l.cable(l.node1.ns, l.fabric, "eth9", "lone9") // its own LAN: on a shared one each link answers ARP for both
	in(t, l.fabric, func() error { return plugintest.Configure("lone9") })
	in(t, l.node1.ns, func() error { return plugintest.Configure("eth9", "10.10.30.152/24", "fd00:30::152/64") })
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	serve(t, p.ns, "p1")
	bare, barePod := l.node1.state(t), ""
	l.macvlan(l.node1, p, "net1", "eth9", bridgeMode, "10.10.30.9/24", "fd00:30::9/64")
	barePod = state(t, p.ns)
	l.node1.mustAdd(t, p)
	first := state(t, p.ns)
	second := p.call("ADD", map[string]any{
		"name": "second", "hostInterface": nil, "prevResult": p.prevOf("net1", "10.10.30.9/24", "fd00:30::9/64"),
	})
	second.IfName = "net1"
	if _, err := l.node1.run(t, second); err != nil {
		t.Fatal(err)
	}
	if got := matching(state(t, p.ns), "^link veth"); got != "link veth0 veth mtu 1500 up true\nlink veth1 veth mtu "+
		"1500 up true\n" {
		t.Errorf("got %s", got)
	}
	both := []path{
		{"eth0", l.node1.ns, "tcp", "10.10.20.50", endpointPort, "p1 sees 10.10.20.152"},
		{"net1", l.node1.ns, "tcp", "10.10.30.9", endpointPort, "p1 sees 10.10.30.152"},
		{"ext", l.ext, "tcp", "10.10.20.50", endpointPort, "p1 sees 172.31.0.2"},
	}
	walk30(t, both)
	checked := p.call("CHECK", map[string]any{
		"name": "second", "hostInterface": nil,
		"prevResult": withLink(p, p.prevOf("net1", "10.10.30.9/24", "fd00:30::9/64"), "veth1"),
	})
	checked.IfName = "net1"
	if _, err := l.node1.run(t, checked); err != nil {
		t.Error(err)
	}
	if _, err := l.node1.run(t, p.call("CHECK")); err != nil {
		t.Error(err)
	}
	l.node1.mustDel(t, second)
	if diff := cmp.Diff(first, state(t, p.ns)); diff != "" {
		t.Errorf("pod after DEL of net1 (-want +got):\n%s", diff)
	}
	walk30(t, []path{both[0], both[2]})
	// Also delete in the other order: the first goes, the second stays.
	second.Command = "ADD"
	if _, err := l.node1.run(t, second); err != nil {
		t.Fatal(err)
	}
	l.node1.mustDel(t, p.call("DEL"))
	walk30(t, both[1:2])
	l.node1.mustDel(t, second)
	if diff := cmp.Diff([]string{bare, barePod}, []string{l.node1.state(t), state(t, p.ns)}); diff != "" {
		t.Errorf("after both DELs (-want +got):\n%s", diff)
	}
}

// walk30 calls walk for a lab that has a second LAN.
func walk30(t *testing.T, paths []path) {
	t.Helper()
	for _, p := range paths {
		six := strings.NewReplacer("10.10.30.", "fd00:30::")
		for _, try := range [][2]string{{p.to, p.want}, {six.Replace(ipv6(p.to)), six.Replace(ipv6(p.want))}} {
			if got := ask(p.from, p.network, try[0], p.port); got != try[1] {
				t.Errorf("%s: got %q, want %q", p.name, got, try[1])
			}
		}
	}
}

// Without masquerading, packets that go back into the pod have the pod's own address as source, and do not arrive.
func TestAdd_without_masquerading(t *testing.T) {
	c := newCluster(t, bridgeMode, map[string]any{"ipMasq": false})
	paths := c.paths()
	for i, p := range paths {
		if p.from == c.p1.ns && (p.to == "10.96.0.1" || p.to == "10.96.0.4" || p.to == "10.96.0.6" ||
			p.to == "10.96.0.8" || p.to == "172.31.0.2") {
			paths[i].want = noAnswer
		}
	}
	walk(t, paths)
}

// Connections to ports outside of nodePorts are not distinguished from those that the pod opens: their replies go back
// into the pod.
func TestAdd_node_ports(t *testing.T) {
	c := newCluster(t, bridgeMode, map[string]any{"nodePorts": "30081:30090,31000"})
	walk(t, []path{
		{"beside", c.ext, "tcp", "10.10.20.152", 30080, noAnswer},
		{"among", c.ext, "tcp", "10.10.20.152", 30081, "p1 sees 10.10.20.152"},
	})
}

// B07: a rule that redirects packets arriving on the veth needs an address on it.
func TestAdd_gives_the_veth_the_addresses(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	l.node1.mustAdd(t, p)
	var got []string
	in(t, p.ns, func() error {
		link, err := netlink.LinkByName("veth0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL) //nolint:forbidigo // nothing else changes here
		for _, a := range addrs {
			got = append(got, a.IPNet.String())
		}
		return err
	})
	if diff := cmp.Diff([]string{"10.10.20.50/32", "fd00:20::50/128"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
