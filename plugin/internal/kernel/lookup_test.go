package kernel

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// Lookups find one thing among others, and deletions without a list take all of one thing and nothing else.
func TestLookup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	node := plugintest.NewNamespace(t, map[string]string{"ipv4/ip_forward": "1"})
	plugintest.In(t, node, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
			return err
		}
		if err := plugintest.Configure("eth0", "10.0.0.1/24", "fd00::1/64"); err != nil {
			return err
		}
		if err := plugintest.Configure("peer"); err != nil {
			return err
		}
		n, err := Current()
		if err != nil {
			return err
		}
		defer n.Close()
		link, err := n.LinkByName("eth0")
		if err != nil {
			return err
		}
		lookupRoutes(t, n, link.Attrs().Index)
		lookupRules(t, n)
		return nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lookupRoutes(t *testing.T, n *Namespace, link int) {
	t.Helper()
	if got, err := n.TableDefault(unix.RT_TABLE_MAIN); got != 0 || err != nil {
		t.Errorf("default: got %d, %v, want none", got, err)
	}
	if got, err := n.TableDefault(77); got != 0 || err != nil {
		t.Errorf("default of a table that is not there: got %d, %v, want none", got, err)
	}
	must(t, n.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 0, 0, 254), Priority: 5}))
	if got, err := n.TableDefault(unix.RT_TABLE_MAIN); got != link || err != nil {
		t.Errorf("default: got %d, %v, want %d", got, err, link)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for _, text := range []string{"10.0.0.9", "fd00::9"} {
		ip := netip.MustParseAddr(text)
		want := HostRoute{Dst: ip, Link: link}
		if local, err := n.IsLocal(ip); local || err != nil {
			t.Errorf("%s: got local %t, %v, want that it is not", ip, local, err)
		}
		if got, err := n.RouteTo(ip, 0); err != nil || got == nil || want.Matches(*got) {
			t.Errorf("%s: got %v, %v, want the subnet's route", ip, got, err)
		}
		must(t, n.EnsureRoute(want, nil))
		must(t, n.EnsureRoute(HostRoute{Dst: ip, Link: link, Metric: 2000}, nil))
		if got, err := n.RouteTo(ip, link); err != nil || got == nil || !want.Matches(*got) {
			t.Errorf("%s: got %v, %v, want %v", ip, got, err, want)
		}
		must(t, n.DeleteRoutesTo(ip, 0))
		must(t, n.DeleteRoutesTo(ip, 0))
		if got, err := n.RouteTo(ip, 0); err != nil || got == nil || got.Dst.IP.Equal(ip.AsSlice()) {
			t.Errorf("%s: got %v, %v, want the subnet's route alone", ip, got, err)
		}
		if got, err := n.Neighbour(link, ip); got != nil || err != nil {
			t.Errorf("%s: got neighbour %s, %v, want none", ip, got, err)
		}
		must(t, n.EnsureNeighbour(link, ip, mac, nil))
		if got, err := n.Neighbour(link, ip); got.String() != mac.String() || err != nil {
			t.Errorf("%s: got neighbour %s, %v, want %s", ip, got, err, mac)
		}
	}
	for _, text := range []string{"10.0.0.1", "fd00::1"} {
		if missing, err := n.AwaitLocal(time.Minute, netip.MustParseAddr(text)); len(missing) > 0 || err != nil {
			t.Errorf("%s: got not local %v, %v, want that it is", text, missing, err)
		}
	}
	if has, err := n.HasRoutes(77); has || err != nil {
		t.Errorf("table 77: got %t, %v, want no routes", has, err)
	}
	must(t, n.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, LinkIndex: link, Table: 77,
	}))
	if has, err := n.HasRoutes(77); !has || err != nil {
		t.Errorf("table 77: got %t, %v, want routes", has, err)
	}
}

func lookupRules(t *testing.T, n *Namespace) {
	t.Helper()
	before, err := n.Rules()
	must(t, err)
	for _, ipv6 := range []bool{false, true} {
		for _, table := range []int{77, 78} {
			must(t, n.EnsureRule(Rule{IPv6: ipv6, Priority: 1024, IifName: "gone0", Table: table}, nil))
		}
	}
	other := Rule{Priority: 1024, IifName: "gone1", Table: 77}
	must(t, n.EnsureRule(other, nil))
	must(t, n.DeleteRulesOf("gone0", 1023, 1024))
	after, err := n.Rules()
	must(t, err)
	if len(after) != len(before)+1 {
		t.Errorf("got %d rules, want the %d of before and %s", len(after), len(before), other)
	}
	must(t, n.DeleteRulesOf("gone1", AnyPriority))
	if after, err = n.Rules(); len(after) != len(before) {
		t.Errorf("got %d rules, %v, want %d", len(after), err, len(before))
	}
}
