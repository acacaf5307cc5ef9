package event_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/lostthread"
	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/lab/event"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// inNode calls f in new network and mount namespaces, with an uplink eno1 that has the address 192.168.0.5/16 and a
// default route.
func inNode(t *testing.T, f func(t *testing.T, n *event.Node), events ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	_ = lostthread.Do(func() error {
		for _, err := range []error{
			unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
			unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
			netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: "eno1", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
				PeerName:  "peer",
			}),
		} {
			if err != nil {
				t.Error(err)
				return nil
			}
		}
		for _, name := range []string{"lo", "peer", "eno1"} {
			if err := netlink.LinkSetUp(link(t, name)); err != nil {
				t.Error(err)
			}
		}
		uplink := link(t, "eno1")
		address, _ := netlink.ParseAddr("192.168.0.5/16")
		if err := netlink.AddrAdd(uplink, address); err != nil {
			t.Error(err)
		}
		add(t, &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.IP{192, 168, 0, 1}})
		n, err := event.Remember(event.Config{
			Uplink: "eno1", Others: []netip.Addr{netip.MustParseAddr("192.168.255.253")}, Events: events,
			Programs: debian.Dir(),
		})
		if err != nil {
			t.Error(err)
			return nil
		}
		f(t, n)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		return nil
	})
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Error(err)
		return &netlink.Dummy{}
	}
	return l
}

func add(t *testing.T, r *netlink.Route) {
	t.Helper()
	if err := netlink.RouteAdd(r); err != nil {
		t.Errorf("route %s: %v", r, err)
	}
}

// state returns the rules, and the routes of all tables, that the kernel did not make, and the addresses of eno1.
func state(t *testing.T) string {
	t.Helper()
	var lines []string
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		t.Error(err)
	}
	for _, r := range rules {
		if r.Protocol != unix.RTPROT_KERNEL {
			lines = append(lines, r.String())
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Error(err)
	}
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_KERNEL {
			lines = append(lines, r.String())
		}
	}
	addrs, err := netlink.AddrList(link(t, "eno1"), netlink.FAMILY_V4)
	if err != nil {
		t.Error(err)
	}
	for _, a := range addrs {
		lines = append(lines, a.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// addForeign adds what a plugin may add, and returns the state without it.
func addForeign(t *testing.T) (own string) {
	t.Helper()
	own = state(t)
	rule := netlink.NewRule()
	rule.Table, rule.Priority, rule.Family = 100, 1000, netlink.FAMILY_V4
	if err := netlink.RuleAdd(rule); err != nil {
		t.Error(err)
	}
	uplink := link(t, "eno1").Attrs().Index
	add(t, &netlink.Route{LinkIndex: uplink, Gw: net.IP{192, 168, 0, 9}, Table: 100})
	add(t, &netlink.Route{
		LinkIndex: uplink, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: net.IP{192, 168, 1, 2}, Mask: net.CIDRMask(32, 32)},
	})
	return own
}

// TestHappen_removes_what_is_foreign compares what is emulated with systemd-networkd itself.
func TestHappen_removes_what_is_foreign(t *testing.T) {
	for _, name := range []string{event.RulesAndRoutesRemoved, event.NetworkdRestarts} {
		t.Run(name, func(t *testing.T) {
			if kind, _ := scenario.EventNamed(name); kind.Program != "" {
				if _, err := exec.LookPath(kind.Program); err != nil {
					t.Skipf("no %s; apt-get install %s", kind.Program, kind.Package)
				}
			}
			inNode(t, func(t *testing.T, n *event.Node) {
				want := addForeign(t)
				peer := link(t, "peer").Attrs().Index
				byAddress := &netlink.Route{
					LinkIndex: peer, Scope: netlink.SCOPE_LINK, Src: net.IP{192, 168, 0, 5},
					Dst: &net.IPNet{IP: net.IP{10, 1, 1, 2}, Mask: net.CIDRMask(32, 32)},
				}
				elsewhere := &netlink.Route{
					LinkIndex: peer, Scope: netlink.SCOPE_LINK,
					Dst: &net.IPNet{IP: net.IP{10, 1, 1, 1}, Mask: net.CIDRMask(32, 32)},
				}
				add(t, byAddress)
				add(t, elsewhere)
				happen(t, n, name)
				if err := netlink.RouteDel(elsewhere); err != nil {
					t.Errorf("a route of another link: %v, want that it is there", err)
				}
				if got := state(t); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			}, name)
		})
	}
}

func TestHappen_flap(t *testing.T) {
	inNode(t, func(t *testing.T, n *event.Node) {
		own := addForeign(t)
		happen(t, n, event.UplinkFlaps)
		got := state(t)
		for line := range strings.SplitSeq(own, "\n") {
			if !strings.Contains(got, line) {
				t.Errorf("got\n%s\nwant also %s", got, line)
			}
		}
		if strings.Contains(got, "192.168.1.2/32") || strings.Contains(got, "192.168.0.9") {
			t.Errorf("got\n%s\nwant no route of others on eno1", got)
		}
	})
}

func TestHappen_addresses(t *testing.T) {
	inNode(t, func(t *testing.T, n *event.Node) {
		before := state(t)
		happen(t, n, event.AddressesChange)
		if got := state(t); strings.Contains(got, "192.168.0.5") || !strings.Contains(got, "192.168.255.253/16") ||
			!strings.Contains(got, "192.168.0.1") {
			t.Errorf("got\n%s\nwant 192.168.255.253/16 and the default route", got)
		}
		undo(t, n)
		if got := state(t); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	})
}

func TestHappen_ruleset(t *testing.T) {
	inNode(t, func(t *testing.T, n *event.Node) {
		c, err := nftables.New()
		if err != nil {
			t.Error(err)
			return
		}
		c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "foreign"})
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
		happen(t, n, event.RulesetFlushed)
		if tables, err := c.ListTables(); err != nil || len(tables) > 0 {
			t.Errorf("got %d tables, %v; want none", len(tables), err)
		}
	})
}

func TestHappen_settings(t *testing.T) {
	inNode(t, func(t *testing.T, n *event.Node) {
		read := func(name string) string {
			data, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name)
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(string(data))
		}
		filter, ignore := read("peer/rp_filter"), read("all/arp_ignore")
		happen(t, n, event.SysctlsApplied)
		happen(t, n, event.StrictARP)
		if got := read("peer/rp_filter") + read("all/arp_ignore") + read("all/arp_announce"); got != "112" {
			t.Errorf("got %s, want 112", got)
		}
		happen(t, n, event.SysctlsLoosened)
		if got := read("peer/rp_filter"); got != "2" {
			t.Errorf("got the filter %s, want 2", got)
		}
		undo(t, n)
		if got := read("peer/rp_filter") + read("all/arp_ignore"); got != filter+ignore {
			t.Errorf("got %s, want %s", got, filter+ignore)
		}
	})
}

func TestHappen_MACs(t *testing.T) {
	inNode(t, func(t *testing.T, n *event.Node) {
		random, chosen := link(t, "peer").Attrs().HardwareAddr.String(), link(t, "eno1").Attrs().HardwareAddr.String()
		happen(t, n, event.MACsSet)
		if got := link(t, "peer").Attrs().HardwareAddr.String(); got == random {
			t.Errorf("got the MAC %s as before, want another one in place of a random one", got)
		}
		if got := link(t, "eno1").Attrs().HardwareAddr.String(); got != chosen {
			t.Errorf("got the MAC %s, want %s, which was chosen", got, chosen)
		}
	})
}

func TestHappen_unknown(t *testing.T) {
	inNode(t, func(t *testing.T, n *event.Node) {
		err := n.Happen("nothing")
		if err == nil || err.Error() != `unknown event "nothing"` {
			t.Errorf("got %v, want an unknown event", err)
		}
	})
}

func happen(t *testing.T, n *event.Node, name string) {
	t.Helper()
	if err := n.Happen(name); err != nil {
		t.Error(err)
	}
}

func undo(t *testing.T, n *event.Node) {
	t.Helper()
	if err := n.Undo(); err != nil {
		t.Error(err)
	}
}
