package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// Somebody removes state that three pods of two networks share; the next ADD or GC restores it for all of them.
func TestRestore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		breakIt func() error
	}{
		{"child removed", func() error { return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}}) }},
		{"child down and up", func() error {
			if err := setDown("eno1.host"); err != nil {
				return err
			}
			return plugintest.Configure("eno1.host")
		}},
		{"child down", func() error { return setDown("eno1.host") }},
		{"mtu", func() error {
			return netlink.LinkSetMTU(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}}, 1300)
		}},
		{"sysctls", func() error {
			for _, path := range []string{"ipv4/conf/eno1.host/arp_filter", "ipv6/conf/eno1.host/addr_gen_mode"} {
				if err := os.WriteFile("/proc/sys/net/"+path, []byte("0"), 0); err != nil {
					return err
				}
			}
			return os.WriteFile("/proc/sys/net/ipv6/conf/eno1.host/accept_ra", []byte("1"), 0)
		}},
		{"address of the master removed and added", func() error {
			link, err := netlink.LinkByName("eno1")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr("192.168.0.5/16")
			if err != nil {
				return err
			}
			if err := netlink.AddrDel(link, addr); err != nil {
				return err
			}
			return netlink.AddrAdd(link, addr)
		}},
		{"neighbours flushed", func() error {
			n, err := kernel.Current()
			if err != nil {
				return err
			}
			defer n.Close()
			permanent, err := n.Permanent(linkIndex("eno1.host"))
			for ip := range permanent {
				if err := n.DeleteNeighbour(linkIndex("eno1.host"), ip); err != nil {
					return err
				}
			}
			return err
		}},
	} {
		for _, by := range []string{"ADD", "GC"} {
			t.Run(tt.name+" by "+by, func(t *testing.T) {
				l := newLab(t)
				a, b := l.pod("a", "192.168.1.2/16", "fd00:20::102/64"), l.pod("b", "192.168.1.3/16", "fd00:20::103/64")
				c, d := l.pod("c", "192.168.1.4/16"), l.pod("d", "192.168.1.5/16")
				l.mustAdd(a)
				l.mustAdd(b)
				if err := l.add(c, map[string]any{"name": "second"}); err != nil {
					t.Fatal(err)
				}
				want := l.state()
				l.inNode(tt.breakIt)
				if by == "ADD" {
					l.mustAdd(d)
					l.mustDel("d", nil)
				} else if err := l.gc(a, b); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, l.state()); diff != "" {
					t.Errorf("state (-want +got):\n%s", diff)
				}
				for _, p := range []*pod{a, b, c} {
					network := map[string]any{}
					if p == c {
						network["name"] = "second"
					}
					if err := l.check(p, network); err != nil {
						t.Errorf("CHECK %s: %s", p.id, err)
					}
				}
				l.mustReach(a.ns, l.node, "fd00:20::5", "fd00:20::102")
				l.mustReach(l.node, b.ns, "192.168.1.3", "192.168.0.5")
			})
		}
	}
}

// The old attachment still has a record when the child comes back, but its address belongs to the new one.
func TestAdd_restores_the_newest_owner(t *testing.T) {
	l := newLab(t)
	old, young := l.pod("a", "192.168.1.2/16"), l.pod("b", "192.168.1.2/16")
	l.mustAdd(old)
	l.inNode(func() error { return netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eno1.host"}}) })
	l.mustAdd(young)
	want := "neigh 192.168.1.2 dev eno1.host lladdr " + podMAC("b", "eth0").String() + "\n"
	if diff := cmp.Diff(want, lines(l.state(), "neigh")); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	l.mustReach(l.node, young.ns, "192.168.1.2", "192.168.0.5")
}
