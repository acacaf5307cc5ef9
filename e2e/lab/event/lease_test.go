package event_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/lostthread"
	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/lab/dhcp"
	"github.com/cnitest/cnitest/e2e/lab/event"
)

// TestHappen_addresses_as_leased compares what is emulated with a DHCP client, systemd-networkd, to which another
// address is leased.
func TestHappen_addresses_as_leased(t *testing.T) {
	needPrograms(t)
	const before, after = "192.168.0.5/16", "192.168.255.253/16"
	var emulated, leased string
	inNode(t, func(t *testing.T, n *event.Node) {
		addForeign(t)
		addRoutesToPods(t)
		happen(t, n, event.AddressesChange)
		emulated = withoutWayOut(state(t))
	})
	inNode(t, func(t *testing.T, _ *event.Node) {
		static, _ := netlink.ParseAddr(before)
		if err := netlink.AddrDel(link(t, "eno1"), static); err != nil {
			t.Error(err)
		}
		l := newLAN(t)
		defer l.spaces.Close()
		l.serve(t, before)
		d := startClient(t)
		if d == nil {
			return
		}
		awaitState(t, d, func(s string) bool { return strings.Contains(s, before) && strings.Contains(s, wayOut) })
		addForeign(t)
		addRoutesToPods(t)
		// To a renewal version 252 hears no NAK: that is sent to all, and the socket has an address. With a new carrier
		// it asks for its address as after a boot.
		l.setPort(t, netlink.LinkSetDown)
		awaitState(t, d, func(s string) bool { return !strings.Contains(s, before) })
		l.setPort(t, netlink.LinkSetUp)
		l.serve(t, after)
		awaitState(t, d, func(s string) bool { return strings.Contains(s, after) && strings.Contains(s, wayOut) })
		leased = withoutWayOut(state(t))
		l.stop()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if diff := cmp.Diff(emulated, leased); diff != "" {
		t.Errorf("rules, routes and addresses (-emulated +leased):\n%s", diff)
	}
}

// addRoutesToPods adds a link with a route to one pod, whose source is the address of the node, and to another without.
func addRoutesToPods(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "pods"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "pod"}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"pods", "pod"} {
		if err := netlink.LinkSetUp(link(t, name)); err != nil {
			t.Error(err)
		}
	}
	for pod, source := range map[byte]net.IP{1: nil, 2: {192, 168, 0, 5}} {
		add(t, &netlink.Route{
			LinkIndex: link(t, "pods").Attrs().Index, Scope: netlink.SCOPE_LINK, Src: source,
			Dst: &net.IPNet{IP: net.IP{10, 1, 1, pod}, Mask: net.CIDRMask(32, 32)},
		})
	}
}

// wayOut is in the text of the node's default route.
const wayOut = "Gw: 192.168.0.1 "

// withoutWayOut returns a state without the node's own routes to the gateway and by it, of which networkd makes others
// than the lab.
func withoutWayOut(state string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(state, "\n"), func(line string) bool {
		return strings.Contains(line, wayOut) || strings.Contains(line, "Dst: 192.168.0.1/32 ")
	}), "\n")
}

// lan is the other end of eno1, in a network namespace of its own, with a DHCP server.
type lan struct {
	spaces lostthread.Namespaces
	server *dhcp.Server
}

// newLAN moves peer to a new network namespace.
func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{}
	here, err := lostthread.Here()
	if err != nil {
		t.Error(err)
		return l
	}
	defer here.Close()
	var there *os.File
	if err := lostthread.Do(func() (err error) {
		if err := here.Enter(); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if there, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		l.spaces, err = lostthread.Here()
		return err
	}); err != nil {
		t.Error(err)
		return l
	}
	defer there.Close()
	if err := netlink.LinkSetNsFd(link(t, "peer"), int(there.Fd())); err != nil {
		t.Error(err)
	}
	l.setPort(t, func(peer netlink.Link) error {
		address, _ := netlink.ParseAddr("192.168.0.1/16")
		return netlink.AddrAdd(peer, address)
	})
	l.setPort(t, netlink.LinkSetUp)
	return l
}

// inside calls f in the namespace.
func (l *lan) inside(t *testing.T, f func() error) {
	t.Helper()
	if err := lostthread.Do(func() error {
		if err := l.spaces.Enter(); err != nil {
			return err
		}
		return f()
	}); err != nil {
		t.Error(err)
	}
}

// setPort changes the link to the node.
func (l *lan) setPort(t *testing.T, change func(netlink.Link) error) {
	t.Helper()
	l.inside(t, func() error {
		peer, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		return change(peer)
	})
}

// serve starts a server that has one address, and knows of no other, in place of the one before.
func (l *lan) serve(t *testing.T, address string) {
	t.Helper()
	l.stop()
	l.inside(t, func() (err error) {
		l.server, err = dhcp.Start(dhcp.Config{
			Interface: "peer", Server: netip.MustParsePrefix("192.168.0.1/16"), Life: time.Hour,
			Pool: []netip.Addr{netip.MustParsePrefix(address).Addr()}, Router: netip.MustParseAddr("192.168.0.1"),
		})
		return err
	})
}

func (l *lan) stop() {
	if l.server != nil {
		_ = l.server.Close() // Serve has closed it if the link was down
	}
	l.server = nil
}

// startClient starts a systemd-networkd that manages eno1 with DHCP.
func startClient(t *testing.T) *debian.Root {
	t.Helper()
	d, err := debian.Open(debian.Dir())
	if err != nil {
		t.Error(err)
		return nil
	}
	for path, text := range map[string]string{
		"/etc/passwd": "root:x:0:0::/:/bin/sh\nsystemd-network:x:998:998::/:/usr/sbin/nologin\n",
		"/etc/group":  "root:x:0:\nsystemd-network:x:998:\n",
		"/run/systemd/network/10-cnitest.network": "[Match]\nName=eno1\n[Network]\nDHCP=ipv4\n" +
			"LinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n",
		filepath.Join("/run/udev/data", fmt.Sprintf("n%d", link(t, "eno1").Attrs().Index)): "I:1\nG:systemd\n" +
			"Q:systemd\nV:1\n", // without which it waits for udev
	} {
		if err := d.Write(path, text); err != nil {
			t.Error(err)
		}
	}
	if err := d.Start("/lib/systemd/systemd-networkd"); err != nil {
		t.Error(err)
	}
	return d
}

// awaitState waits until the client has changed the node's state as it is wanted.
func awaitState(t *testing.T, d *debian.Root, wanted func(state string) bool) {
	t.Helper()
	if err := d.Await("systemd-networkd", func() (bool, error) { return wanted(state(t)), nil }); err != nil {
		t.Errorf("%v\nstate:\n%s", err, state(t))
	}
}
