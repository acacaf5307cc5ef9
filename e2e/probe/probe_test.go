package probe

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// ignoreTimes ignores the fields of a Result that differ from run to run.
var ignoreTimes = cmpopts.IgnoreFields(Result{}, "Worst", "FirstReply", "Duration")

func listen(t *testing.T, h *host, s ListenSpec) *Listener {
	t.Helper()
	l, err := Listen(h.path, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func ask(t *testing.T, h *host, s Spec) Result {
	t.Helper()
	r, err := Run(context.Background(), h.path, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	listen(t, b, ListenSpec{Protocol: TCP, Port: 8080, Name: "b"})
	listen(t, b, ListenSpec{Protocol: UDP, Port: 8080, Name: "b"})
	a.do(t, func() error { return addAddress("eth0", "10.9.0.101/24") })
	b.do(t, func() error { return addAddress("eth0", "10.9.0.102/24") })
	// On a busy machine the first question for a MAC may be lost, and is repeated after a second.
	for _, to := range []string{"10.9.0.2", "fd09::2"} {
		ask(t, a, Spec{Protocol: ICMP, To: to})
	}
	var local string
	b.do(t, func() error {
		ip, err := usableLinkLocal("eth0")
		local = ip.String()
		return err
	})
	var asker string
	a.do(t, func() error {
		ip, err := usableLinkLocal("eth0")
		asker = ip.String()
		return err
	})

	answered := Result{
		OK: true, Server: "b", PeerSeen: "10.9.0.1", ServerAddress: "10.9.0.2", Local: "10.9.0.1",
		Attempts: 1, Sent: 1, Received: 1,
	}
	change := func(fn func(*Result)) Result {
		r := answered
		fn(&r)
		return r
	}
	v6 := change(func(r *Result) { r.PeerSeen, r.ServerAddress, r.Local = "fd09::1", "fd09::2", "fd09::1" })
	echoed := change(func(r *Result) { r.Server, r.PeerSeen = "", "" })
	for _, tt := range []struct {
		name string
		spec Spec
		want Result
	}{
		{"tcp", Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080}, answered},
		{"tcp of one byte", Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080, Bytes: 1}, answered},
		{"tcp of a block and a byte", Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080, Bytes: blockSize + 1}, answered},
		{"tcp three times", Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080, Count: 3}, change(func(r *Result) { r.Sent, r.Received = 3, 3 })},
		{
			"tcp from another address",
			Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080, From: "10.9.0.101"},
			change(func(r *Result) { r.PeerSeen, r.Local = "10.9.0.101", "10.9.0.101" }),
		},
		{"tcp over IPv6", Spec{Protocol: TCP, To: "fd09::2", Port: 8080}, v6},
		{
			"tcp over a link-local address",
			Spec{Protocol: TCP, To: local + "%eth0", Port: 8080},
			change(func(r *Result) { r.PeerSeen, r.ServerAddress, r.Local = asker, local, asker }),
		},
		{"udp", Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080}, answered},
		{
			"udp to and from further addresses",
			Spec{Protocol: UDP, To: "10.9.0.102", Port: 8080, From: "10.9.0.101"},
			change(func(r *Result) { r.PeerSeen, r.ServerAddress, r.Local = "10.9.0.101", "10.9.0.102", "10.9.0.101" }),
		},
		{"udp over IPv6", Spec{Protocol: UDP, To: "fd09::2", Port: 8080}, v6},
		{
			"udp over a link-local address",
			Spec{Protocol: UDP, To: local + "%eth0", Port: 8080},
			change(func(r *Result) { r.PeerSeen, r.ServerAddress, r.Local = asker, local, asker }),
		},
		{"udp of full size", Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080, Size: 1500, DontFragment: true}, answered},
		{
			"udp by broadcast",
			Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080, Via: "10.9.0.255", Device: "eth0"},
			change(func(r *Result) { r.ServerAddress = "10.9.0.255" }),
		},
		{
			"udp by multicast",
			Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080, Via: "224.0.0.1", Device: "eth0"},
			change(func(r *Result) { r.ServerAddress = "224.0.0.1" }),
		},
		{"udp in fragments", Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080, Size: 5000}, answered},
		{"udp of full size over IPv6", Spec{Protocol: UDP, To: "fd09::2", Port: 8080, Size: 1500, DontFragment: true}, v6},
		{"icmp", Spec{Protocol: ICMP, To: "10.9.0.2"}, echoed},
		{"icmp with a port, which means nothing", Spec{Protocol: ICMP, To: "10.9.0.2", Port: 8080}, echoed},
		{"icmp five times", Spec{Protocol: ICMP, To: "10.9.0.2", Count: 5}, change(func(r *Result) {
			r.Server, r.PeerSeen, r.Sent, r.Received = "", "", 5, 5
		})},
		{"icmp from another address", Spec{Protocol: ICMP, To: "10.9.0.2", From: "10.9.0.101"}, change(func(r *Result) {
			r.Server, r.PeerSeen, r.Local = "", "", "10.9.0.101"
		})},
		{"icmp of full size", Spec{Protocol: ICMP, To: "10.9.0.2", Size: 1500, DontFragment: true}, echoed},
		{"icmp in fragments", Spec{Protocol: ICMP, To: "10.9.0.2", Size: 1501}, echoed},
		{"icmp of the least size", Spec{Protocol: ICMP, To: "10.9.0.2", Size: 40}, echoed},
		{
			"icmp of full size over IPv6",
			Spec{Protocol: ICMP, To: "fd09::2", Size: 1500, DontFragment: true},
			change(func(r *Result) {
				r.Server, r.PeerSeen, r.ServerAddress, r.Local = "", "", "fd09::2", "fd09::1"
			}),
		},
		{"icmp over a link-local address", Spec{Protocol: ICMP, To: local + "%eth0"}, change(func(r *Result) {
			r.Server, r.PeerSeen, r.ServerAddress, r.Local = "", "", local, asker
		})},
		{"icmp to itself", Spec{Protocol: ICMP, To: "10.9.0.1"}, change(func(r *Result) {
			r.Server, r.PeerSeen, r.ServerAddress = "", "", "10.9.0.1"
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(t, a, tt.spec)
			if diff := cmp.Diff(got, tt.want, ignoreTimes); diff != "" {
				t.Errorf("got - want +\n%s", diff)
			}
			if got.FirstReply <= 0 || got.FirstReply > got.Duration {
				t.Errorf("got first reply after %s of %s", got.FirstReply, got.Duration)
			}
		})
	}
}

// TestRun_reportsOfOthers checks that a probe ignores ICMP errors caused by another probe in its namespace.
func TestRun_reportsOfOthers(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	a.do(t, func() error { return addRoute("10.77.0.0/16", "10.9.0.2", 0) })
	b.do(t, func() error { return sysctl("ipv4/ip_forward", "1") })
	b.do(t, func() error { return addDeadEnd("10.77.1.0/24", unix.RTN_BLACKHOLE) })
	b.do(t, func() error { return addDeadEnd("10.77.2.0/24", unix.RTN_UNREACHABLE) })
	silent := make(chan Result, 1)
	go func() {
		r, _ := Run(context.Background(), a.path, Spec{
			Protocol: ICMP, To: "10.77.1.1", Attempts: 1, Within: time.Second,
		})
		silent <- r
	}()
	reported := 0
	// The kernel sends about six reports in a row: they are spread over the time of the other probe.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ; len(silent) == 0; <-tick.C {
		got := ask(t, a, Spec{Protocol: ICMP, To: "10.77.2.1", Attempts: 1, Within: 50 * time.Millisecond})
		if got.Error == "10.9.0.2 reports DestinationUnreachable(Host)" {
			reported++
		}
	}
	if got, want := (<-silent).Error, "no reply within 1s"; got != want || reported == 0 {
		t.Errorf("got error %q beside %d reports of others, want %q beside some", got, reported, want)
	}
}

func TestRun_keepsTrying(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	for _, protocol := range []Protocol{TCP, UDP} {
		t.Run(string(protocol), func(t *testing.T) {
			done := make(chan Result, 1)
			go func() {
				r, _ := Run(context.Background(), a.path, Spec{
					Protocol: protocol, To: "10.9.0.2", Port: 8080, Within: 20 * time.Second,
				})
				done <- r
			}()
			refused := Spec{Protocol: protocol, To: "10.9.0.2", Port: 8080, Attempts: 2}
			if got := ask(t, a, refused); got.OK {
				t.Fatalf("got an answer without a listener: %+v", got)
			}
			listen(t, b, ListenSpec{Protocol: protocol, Port: 8080, Name: "late"})
			got := <-done
			if !got.OK || got.Attempts < 2 || got.Error != "" || got.Server != "late" {
				t.Errorf("got %+v, want an answer by late at a later attempt", got)
			}
		})
	}
}

func TestRun_cancelled(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	silentServer(t, b, 8082)
	b.do(t, func() error { return sysctl("ipv4/icmp_echo_ignore_all", "1") })
	for _, protocol := range []Protocol{TCP, UDP, ICMP} {
		t.Run(string(protocol), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			got, err := Run(ctx, a.path, Spec{
				Protocol: protocol, To: "10.9.0.2", Port: 8082, Within: time.Minute, Attempts: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.OK || got.Error == "" || got.Duration > 5*time.Second {
				t.Errorf("got %+v, want an error soon", got)
			}
		})
	}
}

func TestRun_badSpec(t *testing.T) {
	for _, tt := range []struct {
		name    string
		netns   string
		spec    Spec
		wantErr string
	}{
		{"protocol", "", Spec{Protocol: "sctp", To: "127.0.0.1"}, `probe: want protocol tcp, udp or icmp, got "sctp"`},
		{"no port", "", Spec{Protocol: TCP, To: "127.0.0.1"}, "probe: want a port, got 0"},
		{"name instead of address", "", Spec{Protocol: ICMP, To: "localhost"}, `probe: to: "localhost" is not an IP address`},
		{"bad source", "", Spec{Protocol: ICMP, To: "127.0.0.1", From: "lo"}, `probe: from: "lo" is not an IP address`},
		{"two families", "", Spec{Protocol: ICMP, To: "127.0.0.1", From: "::1"}, "probe: from ::1 and to 127.0.0.1 are of different families"},
		{"unknown zone", "", Spec{Protocol: ICMP, To: "fe80::1%nowhere"}, "probe: zone of fe80::1%nowhere: Link not found"},
		{"negative count", "", Spec{Protocol: ICMP, To: "127.0.0.1", Count: -1}, "probe: want count of 0 or more, got -1"},
		{"small icmp", "", Spec{Protocol: ICMP, To: "127.0.0.1", Size: 39}, "probe: want a size of at least 40 bytes, got 39"},
		{"large udp", "", Spec{Protocol: UDP, To: "127.0.0.1", Port: 9, Size: 65536}, "probe: want a size of at most 65535 bytes, got 65536"},
		{"no namespace", "/nowhere", Spec{Protocol: ICMP, To: "127.0.0.1"}, `network namespace "/nowhere": no such file or directory`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Run(context.Background(), tt.netns, tt.spec)
			if got := errText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// wrongSource answers UDP as package net does by default: from the address that the kernel prefers.
func wrongSource(t *testing.T, h *host, port uint16) {
	t.Helper()
	n, err := openNamespace(h.path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	s, err := n.packetSocket(packetOptions{
		family: unix.AF_INET, from: endpoint{addr: netip.IPv4Unspecified(), port: port},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	go func() {
		for {
			p, err := s.receive(time.Time{})
			if err != nil {
				return
			}
			_ = s.send(p.payload, p.from, netip.Addr{})
		}
	}()
}

// silentServer lets the kernel accept connections and never reads from them.
func silentServer(t *testing.T, h *host, port int) net.Listener {
	t.Helper()
	var l net.Listener
	err := h.ns.Do(func(ns.NetNS) (err error) {
		l, err = net.ListenTCP("tcp", &net.TCPAddr{Port: port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func resettingServer(t *testing.T, h *host, port int) {
	t.Helper()
	l := silentServer(t, h, port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, maxLine))
			// Closing without lingering resets (socket(7), SO_LINGER).
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
}

// TestProtocols finds a listed protocol that a probe refuses.
func TestProtocols(t *testing.T) {
	for _, p := range Protocols() {
		if _, err := (Spec{Protocol: p}).complete(); err != nil && strings.Contains(err.Error(), "want protocol") {
			t.Errorf("%s: %v; add a case to Spec.complete and run.attempt", p, err)
		}
	}
}
