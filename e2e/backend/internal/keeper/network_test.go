package keeper

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestNetwork_restore changes a machine's network in ways that removing added objects does not undo.
func TestNetwork_restore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("want root, to make network namespaces")
	}
	for _, tt := range []struct {
		name   string
		change func(uplink netlink.Link) error
	}{
		{"a default route that is another's", func(uplink netlink.Link) error {
			return netlink.RouteReplace(defaultRoute(uplink, "10.9.0.7"))
		}},
		{"no default route", func(uplink netlink.Link) error { return netlink.RouteDel(defaultRoute(uplink, "10.9.0.1")) }},
		{"a default route of less cost", func(uplink netlink.Link) error {
			route := defaultRoute(uplink, "10.9.0.7")
			route.Priority = 5
			return netlink.RouteAdd(route)
		}},
		{"no rule", func(netlink.Link) error { return netlink.RuleDel(ownRule()) }},
		{"no way to the local table", func(netlink.Link) error {
			rules, err := netlink.RuleList(netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			return netlink.RuleDel(&rules[0])
		}},
		{"no address", func(uplink netlink.Link) error { return netlink.AddrDel(uplink, address()) }},
		{"an uplink that is down", netlink.LinkSetDown},
		{"an uplink of another name", func(uplink netlink.Link) error {
			// Whether the kernel renames a link that is up depends on its version.
			if err := netlink.LinkSetName(uplink, "away"); !errors.Is(err, unix.EBUSY) {
				return err
			}
			return netlink.LinkSetDown(uplink)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			machine, err := testutils.NewNS()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = machine.Close(); _ = testutils.UnmountNS(machine) }()
			if err := machine.Do(func(ns.NetNS) error {
				uplink := makeUplink(t)
				n, err := remember(t.Context())
				if err != nil {
					return err
				}
				if err := tt.change(uplink); err != nil {
					return err
				}
				left, err := n.restore(t.Context(), nil)
				if len(left) > 0 {
					t.Errorf("got left %q, want the network as it was", left)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// makeUplink makes the links and routes of a machine.
func makeUplink(t *testing.T) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "switch",
	}); err != nil {
		t.Fatal(err)
	}
	var uplink netlink.Link
	for _, name := range []string{"switch", "uplink"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		uplink = link
	}
	for _, err := range []error{
		netlink.AddrAdd(uplink, address()), netlink.RouteAdd(defaultRoute(uplink, "10.9.0.1")),
		netlink.RuleAdd(ownRule()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// The kernel adds link-local addresses some time later, which takes longer on a busy machine.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		own, err := netlink.AddrList(nil, netlink.FAMILY_V6) //nolint:forbidigo // an interrupted dump is repeated
		if err == nil && len(own) == 2 {
			return uplink
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s: addresses %v (%v), want a link-local one on each side", own, err)
		}
	}
}

func address() *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, 2), Mask: net.CIDRMask(24, 32)}}
}

func defaultRoute(uplink netlink.Link, via string) *netlink.Route {
	return &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP(via)}
}

func ownRule() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table, rule.Src = netlink.FAMILY_V4, 100, 7, &net.IPNet{
		IP: net.IPv4(10, 9, 0, 0), Mask: net.CIDRMask(24, 32),
	}
	return rule
}
