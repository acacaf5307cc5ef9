package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestNeighbour(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	permanent, err := net.ParseMAC("02:77:00:00:00:01")
	if err != nil {
		t.Fatal(err)
	}
	a.do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP("10.9.0.77"),
			HardwareAddr: permanent,
		})
	})
	for _, addr := range []string{"10.9.0.2", "fd09::2"} {
		t.Run(addr, func(t *testing.T) {
			wantNeighbour(t, a, addr, NeighbourEntry{}, false)
			if got := ask(t, a, Spec{Protocol: ICMP, To: addr}); !got.OK {
				t.Fatal(got.Error)
			}
			wantNeighbour(t, a, addr, NeighbourEntry{MAC: b.mac, State: "REACHABLE"}, true)
			if err := forgetNeighbours(a.path, "eth0"); err != nil {
				t.Fatal(err)
			}
			wantNeighbour(t, a, addr, NeighbourEntry{}, false)
			wantNeighbour(t, a, "10.9.0.77", NeighbourEntry{MAC: permanent.String(), State: "PERMANENT"}, true)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		ask(t, a, Spec{Protocol: ICMP, To: "10.9.0.78", Attempts: 1, Within: 10 * time.Millisecond})
		wantNeighbour(t, a, "10.9.0.78", NeighbourEntry{State: "INCOMPLETE"}, true)
	})
}

func wantNeighbour(t *testing.T, h *host, addr string, want NeighbourEntry, wantFound bool) {
	t.Helper()
	got, found, err := Neighbour(h.path, "eth0", addr)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" || found != wantFound {
		t.Errorf("%s: found %t, want %t; got - want +\n%s", addr, found, wantFound, diff)
	}
}

func TestNeighbour_bad(t *testing.T) {
	lan := newLAN(t, 1)
	for _, tt := range []struct {
		name, ifname, addr, wantErr string
	}{
		{"address", "eth0", "router", `neighbour: "router" is not an IP address`},
		{"link", "eth7", "10.9.0.2", `link "eth7": Link not found`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Neighbour(lan.hosts[0].path, tt.ifname, tt.addr)
			if got := errText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func TestAdvertise(t *testing.T) {
	lan := newLAN(t, 2)
	router, h := lan.hosts[0], lan.hosts[1]
	if got, want := fromAdvertisements(t, h), ""; got != want {
		t.Fatalf("got %q before the advertisement, want %q", got, want)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := Advertise(ctx, router.path, "eth0", Advertisement{
		Prefix: "fd00:99::/64", RouterLifetime: 30 * time.Minute,
	}); err != nil {
		t.Fatal(err)
	}
	var local net.IP
	router.do(t, func() (err error) {
		local, err = usableLinkLocal("eth0")
		return err
	})
	want := fmt.Sprintf("address fd00:99::9:ff:fe00:2/64\ndefault via %s\n", local)
	eventually(t, func() error {
		if got := fromAdvertisements(t, h); got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// fromAdvertisements returns the addresses and default routes that h has from a router, as text.
func fromAdvertisements(t *testing.T, h *host) string {
	t.Helper()
	var b strings.Builder
	h.do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			if addr.Flags&unix.IFA_F_PERMANENT == 0 {
				fmt.Fprintf(&b, "address %s\n", addr.IPNet)
			}
		}
		routes, err := netlink.RouteList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, route := range routes {
			if route.Gw != nil {
				fmt.Fprintf(&b, "default via %s\n", route.Gw)
			}
		}
		return nil
	})
	return b.String()
}

func TestAdvertise_bad(t *testing.T) {
	lan := newLAN(t, 1)
	h := lan.hosts[0]
	h.do(t, func() error { return setDown("eth0") })
	for _, tt := range []struct {
		name    string
		a       Advertisement
		wantErr string
	}{
		{"prefix", Advertisement{Prefix: "10.0.0.0/8"}, `advertise on eth0: "10.0.0.0/8" is not an IPv6 prefix`},
		{"lifetime", Advertisement{RouterLifetime: 24 * time.Hour}, "advertise on eth0: want a router lifetime of 0s to 18h12m15s, got 24h0m0s"},
		{"link down", Advertisement{}, "advertise on eth0: no usable link-local address: context deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if got := errText(Advertise(ctx, h.path, "eth0", tt.a)); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

// forgetNeighbours removes the neighbours that the interface ifname has learned, in the network namespace at path
// netns: the kernel asks again before the next packet to each of them. Permanent entries stay.
func forgetNeighbours(netns, ifname string) error {
	return onLink(netns, ifname, func(handle netlinksafe.Handle, link netlink.Link) error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			neighbours, err := neighbours(handle, link, family)
			if err != nil {
				return err
			}
			for _, n := range neighbours {
				if n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
					continue
				}
				// The kernel may have removed the entry meanwhile.
				if err := handle.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("forget neighbour %s: %w", n.IP, err)
				}
			}
		}
		return nil
	})
}
