package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// exchange sends a line each way over one TCP connection, and returns the address that the server saw.
func (l *lab) exchange(from, to ns.NetNS, ip string, wait time.Duration) (string, error) {
	l.t.Helper()
	var listener net.Listener
	l.in(to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(ip, "0"))
		return err
	})
	defer listener.Close()
	peer := make(chan netip.Addr, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		line := make([]byte, 5)
		if _, err := conn.Read(line); err != nil {
			return
		}
		_, _ = conn.Write(line)
		seen, _ := netipx.FromStdIP(conn.RemoteAddr().(*net.TCPAddr).IP)
		peer <- seen
	}()
	var failed error
	l.in(from, func() error {
		failed = dialTo(listener.Addr().String(), wait)
		return nil
	})
	if failed != nil {
		return "", failed
	}
	return (<-peer).String(), nil
}

func dialTo(addr string, wait time.Duration) error {
	conn, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 5))
	return err
}

// mustReach fails the test unless a connection works and the server sees the client's address.
func (l *lab) mustReach(from, to ns.NetNS, ip, client string) {
	l.t.Helper()
	if seen, err := l.exchange(from, to, ip, patience); err != nil {
		l.t.Errorf("%s connects to %s: %v", client, ip, err)
	} else if seen != client {
		l.t.Errorf("connect to %s: got client address %s, want %s", ip, seen, client)
	}
}

// Pods on both ENIs reach each other, the node and the VPC by their own addresses, and are reached, with strict
// reverse-path filtering on all links. The VPC drops packets from an ENI that does not have their source address.
func TestPaths(t *testing.T) {
	l := newLab(t)
	l.start()
	var pods []*pod
	for i := range 4 {
		p := l.pod(fmt.Sprint("p", i))
		l.mustAdd(p)
		pods = append(pods, p)
	}
	ips := []string{"10.0.0.30", "10.0.97.30", "10.0.0.31", "10.0.97.31"}
	for i, p := range pods {
		next := (i + 1) % len(pods)
		l.mustReach(p.ns, pods[next].ns, ips[next], ips[i])
		across := (i + 2) % len(pods)
		l.mustReach(p.ns, pods[across].ns, ips[across], ips[i])
		l.mustReach(p.ns, l.node, "10.0.0.10", ips[i])
		l.mustReach(p.ns, p.ns, ips[i], ips[i])
		l.mustReach(p.ns, l.vpc, "10.0.0.1", ips[i])
		l.mustReach(p.ns, l.vpc, "10.0.97.1", ips[i])
		l.mustReach(l.node, p.ns, ips[i], "10.0.0.10")
	}
	l.mustReach(l.vpc, pods[1].ns, ips[1], "10.0.97.1")
	// B06: the tracked connections of a pod are removed with it, and no others.
	if l.connections(ips[0]) == 0 || l.connections(ips[2]) == 0 {
		t.Fatal("want tracked connections of each pod")
	}
	l.mustDel(pods[0])
	if gone, others := l.connections(ips[0]), l.connections(ips[2]); gone != 0 || others == 0 {
		t.Errorf("got %d connections of the pod and %d of another, want 0 and some", gone, others)
	}
	// The test can fail: without its rule a pod on the second ENI sends over the first one.
	l.in(l.node, func() error { return removeRule(1536, ips[1], "") })
	if _, err := l.exchange(pods[1].ns, l.vpc, "10.0.97.1", time.Second); err == nil {
		t.Error("want that nothing comes back without the rule")
	}
}

// connections returns how many connections of an address the node tracks.
func (l *lab) connections(ip string) int {
	l.t.Helper()
	count := 0
	l.in(l.node, func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, flow := range flows {
			if flow.Forward.SrcIP.String() == ip || flow.Forward.DstIP.String() == ip {
				count++
			}
		}
		return err
	})
	return count
}

func disableIPv6() error {
	for _, link := range []string{"all", "default", "lo"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("1"), 0); err != nil {
			return err
		}
	}
	return nil
}

// The IPv6 mode of amazon's plugin: one /80 prefix of the primary ENI, no table of its own, and addresses that can be
// used when ADD returns.
func TestIPv6(t *testing.T) {
	one := enis()[:1]
	one[0].prefix6 = "fd00:0:0:0:1::/80"
	l := newLab(t, one...)
	l.start("--ip-family", "ipv6")
	bare := l.state()
	a, b := l.pod("a"), l.pod("b")
	l.in(b.ns, disableIPv6) // as a runtime without IPv6 does
	l.mustAdd(a)
	l.mustAdd(b)
	gateway := fmt.Sprintf("addr fe80::1/64 dev %s\n", b.link())
	want := gateway + fmt.Sprintf("route fd00::1:0:0:2 dev %s\nIPv6 512:\tfrom all to fd00::1:0:0:2 lookup main\n",
		b.link())
	got := lines(added(bare, l.state()), "addr fe80::1/64 dev "+b.link(), "route fd00::1:0:0:2",
		"IPv6 512:\tfrom all to fd00::1:0:0:2", "1536")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	want = fmt.Sprintf("addr fd00::1:0:0:2/128 dev eth0\nneigh fe80::1 dev eth0 lladdr %s PERMANENT\nroute default "+
		"via fe80::1 dev eth0\nroute fe80::1 dev eth0\n",
		b.identity().mac("host"))
	if diff := cmp.Diff(want, lines(stateOf(t, b.ns), "addr fd", "neigh", "route default",
		"route fe80::1 ")); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	l.mustReach(b.ns, b.ns, "fd00::1:0:0:2", "fd00::1:0:0:2")
	l.mustReach(a.ns, b.ns, "fd00::1:0:0:2", "fd00::1:0:0:1")
	l.mustReach(l.node, b.ns, "fd00::1:0:0:2", "fd00::10")
	l.mustReach(b.ns, l.vpc, "fd00::1", "fd00::1:0:0:2")
	l.mustReach(l.vpc, b.ns, "fd00::1:0:0:2", "fd00::1")
	for _, p := range []*pod{a, b} {
		wantError(t, l.check(p, nil), "")
		l.mustDel(p)
	}
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("after DEL (-want +got):\n%s", diff)
	}
}
