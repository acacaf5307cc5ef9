package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// DEL in each of the ways in which a runtime may call it, twice each. Tables of others stay the same to the byte.
func TestDel(t *testing.T) {
	l := newLab(t)
	proxy{services: map[string]string{"10.96.0.1": "10.10.20.55", "fd00:96::1": "fd00:20::55"}}.install(t, l.node1.ns)
	p, other := l.pod(l.node1, "p1", 50, bridgeMode), l.pod(l.node1, "p2", 51, bridgeMode)
	serve(t, other.ns, "p2")
	l.node1.mustAdd(t, other)
	bare, barePod := l.node1.state(t), state(t, p.ns)
	whole := p.call("DEL")
	lose := func() error { return os.RemoveAll("/run/cni/" + pluginName + "/cni0/p1") }
	for _, tt := range []struct {
		name    string
		call    call
		before  func() error // runs on the node
		podOnly string       // the part of the pod's state that is compared; all if empty
	}{
		{name: "everything given", call: whole},
		{name: "no prevResult", call: call{ID: "p1", Netns: p.ns.Path(), Stdin: conf()}},
		{name: "prevResult that is damaged", call: call{ID: "p1", Netns: p.ns.Path(), Stdin: conf(map[string]any{"prevResult": "x"})}},
		{name: "no namespace", call: call{ID: "p1", Stdin: conf()}},
		{name: "a namespace that is gone", call: call{ID: "p1", Netns: "/run/netns/gone", Stdin: conf()}},
		{name: "another hostInterface", call: call{ID: "p1", Stdin: conf(map[string]any{"hostInterface": "eth9"})}},
		// Without a record the previous values of the pod's settings are unknown: DEL removes its end of the veth and
		// everything on the node.
		{name: "no record", call: call{ID: "p1", Stdin: conf()}, before: lose, podOnly: "^link|^route .* dev veth0|^neigh"},
		{
			name: "a record that is empty", call: call{ID: "p1", Stdin: conf()},
			podOnly: "^link|^route .* dev veth0|^neigh", before: func() error {
				return os.WriteFile("/run/cni/"+pluginName+"/cni0/p1/eth0", nil, 0o644)
			},
		},
		{name: "no veth", call: whole, before: func() error { return delLink(identity{p.attachment(), 0}.name()) }},
		{name: "no table", call: whole, before: flushTable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := p
			if tt.podOnly != "" { // the rest is not restored
				pod = l.podWith(l.node1, "p1", bridgeMode, p.ips...)
			}
			podBefore := state(t, pod.ns)
			l.node1.mustAdd(t, pod)
			if tt.before != nil {
				l.node1.in(t, tt.before)
			}
			for range 2 {
				l.node1.mustDel(t, tt.call)
				if tt.podOnly == "" {
					if diff := cmp.Diff(barePod, state(t, pod.ns)); diff != "" {
						t.Errorf("pod (-want +got):\n%s", diff)
					}
				} else if diff := cmp.Diff(matching(podBefore, tt.podOnly), matching(state(t, pod.ns),
					tt.podOnly)); diff != "" {
					t.Errorf("pod (-want +got):\n%s", diff)
				}
				want, got := bare, l.node1.state(t)
				if tt.name == "no table" {
					want, got = withoutHandles(want), withoutHandles(got) // it was made again
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("node (-want +got):\n%s", diff)
				}
			}
			if got := ask(l.node1.ns, "tcp", "10.10.20.51", endpointPort); got != "p2 sees 10.10.20.152" {
				t.Errorf("the other pod: got %q", got)
			}
		})
	}
	l.node1.mustDel(t, other.call("DEL"))
	if got := matching(l.node1.state(t), "^nft "+nodeTableName+"|^rule 512|^file"); got != "" {
		t.Errorf("after the last DEL: got %s, want nothing", got)
	}
}

func flushTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	return newNodeTable(nil).remove(conn)
}

// ADD fails if it cannot write a record, and the DEL that follows must not keep earlier plugins of the chain from
// deleting.
func TestDel_where_no_record_can_be(t *testing.T) {
	l := newLab(t)
	l.node1.in(t, func() error { return plugintest.PlaceFile("/run/cni/veth-to-host/cni0") })
	bare := l.node1.state(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	barePod := state(t, p.ns)
	err := l.node1.add(t, p)
	if want := "999: record cni0/p1/eth0: mkdir /run/cni/veth-to-host/cni0: not a directory"; err.String() != want {
		t.Errorf("ADD: got %s, want %s", err, want)
	}
	l.node1.mustDel(t, p.call("DEL"))
	if diff := cmp.Diff(bare+barePod, l.node1.state(t)+state(t, p.ns)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// E04: DEL of an attachment that never existed.
func TestDel_of_nothing(t *testing.T) {
	l := newLab(t)
	bare := l.node1.state(t)
	l.node1.mustDel(t, call{ID: "nobody", Stdin: conf()})
	if diff := cmp.Diff(bare, l.node1.state(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// D04: the old attachment is deleted after its address went to a new pod.
func TestDel_late(t *testing.T) {
	l := newLab(t)
	old := l.pod(l.node1, "old", 50, bridgeMode)
	l.node1.mustAdd(t, old)
	in(t, old.ns, func() error { return delLink("eth0") })
	fresh := l.pod(l.node1, "fresh", 50, bridgeMode)
	serve(t, fresh.ns, "fresh")
	l.node1.mustAdd(t, fresh)
	reach := func() {
		t.Helper()
		for _, address := range []string{"10.10.20.50", "fd00:20::50"} {
			if got, want := ask(l.node1.ns, "tcp", address, endpointPort), "fresh sees "+
				map[bool]string{true: "10.10.20.152", false: "fd00:20::152"}[address[0] == '1']; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	reach()
	_, err := l.node1.run(t, old.call("CHECK"))
	if want := "999: link eth0 of the pod: Link not found"; err.String() != want {
		t.Errorf("CHECK of the old: got %s, want %s", err, want)
	}
	l.node1.mustDel(t, old.call("DEL"))
	reach()
	if _, err := l.node1.run(t, fresh.call("CHECK")); err != nil {
		t.Error(err)
	}
}

// B06: connection tracking forgets the connections of a deleted pod, so that the next owner of its address does not
// meet them.
func TestDel_forgets_connections(t *testing.T) {
	c := newCluster(t, bridgeMode, nil)
	if got := ask(c.p1.ns, "udp", "10.96.0.1", 80); got != "p2 sees 10.10.20.50" {
		t.Fatal(got)
	}
	if got := ask(c.p1b.ns, "udp", "10.96.0.1", 80); got != "p2 sees 10.10.20.51" {
		t.Fatal(got)
	}
	count := func() map[string]int {
		of := map[string]int{}
		c.node1.in(t, func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
			for _, flow := range flows {
				of[flow.Forward.SrcIP.String()]++
			}
			return err
		})
		return of
	}
	if before := count(); before["10.10.20.50"] == 0 || before["10.10.20.51"] == 0 {
		t.Fatalf("got %v, want entries of both pods", before)
	}
	c.node1.mustDel(t, call{ID: "p1", Stdin: conf()})
	if after := count(); after["10.10.20.50"] != 0 || after["10.10.20.51"] == 0 {
		t.Errorf("got %v, want entries of 10.10.20.51 alone", after)
	}
}

func TestGC(t *testing.T) {
	l := newLab(t)
	bare := l.node1.state(t)
	kept, stale := l.pod(l.node1, "kept", 50, bridgeMode), l.pod(l.node1, "stale", 51, bridgeMode)
	l.node1.mustAdd(t, kept)
	alone := l.node1.state(t)
	l.node1.mustAdd(t, stale)
	other := map[string]any{"name": "other"}
	for range 2 {
		if err := l.node1.gc(t, nil, kept); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(alone, l.node1.state(t)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	// Removed objects are restored, and objects without a record are removed.
	l.node1.mustAdd(t, stale)
	l.node1.in(t, func() error {
		if err := flushTable(); err != nil {
			return err
		}
		return readdress(uplink)
	})
	lost := l.pod(l.node1, "lost", 52, bridgeMode)
	l.node1.mustAdd(t, lost) // restores too
	l.node1.in(t, func() error { return os.RemoveAll("/run/cni/" + pluginName + "/cni0/lost") })
	if err := l.node1.gc(t, nil, kept); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(withoutHandles(matching(alone, "^link|^route.*dev veth|^rule|^nft|^file|^neigh")),
		withoutHandles(matching(l.node1.state(t), "^link|^route.*dev veth|^rule|^nft|^file|^neigh"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// GC of another network removes nothing.
	if err := l.node1.gc(t, other); err != nil {
		t.Fatal(err)
	}
	if _, err := l.node1.run(t, kept.call("CHECK")); err != nil {
		t.Error(err)
	}
	if err := l.node1.gc(t, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(matching(bare, "^link|^rule|^nft|^file"), matching(l.node1.state(t),
		"^link|^rule|^nft|^file")); diff != "" {
		t.Errorf("after GC of all (-want +got):\n%s", diff)
	}
}

// readdress removes the IPv4 address of a link and adds it again; the kernel thereby deletes the routes that have it as
// source.
func readdress(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("10.10.20.152/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(link, addr); err != nil {
		return err
	}
	return netlink.AddrAdd(link, addr)
}
