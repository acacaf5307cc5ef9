package main

import (
	"os"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

const recordOfA = "/run/cni/route/default/a/eth0"

// DEL removes the state of attachment a and leaves that of b, whatever is missing already, and so does a second DEL
// (E01, E02, E05, E09, E10, D10).
func TestDel(t *testing.T) {
	inNode := func(do func() error) func(l *lab, p *pod) error {
		return func(l *lab, _ *pod) error { return l.node.Do(func(ns.NetNS) error { return do() }) }
	}
	write := func(content string) func(*lab, *pod) error {
		return func(*lab, *pod) error { return os.WriteFile(recordOfA, []byte(content), 0o644) }
	}
	for _, tt := range []struct {
		name    string
		before  func(l *lab, p *pod) error
		changes map[string]any
		prev    bool
		netns   func(p *pod) string
		gone    []string // lines of the wanted state that before takes away
	}{
		{name: "without prevResult and namespace"},
		{name: "with prevResult", prev: true},
		{name: "with the namespace", netns: func(p *pod) string { return p.ns.Path() }, prev: true},
		{name: "with a namespace that is gone", netns: func(*pod) string { return "/run/netns/gone" }},
		{name: "without the pod's link", before: func(l *lab, p *pod) error {
			return p.ns.Do(func(ns.NetNS) error {
				return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
			})
		}, netns: func(p *pod) string { return p.ns.Path() }},
		{name: "without the child", before: inNode(func() error {
			return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}})
		}), gone: []string{"link eno1.host", "route 192.168.1.3", "route fd00:20::103", "neigh"}},
		{name: "without the master", before: inNode(func() error {
			return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1"}})
		}), gone: []string{"link eno1", "route", "neigh"}},
		{name: "master down", before: inNode(func() error { return setDown("eno1") }), gone: []string{"link eno1", "route", "neigh"}},
		{name: "without the routes", before: inNode(func() error {
			for _, dst := range []string{"192.168.1.2/32", "fd00:20::102/128"} {
				prefix, err := netlink.ParseIPNet(dst)
				if err != nil {
					return err
				}
				if err := netlink.RouteDel(&netlink.Route{Dst: prefix, Scope: netlink.SCOPE_LINK}); err != nil {
					return err
				}
			}
			return nil
		})},
		{name: "without the record, by prevResult", before: func(*lab, *pod) error { return os.Remove(recordOfA) }, prev: true},
		{
			name: "without any record, by prevResult", before: func(*lab, *pod) error {
				return os.RemoveAll("/run/cni")
			}, prev: true,
			gone: []string{"file"},
		},
		{
			name: "without the record, by prevResult and its link", before: func(*lab, *pod) error {
				return os.Remove(recordOfA)
			}, prev: true,
			changes: map[string]any{"bridge": "other.host"},
		},
		{name: "empty record", before: write("")},
		{name: "cut record", before: write(`{"network":"default","containerID":"a","if`)},
		{name: "record of another", before: write(`{"network":"default","containerID":"b","ifname":"eth0"}`)},
		{name: "damaged prevResult", changes: map[string]any{"prevResult": "x"}},
		{name: "configuration changed since", changes: map[string]any{"bridge": "other.host", "master": "eno7"}},
		{name: "no master and no default route", changes: map[string]any{"bridge": nil, "master": nil}},
		{name: "something else under the child's name", before: inNode(func() error {
			link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}}
			if err := netlink.LinkDel(link); err != nil {
				return err
			}
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}})
		}), gone: []string{"link eno1.host", "route 192.168.1.3", "route fd00:20::103", "neigh"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.pod("a", "192.168.1.2/16", "fd00:20::102/64"), l.pod("b", "192.168.1.3/16", "fd00:20::103/64")
			l.mustAdd(b)
			want := l.state()
			l.mustAdd(a)
			if tt.before != nil {
				if err := tt.before(l, a); err != nil {
					t.Fatal(err)
				}
			}
			changes := map[string]any{}
			if tt.prev {
				prev := a.prev()
				prev["interfaces"] = append(prev["interfaces"].([]any), map[string]any{"name": "eno1.host"})
				changes["prevResult"] = prev
			}
			for key, value := range tt.changes {
				changes[key] = value
			}
			c := call{Command: "DEL", ID: "a", Stdin: conf(changes)}
			if tt.netns != nil {
				c.Netns = tt.netns(a)
			}
			for _, time := range []string{"first", "second"} {
				if out, err := l.run(c); err != nil || out != "" {
					t.Fatalf("%s DEL: %s%v", time, out, err)
				}
				if diff := cmp.Diff(dropLines(want, tt.gone), dropLines(l.state(), tt.gone)); diff != "" {
					t.Errorf("state after the %s DEL (-want +got):\n%s", time, diff)
				}
			}
			if tt.gone == nil {
				l.mustReach(l.node, b.ns, "192.168.1.3", "192.168.0.5")
			}
		})
	}
}

// ADD fails if it cannot save a record, and the DEL that follows must succeed, so that the plugins before can delete.
func TestDel_where_no_record_can_be(t *testing.T) {
	l := newLab(t)
	if err := plugintest.PlaceFile("/run/cni/route/default"); err != nil {
		t.Fatal(err)
	}
	want := l.state()
	p := l.pod("a", "192.168.1.2/16")
	err := l.add(p, nil)
	if want := "999: record default/a/eth0: mkdir /run/cni/route/default: not a directory"; err.String() != want {
		t.Errorf("ADD: got %s, want %s", err, want)
	}
	l.mustDel("a", nil)
	l.mustDel("a", map[string]any{"prevResult": p.prev()})
	if diff := cmp.Diff(want, l.state()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// E04: an attachment that was never made, on a node that never had one.
func TestDel_unknown_attachment(t *testing.T) {
	l := newLab(t)
	want := l.state()
	for _, changes := range []map[string]any{nil, {"prevResult": map[string]any{
		"cniVersion": "1.1.0",
		"ips":        []any{map[string]any{"address": "192.168.1.2/16"}},
	}}} {
		l.mustDel("a", changes)
		if diff := cmp.Diff(want, l.state()); diff != "" {
			t.Errorf("state (-want +got):\n%s", diff)
		}
	}
}

// D04: the address has gone to a new attachment before the old one is deleted.
func TestDel_of_an_old_attachment(t *testing.T) {
	prev := func(p *pod) map[string]any { return map[string]any{"prevResult": p.prev()} }
	for _, tt := range []struct {
		name    string
		before  func(l *lab) error
		changes func(old *pod) map[string]any
	}{
		{name: "by its record"},
		{name: "by its record and prevResult", changes: prev},
		{name: "by prevResult", before: func(*lab) error { return os.RemoveAll("/run/cni/route/default/a") }, changes: prev},
		{name: "by prevResult, empty record", before: func(*lab) error { return os.WriteFile(recordOfA, nil, 0o644) }, changes: prev},
		{name: "empty record", before: func(*lab) error { return os.WriteFile(recordOfA, nil, 0o644) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			old, young := l.pod("a", "192.168.1.2/16", "192.168.1.3/16"), l.pod("b", "192.168.1.2/16")
			l.mustAdd(young)
			want := l.state()
			l.mustDel("b", nil)
			l.mustAdd(old)
			l.mustAdd(young)
			if tt.before != nil {
				if err := tt.before(l); err != nil {
					t.Fatal(err)
				}
			}
			var changes map[string]any
			if tt.changes != nil {
				changes = tt.changes(old)
			}
			l.mustDel("a", changes)
			if diff := cmp.Diff(want, l.state()); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			l.mustReach(l.node, young.ns, "192.168.1.2", "192.168.0.5")
			l.mustDel("b", nil)
			if got := lines(l.state(), "route 192.168.1", "neigh", "file"); got != "" {
				t.Errorf("after all DELs: got %s, want nothing", got)
			}
		})
	}
}

// The new attachment with the same address is on another master, and goes first.
func TestDel_of_a_new_attachment(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "192.168.0.6/16")
	old := l.pod("a", "192.168.1.2/16")
	young := &pod{ns: newNamespace(t), id: "b", ips: []string{"192.168.1.2/16"}}
	l.macvlan(young, "eth0", "eth9", netlink.MACVLAN_MODE_BRIDGE, young.ips...)
	second := map[string]any{"name": "second", "master": "eth9", "bridge": nil}
	l.mustAdd(old)
	if err := l.add(young, second); err != nil {
		t.Fatal(err)
	}
	want := "neigh 192.168.1.2 dev eth9.host lladdr 02:00:00:0c:01:0e\nroute 192.168.1.2/32 dev eth9.host src " +
		"192.168.0.6\n"
	if diff := cmp.Diff(want, lines(l.state(), "neigh", "route 192.168.1")); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	l.mustDel("b", second)
	l.mustAdd(l.pod("c", "192.168.1.4/16")) // restores nothing for the old one
	l.mustDel("c", nil)
	if got := lines(l.state(), "neigh", "route 192.168.1"); got != "" {
		t.Errorf("got %s, want nothing of an address that its owner has lost", got)
	}
	l.mustDel("a", nil)
	if got := lines(l.state(), "file"); got != "" {
		t.Errorf("got %s, want no file", got)
	}
}

// A pod of a later attachment is in the namespace of the old one.
func TestDel_leaves_another_pod_in_the_same_namespace(t *testing.T) {
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	p := l.pod("a", "192.168.1.2/16")
	l.mustAdd(p)
	l.in(p.ns, func() error { return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}) })
	p.id, p.ips = "b", []string{"192.168.1.3/16"}
	l.macvlan(p, "eth0", "eno1", netlink.MACVLAN_MODE_BRIDGE, p.ips...)
	l.mustAdd(p)
	l.mustDel("a", nil)
	if diff := cmp.Diff("route 10.9.0.7/32 dev eth0 via 192.168.0.5\n", hostRoutesOf(l, p)); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	l.mustReach(p.ns, l.node, "10.9.0.7", "192.168.1.3")
}

func TestDel_in_the_namespace_of_the_node(t *testing.T) {
	l := newLab(t)
	l.mustAdd(l.pod("a", "192.168.1.2/16"))
	_, err := l.run(call{Command: "DEL", ID: "a", Netns: "/proc/self/ns/net", Stdin: conf(nil)})
	// skel's own answer, given after the plugin's.
	want := "8: plugin's netns and netns from CNI_NETNS should not be the same"
	if got := err.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
