package eni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	pod6, other6 = "2001:db8::5", "2001:db8::6"
	node6        = "2001:db8:1::1"
)

// TestGuard sends as a pod that has the address of another one, and one of its own making on the link. Without the
// guard the node gets both.
func TestGuard(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		t.Run(fmt.Sprint("guarded ", guarded), func(t *testing.T) {
			inLab(t, func(l *lab) {
				pod := l.pod6()
				defer pod.Close()
				opts := l.options()
				opts.CheckSources, opts.NoMetadata = guarded, guarded
				for range 2 {
					l.ok(New(opts).Guard())
				}
				if !l.arrives(pod, pod6) {
					t.Error("nothing arrives with the pod's own address")
				}
				if got := l.arrives(pod, other6); got == guarded {
					t.Errorf("with the address of another pod: got %t, want %t", got, !guarded)
				}
				if got := l.learns(pod); got == guarded {
					t.Errorf("the node learned a neighbour: got %t, want %t", got, !guarded)
				}
			})
		})
	}
}

// pod6 makes a pod as the plugin does, which also has the address of another pod, and link-local ones of its own.
func (l *lab) pod6() ns.NetNS {
	pod := l.podLink()
	l.ok(os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	l.ok(errors.Join(l.up("lo"), l.up(podLink)))
	host, err := netlink.LinkByName(podLink)
	l.ok(err)
	l.ok(without6DAD(podLink, "fe80::1/64"))
	l.ok(without6DAD("lo", node6+"/128"))
	l.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: host.Attrs().Index, Dst: single(pod6)}))
	l.ok(pod.Do(func(ns.NetNS) error {
		// With them the node would know the pod's link-local addresses before it is guarded.
		l.ok(os.WriteFile("/proc/sys/net/ipv6/conf/eth0/router_solicitations", []byte("0"), 0))
		l.ok(errors.Join(l.up("lo"), l.up("eth0")))
		for _, address := range []string{pod6, other6, "fe80::66"} {
			l.ok(without6DAD("eth0", address+"/128"))
		}
		eth0, err := netlink.LinkByName("eth0")
		l.ok(err)
		index, gateway := eth0.Attrs().Index, net.ParseIP("fe80::1")
		l.ok(netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index, IP: gateway, HardwareAddr: host.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT,
		}))
		return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway})
	}))
	return pod
}

func single(address string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(128, 128)}
}

// without6DAD gives a link an IPv6 address that can be used at once.
func without6DAD(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	address.Flags = unix.IFA_F_NODAD
	return netlink.AddrReplace(link, address)
}

// arrives reports whether the node gets a datagram of the pod with a source.
func (l *lab) arrives(pod ns.NetNS, source string) bool {
	server, err := net.ListenPacket("udp", "["+node6+"]:8080")
	if err != nil {
		l.t.Fatal(err)
	}
	defer server.Close()
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		l.ok(pod.Do(func(ns.NetNS) error {
			return say(net.UDPAddr{IP: net.ParseIP(source)}, net.UDPAddr{IP: net.ParseIP(node6), Port: 8080})
		}))
		l.ok(server.SetReadDeadline(time.Now().Add(50 * time.Millisecond)))
		_, from, err := server.ReadFrom(make([]byte, 16))
		if err == nil && netip.MustParseAddrPort(from.String()).Addr() == netip.MustParseAddr(source) {
			return true
		}
	}
	return false
}

// say sends a datagram.
func say(from, to net.UDPAddr) error {
	conn, err := net.DialUDP("udp", &from, &to)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	return err
}

// learns makes the pod ask for the node with a link-local address of its own making, and reports whether the node then
// knows that address.
func (l *lab) learns(pod ns.NetNS) bool {
	l.ok(pod.Do(func(ns.NetNS) error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.NeighDel(&netlink.Neigh{
			LinkIndex: eth0.Attrs().Index, IP: net.ParseIP("fe80::1"),
		}); err != nil {
			return err
		}
		link := func(address string) net.UDPAddr {
			return net.UDPAddr{IP: net.ParseIP(address), Zone: "eth0", Port: 8080}
		}
		return say(link("fe80::66"), link("fe80::1"))
	}))
	host, err := netlink.LinkByName(podLink)
	l.ok(err)
	for deadline := time.Now().Add(500 * time.Millisecond); time.Now().Before(deadline); {
		known, err := netlink.NeighList(host.Attrs().Index, unix.AF_INET6) //nolint:forbidigo // in a test
		l.ok(err)
		if slices.ContainsFunc(known, func(n netlink.Neigh) bool { return n.IP.Equal(net.ParseIP("fe80::66")) }) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}
