package agent_test

import (
	"errors"
	"net"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/agent"
)

// within calls f in a namespace.
func within(tb testing.TB, path string, f func() error) {
	tb.Helper()
	check(tb, ns.WithNetNSPath(path, func(ns.NetNS) error { return f() }))
}

// lay makes a veth between two namespaces. Its ends are called eth0, have the addresses, and are up.
func lay(tb testing.TB, one, other string, addresses ...string) {
	tb.Helper()
	far, err := ns.GetNS(other)
	check(tb, err)
	defer far.Close()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	within(tb, one, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0", HardwareAddr: mac, MTU: 1400}, PeerName: "eth0",
			PeerNamespace: netlink.NsFd(far.Fd()),
		})
	})
	for i, path := range []string{one, other} {
		within(tb, path, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			address, err := netlink.ParseAddr(addresses[i])
			if err != nil {
				return err
			}
			return errors.Join(netlink.AddrAdd(link, address), netlink.LinkSetUp(link))
		})
	}
}

func TestLinks(t *testing.T) {
	c := start(t)
	one, other := namespace(t, c, "one"), namespace(t, c, "other")
	lay(t, one, other, "10.0.0.1/24", "10.0.0.2/24")
	within(t, one, func() error {
		parent, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkAdd(&netlink.Macvlan{
			LinkAttrs: netlink.LinkAttrs{
				Name: "child", ParentIndex: parent.Attrs().Index, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2},
			}, Mode: netlink.MACVLAN_MODE_BRIDGE,
		})
	})
	got, err := c.Links(ctx(t), one)
	check(t, err)
	want := []agent.Link{
		{Name: "lo", Kind: "device", Index: 1, MTU: 65536, Up: true, Addresses: []string{"127.0.0.1/8", "::1/128"}},
		{Name: "eth0", Kind: "veth", Index: 2, ParentIndex: 2, MAC: "02:00:00:00:00:01", MTU: 1400, Up: true, Addresses: []string{"10.0.0.1/24"}},
		{Name: "child", Kind: "macvlan", Index: 3, Parent: "eth0", ParentIndex: 2, MAC: "02:00:00:00:00:02", MTU: 1400},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func TestSetLink(t *testing.T) {
	c := start(t)
	one, other := namespace(t, c, "one"), namespace(t, c, "other")
	lay(t, one, other, "10.0.0.1/24", "10.0.0.2/24")
	for _, up := range []bool{false, false, true, true} {
		check(t, c.SetLink(ctx(t), agent.SetLinkArgs{Netns: one, Name: "eth0", Up: up}))
		links, err := c.Links(ctx(t), one)
		check(t, err)
		if got := links[1].Up; got != up {
			t.Errorf("got %s up: %t, want %t", links[1].Name, got, up)
		}
	}
	wantError(t, c.SetLink(ctx(t), agent.SetLinkArgs{Netns: one, Name: "eth7"}), "node/a: link eth7: Link not found")
}

func TestSetMAC(t *testing.T) {
	c := start(t)
	one, other := namespace(t, c, "one"), namespace(t, c, "other")
	lay(t, one, other, "10.0.0.1/24", "10.0.0.2/24")
	check(t, c.SetMAC(ctx(t), agent.SetMACArgs{Netns: one, Name: "eth0", MAC: "02:00:00:00:00:55"}))
	links, err := c.Links(ctx(t), one)
	check(t, err)
	if got, want := links[1].MAC, "02:00:00:00:00:55"; got != want {
		t.Errorf("got MAC %s, want %s", got, want)
	}
	wantError(t, c.SetMAC(ctx(t), agent.SetMACArgs{Netns: one, Name: "eth7"}), "node/a: link eth7: Link not found")
}

func TestRoute(t *testing.T) {
	c := start(t)
	one, other := namespace(t, c, "one"), namespace(t, c, "other")
	lay(t, one, other, "10.0.0.1/24", "10.0.0.2/24")
	within(t, one, func() error {
		return netlink.RouteAdd(&netlink.Route{
			Gw: net.ParseIP("10.0.0.2"), Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)},
		})
	})
	for _, tt := range []struct{ name, address, want, wantErr string }{
		{name: "on the link", address: "10.0.0.2", want: "dev eth0 src 10.0.0.1"},
		{name: "behind a gateway", address: "192.0.2.9", want: "via 10.0.0.2 dev eth0 src 10.0.0.1"},
		{name: "own", address: "10.0.0.1", want: "dev lo src 10.0.0.1"},
		{name: "none", address: "203.0.113.1", wantErr: "node/a: route to 203.0.113.1: network is unreachable"},
		{name: "no address", address: "pigeon", wantErr: `node/a: address "pigeon": want an IP address`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Route(ctx(t), one, tt.address)
			wantError(t, err, tt.wantErr)
			if tt.wantErr == "" && got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
