package kernel

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Links of both namespaces have the same indexes, so a setting under a name tells where a function ran.
func TestNamespace_inside(t *testing.T) {
	inNamespace(t, func(t *testing.T, node *Namespace) {
		pod, err := otherNamespace(node)
		if err != nil {
			t.Error(err)
			return
		}
		defer pod.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "only0"
		if err := pod.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}); err != nil {
			t.Error(err)
			return
		}
		look := func() error {
			_, err := os.Stat("/proc/thread-self/net/dev_snmp6/only0")
			return err
		}
		if err := pod.inside(look); err != nil {
			t.Errorf("in the pod: %v", err)
		}
		if err := node.inside(look); !os.IsNotExist(err) {
			t.Errorf("on the node: got %v, want %v", err, os.ErrNotExist)
		}
		if err := look(); !os.IsNotExist(err) {
			t.Errorf("afterwards: got %v, want %v", err, os.ErrNotExist)
		}
	})
}

func TestNamespace_DefaultLink(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		expect := func(want string) {
			t.Helper()
			if got, err := n.DefaultLink(); got != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
		expect("")
		_, all4, _ := net.ParseCIDR("0.0.0.0/0")
		_, half, _ := net.ParseCIDR("0.0.0.0/1")
		link := veth(t, "eth0")
		other := veth(t, "eth1")
		for _, l := range []netlink.Link{link, other} {
			if err := netlink.LinkSetUp(l); err != nil {
				t.Error(err)
			}
		}
		for _, r := range []netlink.Route{
			{LinkIndex: other.Attrs().Index, Dst: half},
			{Type: unix.RTN_UNREACHABLE, Dst: all4, Priority: 1},
		} {
			if err := netlink.RouteAdd(&r); err != nil {
				t.Error(err)
			}
			expect("")
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all4, Priority: 2}); err != nil {
			t.Error(err)
		}
		expect("eth0")
	})
}

// The kernel makes the main table with its first route, and refuses to list it before.
func TestNamespace_MainRoutesOver(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		link := veth(t, "eth0")
		check := func(want int) {
			t.Helper()
			if got, err := n.MainRoutesOver(link); len(got) != want || err != nil {
				t.Errorf("got %v, %v, want %d", got, err, want)
			}
		}
		check(0)
		for name, dst := range map[string]string{"eth0": "10.0.0.1", "p-eth0": "10.0.0.2"} {
			other, err := n.LinkByName(name)
			if err != nil {
				t.Error(err)
				return
			}
			if err := n.LinkSetUp(other); err != nil {
				t.Error(err)
			}
			route := HostRoute{Dst: netip.MustParseAddr(dst), Link: other.Attrs().Index}
			if err := n.EnsureRoute(route, nil); err != nil {
				t.Error(err)
			}
		}
		check(1)
	})
}

func TestSource(t *testing.T) {
	addrs := []Address{
		{netip.MustParsePrefix("10.9.0.7/24"), 1},
		{netip.MustParsePrefix("192.168.0.5/16"), 2},
		{netip.MustParsePrefix("172.16.0.5/16"), 2},
		{netip.MustParsePrefix("fd00::5/64"), 2},
	}
	for _, tt := range []struct {
		name, pod string
		link      int
		want      netip.Addr
	}{
		{"in the subnet of the second", "172.16.1.2", 2, netip.MustParseAddr("172.16.0.5")},
		{"in no subnet", "10.9.0.8", 2, netip.MustParseAddr("192.168.0.5")},
		{"IPv6", "fd01::2", 2, netip.MustParseAddr("fd00::5")},
		{"none of the family", "fd00::2", 1, netip.Addr{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Source(addrs, tt.link, netip.MustParseAddr(tt.pod)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What goes with its link, or went before, is no error.
func TestDelete_what_is_gone(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		link := veth(t, "eth0")
		if err := netlink.LinkSetUp(link); err != nil {
			t.Error(err)
		}
		want := []HostRoute{
			{Dst: netip.MustParseAddr("10.0.0.2"), Link: link.Attrs().Index},
			{Dst: netip.MustParseAddr("fd00::2"), Link: link.Attrs().Index},
		}
		for _, r := range want {
			if err := n.EnsureRoute(r, nil); err != nil {
				t.Error(err)
			}
		}
		routes, err := n.MainRoutes()
		if err != nil {
			t.Error(err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
		for _, route := range routes {
			if err := n.DeleteRoute(route); err != nil {
				t.Error(err)
			}
		}
		if len(routes) < len(want) {
			t.Errorf("got %d routes, want at least %d", len(routes), len(want))
		}
		for _, ipv6 := range []bool{false, true} {
			gone := Rule{IPv6: ipv6, Priority: 1024, IifName: "eth0", Table: 256}.netlink()
			if err := n.DeleteRule(*gone); err != nil {
				t.Error(err)
			}
		}
	})
}
