package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// K01: whatever node and pod send to each other, no frame on the wire maps the node's address to the child's hardware
// address. As a control, the test configures the node as the first seed's plugin does, and must see such frames.
func TestNodeStaysReachable(t *testing.T) {
	for _, tt := range []struct {
		name     string
		rpFilter string
		after    string // the child's own rp_filter, changed after ADD
		plain    bool
	}{
		{name: "rp_filter 0", rpFilter: "0"},
		{name: "rp_filter 1", rpFilter: "1"},
		{name: "rp_filter 2", rpFilter: "2"},
		{name: "rp_filter 0 on the child too", rpFilter: "0", after: "0"},
		{name: "control", rpFilter: "1", plain: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.inNode(func() error { return setRPFilter(tt.rpFilter, "all", "default", "eno1") })
			// Let the kernel learn at once. Otherwise it refuses to learn for a second after the last change.
			l.in(l.lan, func() error { return os.WriteFile("/proc/sys/net/ipv4/neigh/up0/locktime", []byte("0"), 0) })
			p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
			l.mustReach(l.lan, l.node, "192.168.0.5", "192.168.0.1")
			frames := capture(l, l.lan, "up0")
			if tt.plain {
				l.inNode(func() error { return addPlainRoute("192.168.1.2/32") })
				l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
				eventually(t, "want the control to claim the node's address for the child", func() bool {
					return claims(frames()) > 0
				})
				return
			}
			l.mustAdd(p)
			if tt.after != "" {
				l.inNode(func() error { return setRPFilter(tt.after, "eno1.host") })
			}
			for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
				l.mustReach(l.node, p.ns, "192.168.1.2", "192.168.0.5")
				l.mustReach(p.ns, l.node, "192.168.0.5", "192.168.1.2")
				l.mustReach(p.ns, l.node, "fd00:20::5", "fd00:20::102")
				l.mustReach(l.node, p.ns, "fd00:20::102", "fd00:20::5")
				// A host that does not know the node asks with a broadcast, which the child receives too.
				l.in(l.lan, func() error { return forget("up0") })
				l.mustReach(l.lan, l.node, "192.168.0.5", "192.168.0.1")
				l.mustReach(l.lan, l.node, "fd00:20::5", "fd00:20::1")
				l.mustReach(l.node, l.lan, "192.168.0.1", "192.168.0.5")
				if diff := cmp.Diff(masterMAC, neighbourOf(l, "192.168.0.5")); diff != "" {
					t.Fatalf("the LAN's neighbour for the node (-want +got):\n%s", diff)
				}
			}
			if got := claims(frames()); got != 0 {
				t.Errorf("want nothing on the wire that puts the node's address to the child, got %d frames", got)
			}
		})
	}
}

func setRPFilter(value string, links ...string) error {
	for _, link := range links {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+link+"/rp_filter", []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// patience bounds how long a test waits for an event that never comes. No verdict depends on it.
const patience = 2 * time.Minute

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s within %s", what, patience)
		}
	}
}

// addPlainRoute makes the child and the route as the seed shows them.
func addPlainRoute(dst string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "eno1.host", linkIndex("eno1")
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return err
	}
	if err := plugintest.Configure("eno1.host"); err != nil {
		return err
	}
	prefix, err := netlink.ParseIPNet(dst)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: prefix, Scope: netlink.SCOPE_LINK, LinkIndex: linkIndex("eno1.host")})
}

func forget(link string) error {
	list, err := netlink.NeighList(linkIndex(link), netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.State&unix.NUD_NOARP == 0 {
			if err := netlink.NeighDel(&n); err != nil {
				return err
			}
		}
	}
	return nil
}

func neighbourOf(l *lab, ip string) (mac string) {
	l.t.Helper()
	l.in(l.lan, func() error {
		list, err := netlink.NeighList(linkIndex("up0"), netlink.FAMILY_V4)
		for _, n := range list {
			if n.IP.String() == ip {
				mac = n.HardwareAddr.String()
			}
		}
		return err
	})
	return mac
}

// capture returns the frames that have come in on a link so far.
func capture(l *lab, n ns.NetNS, link string) (frames func() [][]byte) {
	l.t.Helper()
	fd := -1
	l.in(n, func() (err error) {
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: linkIndex(link)})
	})
	l.t.Cleanup(func() { unix.Close(fd) })
	var seen [][]byte
	return func() [][]byte {
		for {
			frame := make([]byte, 2048)
			size, from, err := unix.Recvfrom(fd, frame, unix.MSG_DONTWAIT)
			if err != nil {
				return seen
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
				seen = append(seen, frame[:size])
			}
		}
	}
}

// claims counts the frames from another hardware address than the master's that name one of the node's addresses as
// their sender: in ARP, or as the source or target of neighbour discovery.
func claims(frames [][]byte) int {
	master, _ := net.ParseMAC(masterMAC)
	count := 0
	for _, frame := range frames {
		if !bytes.Equal(frame[6:12], master) && names(frame) {
			count++
		}
	}
	return count
}

func names(frame []byte) bool {
	ip4, ip6 := netip.MustParseAddr("192.168.0.5").AsSlice(), netip.MustParseAddr("fd00:20::5").AsSlice()
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		return bytes.Equal(frame[28:32], ip4)
	case unix.ETH_P_IPV6:
		const solicitation, advertisement = 135, 136
		if len(frame) < 78 || frame[20] != unix.IPPROTO_ICMPV6 || frame[54] != solicitation &&
			frame[54] != advertisement {
			return false
		}
		return bytes.Equal(frame[22:38], ip6) || frame[54] == advertisement && bytes.Equal(frame[62:78], ip6)
	}
	return false
}

// K05: the child receives a router's advertisements and ignores them. The master takes the prefix, which shows that
// they arrive; the control takes it on the child too.
func TestRouterAdvertisements(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(map[bool]string{false: "child", true: "control"}[control], func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(l.pod("a", "192.168.1.2/16", "fd00:20::102/64"))
			if control {
				l.inNode(func() error {
					for _, key := range []string{"accept_ra", "autoconf"} {
						if err := os.WriteFile("/proc/sys/net/ipv6/conf/eno1.host/"+key, []byte("1"), 0); err != nil {
							return err
						}
					}
					return os.WriteFile("/proc/sys/net/ipv6/conf/eno1.host/addr_gen_mode", []byte("0"), 0)
				})
			}
			waitForAdvertised(l, "eno1")
			if control {
				waitForAdvertised(l, "eno1.host")
				return
			}
			waitForHeard(l, "eno1.host")
			l.inNode(func() error {
				addrs, err := addressesOf("eno1.host")
				if diff := cmp.Diff([]string{childLL + "/64"}, addrs); diff != "" {
					t.Errorf("addresses of the child (-want +got):\n%s", diff)
				}
				return err
			})
			for _, route := range sorted(lines(l.state(), "route ::/0")) {
				if diff := cmp.Diff("eno1", field(route, 3)); diff != "" {
					t.Errorf("default route (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func field(line string, n int) string {
	return string(bytes.Fields([]byte(line))[n])
}

func waitForAdvertised(l *lab, link string) {
	l.t.Helper()
	l.advertiseUntil("link "+link+": want an address of fd00:77::/64", func() (bool, error) {
		addrs, err := addressesOf(link)
		return slices.ContainsFunc(addrs, func(addr string) bool { return strings.HasPrefix(addr, "fd00:77:") }), err
	})
}

// waitForHeard waits until the kernel has handled an advertisement on link: macvlan hands broadcasts on from a work
// queue.
func waitForHeard(l *lab, link string) {
	l.t.Helper()
	l.advertiseUntil("link "+link+": want a router advertisement", func() (bool, error) {
		raw, err := os.ReadFile("/proc/thread-self/net/dev_snmp6/" + link)
		return regexp.MustCompile(`Icmp6InRouterAdvertisements\s+[1-9]`).Match(raw), err
	})
}

func (l *lab) advertiseUntil(want string, done func() (bool, error)) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for ok := false; !ok; {
		var sendErr error
		l.in(l.lan, func() error {
			sendErr = advertise() // not before the link has its link-local address
			return nil
		})
		l.inNode(func() (err error) {
			ok, err = done()
			return err
		})
		if !ok && time.Now().After(deadline) {
			l.t.Fatalf("%s within %s, last advertisement: %v", want, patience, sendErr)
		}
	}
}

func addressesOf(name string) ([]string, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V6)
	var addrs []string
	for _, addr := range list {
		addrs = append(addrs, addr.IPNet.String())
	}
	return addrs, err
}

// advertise sends one router advertisement with a prefix and a default route onto the LAN.
func advertise() error {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer conn.Close()
	up0, err := net.InterfaceByName("up0")
	if err != nil {
		return err
	}
	if err := conn.IPv6PacketConn().SetMulticastHopLimit(255); err != nil { // RFC 4861, 6.1.2: any other is ignored
		return err
	}
	body := make([]byte, 12, 44)
	body[0] = 64                                     // hop limit
	binary.BigEndian.PutUint16(body[2:], 1800)       // lifetime of the default route
	body = append(body, 3, 4, 64, 0xc0)              // prefix, on link and for addresses
	body = binary.BigEndian.AppendUint32(body, 1800) // valid
	body = binary.BigEndian.AppendUint32(body, 1800) // preferred
	body = append(body, 0, 0, 0, 0)
	prefix := netip.MustParseAddr("fd00:77::").As16()
	message := icmp.Message{
		Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: append(body, prefix[:]...)},
	}
	raw, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = conn.IPv6PacketConn().WriteTo(raw, &ipv6.ControlMessage{IfIndex: up0.Index},
		&net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: "up0"})
	return err
}

// With proxy_arp on "all", a macvlan on the node would answer its pods for each host of the LAN.
func TestProxyARP(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(map[bool]string{false: "child", true: "control"}[control], func(t *testing.T) {
			l := newLab(t)
			l.inNode(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/proxy_arp", []byte("1"), 0) })
			p := l.pod("a", "192.168.1.2/16")
			l.mustAdd(p)
			l.inNode(func() error { // answer at once, and not within 0.8 s
				return os.WriteFile("/proc/sys/net/ipv4/neigh/eno1.host/proxy_delay", []byte("0"), 0)
			})
			if control {
				l.inNode(func() error {
					return os.WriteFile("/proc/sys/net/ipv4/conf/eno1.host/medium_id", []byte("0"), 0)
				})
			}
			frames := capture(l, p.ns, "eth0")
			child, _ := net.ParseMAC(childMAC)
			answered := func() bool {
				l.in(p.ns, func() error { return forget("eth0") })
				l.mustReach(p.ns, l.lan, "192.168.0.1", "192.168.1.2")
				return slices.ContainsFunc(frames(), func(f []byte) bool {
					return binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_ARP && bytes.Equal(f[6:12], child) &&
						net.IP(f[28:32]).String() == "192.168.0.1"
				})
			}
			if control {
				eventually(t, "want the child to answer for the LAN", answered)
				return
			}
			for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
				if answered() {
					t.Fatal("the child answers for a host of the LAN")
				}
			}
		})
	}
}

// The child gets a copy of each broadcast that the master gets; a service of the node takes it once.
func TestBroadcasts(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(map[bool]string{false: "child", true: "control"}[control], func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(l.pod("a", "192.168.1.2/16"))
			if control {
				l.inNode(func() error { return setRPFilter("0", "eno1.host") })
			}
			var server, client net.PacketConn
			l.inNode(func() (err error) {
				server, err = net.ListenPacket("udp4", ":9999")
				return err
			})
			defer server.Close()
			l.in(l.lan, func() (err error) {
				client, err = net.ListenPacket("udp4", "192.168.0.1:0")
				return err
			})
			defer client.Close()
			const sent = 5
			for range sent {
				if _, err := client.WriteTo([]byte("x"), &net.UDPAddr{
					IP: net.IPv4(192, 168, 255, 255), Port: 9999,
				}); err != nil {
					t.Fatal(err)
				}
			}
			want := map[bool]int{false: sent, true: 2 * sent}[control]
			got := 0
			for {
				// The test waits for the copies that must come. Only after a while is it clear that no more come.
				wait := patience
				if got >= want {
					wait = 300 * time.Millisecond
				}
				server.SetReadDeadline(time.Now().Add(wait))
				if _, _, err := server.ReadFrom(make([]byte, 16)); err != nil {
					break
				}
				got++
			}
			if got != want {
				t.Errorf("got %d datagrams, want %d", got, want)
			}
		})
	}
}
