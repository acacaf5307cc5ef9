package probe

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRun_unreachable(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	b.do(t, func() error { return addAddress("eth0", "10.9.0.102/24") })
	listen(t, b, ListenSpec{Protocol: UDP, Port: 8080, Name: "b"})
	wrongSource(t, b, 8081)
	silentServer(t, b, 8082)
	resettingServer(t, b, 8083)
	// The host that forwards drops packets to an address without an owner.
	a.do(t, func() error { return addRoute("10.77.0.0/16", "10.9.0.2", 0) })
	a.do(t, func() error { return addRoute("10.78.0.0/16", "10.9.0.2", 0) })
	b.do(t, func() error { return sysctl("ipv4/ip_forward", "1") })
	// The kernel sends reports to each address about once a second (ip_error in net/ipv4/route.c): every case uses
	// another address.
	for _, addr := range []string{"10.9.0.111/24", "10.9.0.112/24", "10.9.0.113/24", "10.9.0.114/24"} {
		a.do(t, func() error { return addAddress("eth0", addr) })
	}
	b.do(t, func() error { return addRoute("10.78.0.0/16", "10.9.0.9", 1400) })
	b.do(t, func() error { return addDeadEnd("10.77.1.0/24", unix.RTN_BLACKHOLE) })
	b.do(t, func() error { return addDeadEnd("10.77.2.0/24", unix.RTN_UNREACHABLE) })
	b.do(t, func() error { return addDeadEnd("10.77.3.0/24", unix.RTN_PROHIBIT) })
	a.do(t, func() error { return addRoute("fd77::/32", "fd09::2", 0) })
	b.do(t, func() error { return sysctl("ipv6/conf/all/forwarding", "1") })
	b.do(t, func() error { return addDeadEnd("fd77::/64", unix.RTN_UNREACHABLE) })

	failed := func(attempts int, local, why string) Result {
		return Result{Error: why, Attempts: attempts, Sent: 1, Local: local}
	}
	once := func(s Spec) Spec {
		s.Within, s.Attempts = 200*time.Millisecond, 1
		return s
	}
	for _, tt := range []struct {
		name string
		spec Spec
		want Result
	}{
		{"tcp without a listener", once(Spec{Protocol: TCP, To: "10.9.0.2", Port: 9}), failed(1, "10.9.0.1", "connect: connection refused")},
		{"tcp into a black hole", once(Spec{Protocol: TCP, To: "10.77.1.1", Port: 9}), failed(1, "10.9.0.1", "connect: no reply within 200ms")},
		{
			"tcp to an unreachable host", once(Spec{Protocol: TCP, To: "10.77.2.1", Port: 9, From: "10.9.0.111"}),
			failed(1, "10.9.0.111", "connect: no route to host"),
		},
		{"tcp without a route", once(Spec{Protocol: TCP, To: "192.0.2.1", Port: 9}), failed(1, "", "connect: network is unreachable")},
		{
			"tcp from an address of somebody else",
			once(Spec{Protocol: TCP, To: "10.9.0.2", Port: 9, From: "10.9.0.9"}),
			failed(1, "10.9.0.9", "bind: cannot assign requested address"),
		},
		{
			"tcp that accepts and never answers",
			once(Spec{Protocol: TCP, To: "10.9.0.2", Port: 8082}),
			failed(1, "10.9.0.1", "no answer to the request, then nothing for 200ms"),
		},
		{
			"tcp that accepts and resets",
			once(Spec{Protocol: TCP, To: "10.9.0.2", Port: 8083}),
			failed(1, "10.9.0.1", "no answer to the request: connection reset by peer"),
		},
		{"udp without a listener", once(Spec{Protocol: UDP, To: "10.9.0.2", Port: 9}), failed(1, "10.9.0.1", "connection refused")},
		{"udp without a listener over IPv6", once(Spec{Protocol: UDP, To: "fd09::2", Port: 9}), failed(1, "fd09::1", "connection refused")},
		{"udp into a black hole", once(Spec{Protocol: UDP, To: "10.77.1.1", Port: 9}), failed(1, "10.9.0.1", "no reply within 200ms")},
		{"udp to an unreachable host", once(Spec{Protocol: UDP, To: "10.77.2.1", Port: 9, From: "10.9.0.112"}), failed(1, "10.9.0.112", "no route to host")},
		{"udp without a route", once(Spec{Protocol: UDP, To: "192.0.2.1", Port: 9}), failed(1, "", "send: network is unreachable")},
		{
			"udp answered from another address",
			once(Spec{Protocol: UDP, To: "10.9.0.102", Port: 8081}),
			failed(1, "10.9.0.1", "reply came from 10.9.0.2, want 10.9.0.102"),
		},
		{
			"udp larger than the MTU",
			once(Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080, Size: 1501, DontFragment: true}),
			failed(1, "10.9.0.1", "send: message too long"),
		},
		{
			"udp larger than the MTU over IPv6",
			once(Spec{Protocol: UDP, To: "fd09::2", Port: 8080, Size: 1501, DontFragment: true}),
			failed(1, "fd09::1", "send: message too long"),
		},
		{"icmp into a black hole", once(Spec{Protocol: ICMP, To: "10.77.1.1"}), failed(1, "10.9.0.1", "no reply within 200ms")},
		{
			"icmp five times into a black hole",
			once(Spec{Protocol: ICMP, To: "10.77.1.1", Count: 5}),
			Result{Error: "0 of 5 requests answered within 200ms", Attempts: 1, Sent: 5, Local: "10.9.0.1"},
		},
		{
			"icmp to an unreachable host",
			once(Spec{Protocol: ICMP, To: "10.77.2.1", From: "10.9.0.113"}),
			failed(1, "10.9.0.113", "10.9.0.2 reports DestinationUnreachable(Host)"),
		},
		{
			"icmp that is prohibited",
			once(Spec{Protocol: ICMP, To: "10.77.3.1", From: "10.9.0.114"}),
			failed(1, "10.9.0.114", "10.9.0.2 reports DestinationUnreachable(CommAdminProhibited)"),
		},
		{
			"icmp to an unreachable host over IPv6",
			once(Spec{Protocol: ICMP, To: "fd77::1"}),
			failed(1, "fd09::1", "fd09::2 reports DestinationUnreachable(NoRouteToDst)"),
		},
		{"icmp without a route", once(Spec{Protocol: ICMP, To: "192.0.2.1"}), failed(1, "", "send: network is unreachable")},
		{
			"icmp larger than the MTU",
			once(Spec{Protocol: ICMP, To: "10.9.0.2", Size: 1501, DontFragment: true}),
			failed(1, "10.9.0.1", "send: message too long"),
		},
		{
			"icmp larger than the MTU over IPv6",
			once(Spec{Protocol: ICMP, To: "fd09::2", Size: 1501, DontFragment: true}),
			failed(1, "fd09::1", "send: message too long"),
		},
		{
			"udp larger than the MTU of a router",
			once(Spec{Protocol: UDP, To: "10.78.0.1", Port: 9, Size: 1500, DontFragment: true}),
			failed(1, "10.9.0.1", "message too long"),
		},
		{
			"icmp larger than the MTU of a router",
			once(Spec{Protocol: ICMP, To: "10.78.0.2", Size: 1500, DontFragment: true}),
			failed(1, "10.9.0.1", "10.9.0.2 reports DestinationUnreachable(FragmentationNeeded)"),
		},
		{
			"three attempts",
			Spec{Protocol: UDP, To: "10.77.1.1", Port: 9, Attempts: 3, Within: 600 * time.Millisecond},
			failed(3, "10.9.0.1", "no reply within 200ms"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(ask(t, a, tt.spec), tt.want, ignoreTimes); diff != "" {
				t.Errorf("got - want +\n%s", diff)
			}
		})
	}
}

func addDeadEnd(cidr string, kind int) error {
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Type: kind})
}

func addRoute(cidr, via string, mtu int) error {
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via), MTU: mtu, MTULock: mtu > 0})
}
