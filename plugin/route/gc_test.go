package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// G08, G09: GC removes only the state of attachments of this network that are not valid.
func TestGC(t *testing.T) {
	l := newLab(t)
	bare := l.state()
	a, b, c, d := l.pod("a", "192.168.1.2/16", "fd00:20::102/64"), l.pod("b", "192.168.1.3/16"),
		l.pod("c", "192.168.1.4/16"), l.pod("d", "192.168.1.5/16")
	second := map[string]any{"name": "second"}
	l.mustAdd(b)
	if err := l.add(c, second); err != nil {
		t.Fatal(err)
	}
	want := l.state()
	l.mustAdd(a)
	l.mustAdd(d)
	orphan(l, "192.168.1.77/32")
	orphan(l, "fd00:20::177/128")

	for _, time := range []string{"first", "second"} {
		stdin := conf(map[string]any{
			"cni.dev/valid-attachments": []any{map[string]any{"containerID": "b", "ifname": "eth0"}, map[string]any{"containerID": "d", "ifname": "net1"}},
			"cni.dev/attachments":       []any{map[string]any{"containerID": "a", "ifname": "eth0"}},
		})
		if out, err := l.run(call{Command: "GC", Stdin: stdin}); err != nil || out != "" {
			t.Fatalf("%s GC: %s%v", time, out, err)
		}
		if time == "first" {
			// d/net1 is valid and has no record: the orphans may belong to it.
			stay := "neigh 192.168.1.77 dev eno1.host lladdr 02:de:ad:00:00:01\nneigh fd00:20::177 dev eno1.host " +
				"lladdr 02:de:ad:00:00:01\n" +
				"route 192.168.1.77/32 dev eno1.host\nroute fd00:20::177/128 dev eno1.host\n"
			if diff := cmp.Diff(sorted(want+stay), sorted(l.state())); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		}
	}
	for range 2 {
		if err := l.gc(b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, l.state()); diff != "" {
			t.Errorf("state (-want +got):\n%s", diff)
		}
	}
	l.mustReach(l.node, b.ns, "192.168.1.3", "192.168.0.5")
	l.mustReach(l.node, c.ns, "192.168.1.4", "192.168.0.5")

	if err := l.gc(); err != nil { // the other network still needs the child
		t.Fatal(err)
	}
	l.mustReach(l.node, c.ns, "192.168.1.4", "192.168.0.5")
	l.mustDel("c", second)
	if err := l.gc(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("state after all (-want +got):\n%s", diff)
	}
}

// orphan makes a route and a neighbour on the child that belong to no record.
func orphan(l *lab, dst string) {
	l.t.Helper()
	l.inNode(func() error {
		prefix, err := netlink.ParseIPNet(dst)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{
			Dst: prefix, LinkIndex: linkIndex("eno1.host"), Scope: netlink.SCOPE_LINK,
		}); err != nil {
			return err
		}
		return netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: linkIndex("eno1.host"), IP: prefix.IP, State: netlink.NUD_PERMANENT,
			HardwareAddr: net.HardwareAddr{2, 0xde, 0xad, 0, 0, 1},
		})
	})
}

func TestGC_on_a_node_without_records(t *testing.T) {
	l := newLab(t)
	want := l.state()
	if err := l.gc(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, l.state()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	l.mustAdd(l.pod("a", "192.168.1.2/16"))
	if err := os.RemoveAll("/run/cni"); err != nil {
		t.Fatal(err)
	}
	if err := l.gc(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, l.state()); diff != "" {
		t.Errorf("state after the records were lost (-want +got):\n%s", diff)
	}
}

// An administrator's own macvlan serves as the child, and survives.
func TestGC_keeps_a_child_that_somebody_else_made(t *testing.T) {
	l := newLab(t)
	l.inNode(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "eno1.host", linkIndex("eno1")
		attrs.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 9, 9}
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
	})
	p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
	l.mustAdd(p)
	l.mustReach(p.ns, l.node, "fd00:20::5", "fd00:20::102")
	if err := l.gc(); err != nil {
		t.Fatal(err)
	}
	want := "link eno1.host macvlan mtu 1500 mode bridge address 02:00:00:00:09:09 up\nroute 192.168.0.0/16 dev eno1 " +
		"src 192.168.0.5\nroute fd00:20::/64 dev eno1\n"
	if diff := cmp.Diff(want, lines(l.state(), "link eno1.host", "neigh", "route", "file")); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// Nobody knows the content of a record that cannot be read: as long as its attachment is valid, GC removes no orphans.
func TestGC_corrupt_record(t *testing.T) {
	l := newLab(t)
	a, b := l.pod("a", "192.168.1.2/16"), l.pod("b", "192.168.1.3/16")
	l.mustAdd(b)
	want := l.state()
	l.mustAdd(a)
	corrupted := l.state()
	if err := os.WriteFile(recordOfA, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.gc(a, b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(corrupted, l.state()); diff != "" {
		t.Errorf("state with a valid (-want +got):\n%s", diff)
	}
	if err := l.gc(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, l.state()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// The ADD of b was killed when it had its record, and had not yet taken the address from a's: both records name it.
func TestGC_two_records_of_one_address(t *testing.T) {
	l := newLab(t)
	bare := l.state()
	l.mustAdd(l.pod("a", "192.168.1.2/16"))
	raw, err := os.ReadFile(recordOfA)
	if err != nil {
		t.Fatal(err)
	}
	l.mustAdd(l.pod("b", "192.168.1.2/16"))
	if err := os.WriteFile(recordOfA, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.gc(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// SPEC.md, GC: go on after an error, and report it.
func TestGC_goes_on_after_an_error(t *testing.T) {
	l := newLab(t)
	a, b := l.pod("a", "192.168.1.2/16"), l.pod("b", "192.168.1.3/16")
	l.mustAdd(a)
	l.mustAdd(b)
	if err := unix.Mount("/dev/null", recordOfA, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(recordOfA, unix.MNT_DETACH) })
	want := "999: record default/a/eth0: unlinkat " + recordOfA + ": device or resource busy"
	if got := l.gc().String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := lines(l.state(), "neigh", "route 192.168.1", "file /run/cni/route/default/b"); got != "" {
		t.Errorf("got %s, want nothing", got)
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name    string
		before  func(l *lab) error
		changes map[string]any
		want    string
	}{
		{name: "before the first ADD", want: "success"},
		{name: "after ADD", before: func(l *lab) error {
			l.mustAdd(l.pod("a", "192.168.1.2/16"))
			return nil
		}, want: "success"},
		{name: "master is missing", changes: map[string]any{"master": "eno7"}, want: `50: master "eno7" does not exist on this node`},
		{name: "no default route", changes: map[string]any{"master": nil}, want: `50: master is not set and the node has no default route to take it from`},
		{name: "master is down", before: func(*lab) error { return setDown("eno1") }, want: `51: master "eno1" is down: bring it up (ip link set eno1 up)`},
		{name: "name is taken", before: func(*lab) error {
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}})
		}, want: `50: link eno1.host exists and is of kind bridge, want a macvlan of eno1 (index 2) in mode bridge: ` +
			`remove it, or set bridge to a free name`},
		{
			name: "a file in the place of the records", before: func(*lab) error {
				return plugintest.PlaceFile("/run/cni/route/default")
			},
			want: `50: records of network "default" cannot be written: /run/cni/route/default is a file, want a directory: remove it`,
		},
		{name: "the same when another network has records", before: func(l *lab) error {
			if err := l.add(l.pod("a", "192.168.1.2/16"), map[string]any{"name": "second"}); err != nil {
				l.t.Fatal(err)
			}
			return plugintest.PlaceFile("/run/cni/route/default")
		}, want: `50: records of network "default" cannot be written: /run/cni/route/default is a file, want a ` +
			`directory: remove it`},
		{
			name: "a file in the place of all records", before: func(*lab) error {
				return plugintest.PlaceFile("/run/cni/route")
			},
			want: `50: records of network "default" cannot be written: /run/cni/route is a file, want a directory: remove it`,
		},
		{
			name: "wrong type", changes: map[string]any{"master": 5},
			want: `7: configuration: json: cannot unmarshal number into Go struct field config.master of type string`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			if tt.before != nil {
				l.inNode(func() error { return tt.before(l) })
			}
			before := l.state()
			out, err := l.run(call{Command: "STATUS", Stdin: conf(tt.changes)})
			if got := err.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err == nil && out != "" {
				t.Errorf("got %s, want no output", out)
			}
			if diff := cmp.Diff(before, l.state()); diff != "" {
				t.Errorf("state (-before +after):\n%s", diff)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	l := newLab(t)
	out, err := l.run(call{Command: "VERSION"})
	want := `{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`
	if got := strings.TrimSpace(out); got != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

// SPEC.md: GC and STATUS exist since 1.1.0, CHECK since 0.4.0. The answers are skel's.
func TestOldVersions(t *testing.T) {
	l := newLab(t)
	p := l.pod("a", "192.168.1.2/16")
	for _, tt := range []struct{ command, version string }{{"GC", "1.0.0"}, {"STATUS", "0.4.0"}, {"CHECK", "0.3.1"}} {
		_, err := l.run(call{
			Command: tt.command, ID: "a", Netns: p.ns.Path(), Stdin: conf(map[string]any{"cniVersion": tt.version}),
		})
		want := fmt.Sprintf("1: config version does not allow %s", tt.command)
		if got := err.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
