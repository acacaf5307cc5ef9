package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace runs a test in a network namespace of its own, which has no name and ends with its thread.
func inNamespace(t *testing.T, test func(t *testing.T, n *Namespace)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread must not be used again
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		n, err := Current()
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		test(t, n)
	}()
	<-done
}

func veth(t *testing.T, name string, addrs ...netlink.Addr) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "p-" + name})
	link, linkErr := netlink.LinkByName(name)
	if err := errors.Join(err, linkErr); err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	for _, addr := range addrs {
		if err := netlink.AddrAdd(link, &addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	return link
}

func addr(s string, scope, flags int) netlink.Addr {
	a, err := netlink.ParseAddr(s)
	if err != nil {
		return netlink.Addr{}
	}
	a.Scope, a.Flags = scope, flags
	return *a
}

func TestAddresses(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		up := veth(t, "up", addr("10.0.0.1/24", 0, 0), addr("10.0.2.2/24", unix.RT_SCOPE_LINK, 0),
			addr("fd00::1/64", 0, unix.IFA_F_NODAD),
			addr("fe80::1/64", unix.RT_SCOPE_LINK, unix.IFA_F_NODAD), addr("127.0.0.9/32", 0, 0))
		old := addr("fd00::2/64", 0, unix.IFA_F_NODAD)
		old.ValidLft, old.PreferedLft = 100, 0 // deprecated
		if err := errors.Join(netlink.AddrAdd(up, &old), netlink.LinkSetUp(up)); err != nil {
			t.Error(err)
		}
		veth(t, "down", addr("10.0.1.1/24", 0, 0))
		got, err := n.Addresses(false, true)
		want := []string{"10.0.0.1/24", "fd00::1/64"}
		var prefixes []string
		for _, a := range got {
			prefixes = append(prefixes, a.Prefix.String())
			if a.Link != up.Attrs().Index {
				t.Errorf("%s: got link %d, want %d", a.Prefix, a.Link, up.Attrs().Index)
			}
		}
		if diff := cmp.Diff(want, prefixes); diff != "" || err != nil {
			t.Errorf("(-want +got):\n%s%v", diff, err)
		}
		for i, ipv6 := range []bool{false, true} {
			if alone, err := n.Addresses(ipv6); err != nil || !slices.Equal(alone, got[i:i+1]) {
				t.Errorf("IPv6 %t: got %v, %v, want %v", ipv6, alone, err, got[i])
			}
		}
	})
}

func TestEnsureLinkLocal(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		link := veth(t, "eth0")
		ip := netip.MustParseAddr("fe80::5")
		for range 2 {
			if err := n.EnsureLinkLocal(link, ip); err != nil {
				t.Error(err)
			}
		}
		if has, err := n.HasAddress(link, ip); !has || err != nil {
			t.Errorf("got %v, %v", has, err)
		}
		if has, err := n.HasAddress(link, netip.MustParseAddr("fe80::6")); has || err != nil {
			t.Errorf("got %v, %v", has, err)
		}
	})
}

func TestRoutes(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		link := veth(t, "eth0", addr("10.0.0.1/24", 0, 0), addr("fd00::1/64", 0, unix.IFA_F_NODAD))
		other := veth(t, "eth1")
		for _, l := range []string{"eth0", "p-eth0", "eth1", "p-eth1"} {
			if err := netlink.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: l}}); err != nil {
				t.Error(err)
			}
		}
		eth0, eth1 := link.Attrs().Index, other.Attrs().Index
		a, a6 := netip.MustParseAddr("10.0.9.9"), netip.MustParseAddr("fd00:9::9")
		for _, r := range []HostRoute{
			{Dst: a, Link: eth1},
			{Dst: a, Link: eth0}, // in place of the one before
			{Dst: a, Link: eth0, Src: netip.MustParseAddr("10.0.0.1")},
			{Dst: a, Link: eth0, Via: netip.MustParseAddr("10.0.0.2")},
			{Dst: a6, Link: eth1},
			{Dst: a6, Link: eth0, Src: netip.MustParseAddr("fd00::1")},
			{Dst: a6, Link: eth0, Via: netip.MustParseAddr("fd00::2")},
		} {
			for range 2 {
				listed := mainRoutes(t, n)
				if err := n.EnsureRoute(r, listed); err != nil {
					t.Errorf("%v: %v", r, err)
				}
			}
			if got := to(mainRoutes(t, n), r.Dst); len(got) != 1 || !r.Matches(got[0]) {
				t.Errorf("got %v, want %v alone", got, r)
			}
		}
		// Routes that differ in one thing only are others, and each can be deleted alone.
		if err := n.EnsureRoute(HostRoute{Dst: a, Link: eth1, Metric: 7}, nil); err != nil {
			t.Error(err)
		}
		for _, route := range to(mainRoutes(t, n), a) {
			for range 2 {
				if err := n.DeleteRoute(route); err != nil {
					t.Error(err)
				}
			}
		}
		if got := to(mainRoutes(t, n), a); len(got) != 0 {
			t.Errorf("got %v, want none", got)
		}
		err := n.EnsureRoute(HostRoute{Dst: a, Link: eth1, Via: netip.MustParseAddr("10.7.7.7")}, nil)
		if got, want := fmt.Sprint(err), "route to 10.0.9.9: network is unreachable"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func mainRoutes(t *testing.T, n *Namespace) []netlink.Route {
	routes, err := n.MainRoutes()
	if err != nil {
		t.Error(err)
	}
	return routes
}

func to(routes []netlink.Route, ip netip.Addr) []netlink.Route {
	var found []netlink.Route
	for _, route := range routes {
		if dst, ok := Destination(route); ok && dst == netip.PrefixFrom(ip, ip.BitLen()) {
			found = append(found, route)
		}
	}
	return found
}

func TestNeighbours(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		link := veth(t, "eth0")
		if err := netlink.LinkSetUp(link); err != nil {
			t.Error(err)
		}
		index := link.Attrs().Index
		want := map[netip.Addr]net.HardwareAddr{
			netip.MustParseAddr("10.0.0.9"): {2, 0, 0, 0, 0, 9}, netip.MustParseAddr("fd00::9"): {2, 0, 0, 0, 0, 8},
		}
		learned := &netlink.Neigh{LinkIndex: index, IP: net.ParseIP("10.0.0.9"), HardwareAddr: net.HardwareAddr{
			2, 0, 0,
			0, 0, 1,
		}, State: netlink.NUD_STALE}
		if err := netlink.NeighAdd(learned); err != nil {
			t.Error(err)
		}
		for ip, mac := range want {
			for range 2 {
				listed, err := n.Permanent(index)
				if err := errors.Join(err, n.EnsureNeighbour(index, ip, mac, listed)); err != nil {
					t.Error(err)
				}
			}
		}
		got, err := n.Permanent(index)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool {
			return a == b
		})); diff != "" || err != nil {
			t.Errorf("(-want +got):\n%s%v", diff, err)
		}
		for ip := range want {
			for range 2 {
				if err := n.DeleteNeighbour(index, ip); err != nil {
					t.Error(err)
				}
			}
		}
		if got, err := n.Permanent(index); len(got) != 0 || err != nil {
			t.Errorf("got %v, %v, want none", got, err)
		}
	})
}

func TestSysctls(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		veth(t, "eth0.7")
		for range 2 {
			if err := n.EnsureSysctl("eth0.7", Sysctl{Family: "ipv4", Key: "arp_filter", Value: "1"}); err != nil {
				t.Error(err)
			}
		}
		if got, err := n.Sysctl("ipv4", "eth0.7", "arp_filter"); got != "1" || err != nil {
			t.Errorf("got %q, %v, want 1", got, err)
		}
		if err := n.EnsureSysctl("eth0.7", Sysctl{Family: "ipv4", Key: "no_such", Value: "1"}); !errors.Is(err,
			ErrNoSysctl) {
			t.Errorf("got %v, want %v", err, ErrNoSysctl)
		}
		// Another namespace has settings of its own, whatever thread asks.
		other, err := otherNamespace(n)
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		for range 2 {
			if err := other.EnsureSysctl("lo", Sysctl{Family: "ipv4", Key: "arp_filter", Value: "1"}); err != nil {
				t.Error(err)
			}
		}
		for want, n := range map[string]*Namespace{"0": n, "1": other} {
			if got, err := n.Sysctl("ipv4", "lo", "arp_filter"); got != want || err != nil {
				t.Errorf("got %q, %v, want %s", got, err, want)
			}
		}
		// What was opened once is found in the kernel's cache again: the directory of lo would have another inode.
		var seen []uint64
		for range 2 {
			var stat unix.Stat_t
			fd, err := other.openSysctl("ipv4", "lo", "", unix.O_PATH)
			if err := errors.Join(err, unix.Fstat(fd, &stat)); err != nil {
				t.Error(err)
			}
			defer unix.Close(fd)
			seen = append(seen, stat.Ino)
		}
		if seen[0] != seen[1] {
			t.Errorf("got inodes %v of one directory, want one", seen)
		}
	})
}

// The same index in two namespaces is not the same device.
func TestIsParent(t *testing.T) {
	inNamespace(t, func(t *testing.T, node *Namespace) {
		parent := veth(t, "eth0")
		fd, err := netns.Get()
		if err != nil {
			t.Error(err)
		}
		defer fd.Close()
		pod, err := otherNamespace(node)
		if err != nil {
			t.Error(err)
			return
		}
		defer pod.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.Namespace = "eth0", parent.Attrs().Index, netlink.NsFd(int(pod.ns))
		if err := node.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
			t.Error(err)
		}
		link, err := pod.LinkByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		for _, tt := range []struct {
			of    *Namespace
			index int
			want  bool
		}{
			{node, parent.Attrs().Index, true},
			{node, parent.Attrs().Index + 1, false},
			{pod, parent.Attrs().Index, false},
		} {
			if got, err := pod.IsParent(link, tt.index, tt.of); got != tt.want || err != nil {
				t.Errorf("index %d: got %v, %v, want %v", tt.index, got, err, tt.want)
			}
		}
		if pod.Is(node) || !pod.Is(pod) {
			t.Error("want each namespace to be itself alone")
		}
	})
}

// otherNamespace makes one more namespace and comes back.
func otherNamespace(back *Namespace) (*Namespace, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	other, err := Open("/proc/thread-self/ns/net")
	return other, errors.Join(err, unix.Setns(int(back.ns), unix.CLONE_NEWNET))
}

func TestOpen_errors(t *testing.T) {
	for path, want := range map[string]string{
		"":          `network namespace "": no such file or directory`,
		"/none":     `network namespace "/none": no such file or directory`,
		"/dev/null": `network namespace "/dev/null": failed to set into network namespace`,
	} {
		_, err := Open(path)
		if got := fmt.Sprint(err); got[:min(len(got), len(want))] != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
