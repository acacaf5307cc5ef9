package service

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/probe"
)

// talker is a UDP client that keeps its socket, and with it the connection in conntrack.
type talker struct{ conn net.Conn }

func newTalker(t *testing.T, from *machine, to string, port int) *talker {
	t.Helper()
	var c talker
	from.do(t, func() (err error) {
		c.conn, err = net.Dial("udp", net.JoinHostPort(to, strconv.Itoa(port)))
		return err
	})
	t.Cleanup(func() { _ = c.conn.Close() })
	return &c
}

// ask returns the name of the server that answers within 50ms.
func (c *talker) ask() (string, error) {
	if _, err := c.conn.Write([]byte("who")); err != nil {
		return "", err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return "", err
	}
	answer := make([]byte, 16)
	n, err := c.conn.Read(answer)
	return string(answer[:n]), err
}

// wants waits until the server of a name answers.
func (c *talker) wants(t *testing.T, name string) {
	t.Helper()
	eventually(t, func() error {
		got, err := c.ask()
		if err != nil || got != name {
			return fmt.Errorf("want an answer of %s, got %q, %w", name, got, err)
		}
		return nil
	})
}

// neverHears asks for 300ms, which is several times, and longer than Apply takes to delete entries.
func (c *talker) neverHears(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		if got, err := c.ask(); err == nil && got == name {
			t.Fatalf("want no answer of %s, got one", name)
		}
	}
}

// answer starts a UDP server on port 9053 of a pod that answers with a name.
func answer(t *testing.T, h *machine, name string) {
	t.Helper()
	var conn net.PacketConn
	h.do(t, func() (err error) {
		conn, err = net.ListenPacket("udp", ":9053")
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 16)
		for {
			_, from, err := conn.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// An error is the answer to an earlier reply, whose client is gone.
			if err == nil {
				_, _ = conn.WriteTo([]byte(name), from)
			}
		}
	}()
}

// dns returns a service with the given endpoints in both families.
func dns(endpoints ...string) []Service {
	s := Service{
		Name: "lab/dns", Protocol: UDP, Port: 53, NodePort: 30053,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.53"), netip.MustParseAddr("fd96::53")},
	}
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, Endpoint{Address: netip.MustParseAddr(e), Port: 9053, Local: true})
	}
	return []Service{s}
}

// TestEndpointReplaced uses a client that never stops sending. Without forgetStale (the control) it reaches the first
// endpoint's address as long as it sends: neither new rules nor time help.
func TestEndpointReplaced(t *testing.T) {
	one, two := dns("10.2.1.2", "fd00:21::2"), dns("10.2.2.2", "fd00:22::2")
	for _, tt := range []struct {
		name, to string
		port     int
	}{
		{"cluster IP", "10.96.0.53", 53},
		{"cluster IP, IPv6", "fd96::53", 53},
		{"node port", "10.1.0.1", 30053},
		{"node port, IPv6", "fd00:1::1", 30053},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			answer(t, l.one, "one")
			answer(t, l.two, "two")
			l.node.do(t, func() error { return Apply(t.Context(), Options{}, one) })
			c := newTalker(t, l.client, tt.to, tt.port)
			c.wants(t, "one")

			l.node.do(t, func() error { return programNftables(t.Context(), split(Options{}, two)) })
			c.neverHears(t, "two")

			start := machinetime.Start()
			l.node.do(t, func() error { return Apply(t.Context(), Options{}, two) })
			c.wants(t, "two")
			if took := start.Given(); took > 2*time.Second {
				t.Errorf("want an answer within 2s, got one after %s", took)
			}
		})
	}
}

// TestUninterrupted applies the same services again and again under traffic.
func TestUninterrupted(t *testing.T) {
	for _, p := range planes() {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.needs...)
			l := newLab(t)
			apply := func() error { return Apply(t.Context(), Options{Dataplane: p.name}, labServices()) }
			l.node.do(t, apply)
			control, err := probe.NewControl()
			if err != nil {
				t.Fatal(err)
			}
			defer control.Close()
			var flows, controls []*probe.Flow
			for _, s := range []probe.FlowSpec{
				{Protocol: probe.TCP, To: "10.96.0.10", Port: 80},
				{Protocol: probe.UDP, To: "fd96::10", Port: 53},
				{Protocol: probe.UDP, To: "10.1.0.1", Port: 30011},
			} {
				s.Interval = time.Millisecond
				flow, err := probe.StartFlow(l.client.path, s)
				if err != nil {
					t.Fatal(err)
				}
				flows = append(flows, flow)
				beside, err := control.StartFlow(s)
				if err != nil {
					t.Fatal(err)
				}
				controls = append(controls, beside)
			}
			for range 20 {
				l.node.do(t, apply)
			}
			for i, flow := range flows {
				r, beside := flow.Stop(), controls[i].Stop()
				r.Control = &beside
				if why := r.Disturbed(time.Millisecond); why != "" && r.Lost > 0 && r.Error == "" {
					t.Skipf("the machine was too busy: %s", why)
				}
				if r.Lost > 0 || r.Received < 20 || r.Error != "" {
					t.Errorf("flow %d: got %d lost of %d, error %q", i, r.Lost, r.Sent, r.Error)
				}
			}
		})
	}
}

// TestServiceComesLate uses a client that sent before the service existed: its connection is tracked and untranslated.
func TestServiceComesLate(t *testing.T) {
	l := newLab(t)
	answer(t, l.one, "one")
	c := newTalker(t, l.client, "10.96.0.53", 53)
	// Conntrack is off until somebody's rules need it.
	l.node.do(t, func() error { return Apply(t.Context(), Options{}, labServices()) })
	c.neverHears(t, "one")

	services := append(labServices(), dns("10.2.1.2", "fd00:21::2")...)
	l.node.do(t, func() error { return programNftables(t.Context(), split(Options{}, services)) })
	c.neverHears(t, "one")

	l.node.do(t, func() error { return Apply(t.Context(), Options{}, services) })
	c.wants(t, "one")
}

func TestStale(t *testing.T) {
	services := append(labServices(), dns("10.2.1.2")...)
	s := newStale(split(Options{}, services)[0])
	for _, tt := range []struct {
		name             string
		protocol         uint8
		asked, answering string
		want             bool
	}{
		{"leads to an endpoint", unix.IPPROTO_UDP, "10.96.0.53:53", "10.2.1.2:9053", false},
		{"leads to a former endpoint", unix.IPPROTO_UDP, "10.96.0.53:53", "10.2.2.2:9053", true},
		{"leads to a former port", unix.IPPROTO_UDP, "10.96.0.53:53", "10.2.1.2:9054", true},
		{"was not translated", unix.IPPROTO_UDP, "10.96.0.53:53", "10.96.0.53:53", true},
		{"node port leads to an endpoint", unix.IPPROTO_UDP, "10.1.0.1:30053", "10.2.1.2:9053", false},
		{"node port leads to a former endpoint", unix.IPPROTO_UDP, "10.1.0.1:30053", "10.2.2.2:9053", true},
		{"service without endpoints", unix.IPPROTO_UDP, "10.96.0.40:53", "10.2.2.2:8053", false},
		{"TCP", unix.IPPROTO_TCP, "10.96.0.53:53", "10.2.2.2:9053", false},
		{"no service", unix.IPPROTO_UDP, "10.2.2.2:53", "10.2.2.2:53", false},
		{"other port of a cluster IP", unix.IPPROTO_UDP, "10.96.0.53:54", "10.96.0.53:54", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked, answering := netip.MustParseAddrPort(tt.asked), netip.MustParseAddrPort(tt.answering)
			flow := &netlink.ConntrackFlow{}
			flow.Forward.Protocol = tt.protocol
			// As netlink returns them: IPv4 addresses in 16 bytes too.
			flow.Forward.DstIP, flow.Forward.DstPort = net.ParseIP(asked.Addr().String()), asked.Port()
			flow.Reverse.SrcIP, flow.Reverse.SrcPort = net.ParseIP(answering.Addr().String()), answering.Port()
			if got := s.MatchConntrackFlow(flow); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// TestInvalid sends a TCP segment without any flag, which neither belongs to a connection nor begins one. A UDP packet
// that follows shows when the segment must have passed.
func TestInvalid(t *testing.T) {
	for _, loader := range append(loaders(), loader{name: "no rules", load: func() error { return nil }}) {
		t.Run(loader.name, func(t *testing.T) {
			need(t, loader.needs...)
			l := newLab(t)
			l.node.do(t, loader.load)
			for _, to := range []string{"10.2.1.2", "fd00:21::2"} {
				capture, err := probe.StartCapture(l.one.path, probe.Match{Hosts: []string{to}, Ports: []uint16{4242}})
				if err != nil {
					t.Fatal(err)
				}
				defer capture.Stop()
				l.client.do(t, func() error { return sendFlagless(to, 4242) })
				r, err := probe.Run(t.Context(), l.client.path, probe.Spec{Protocol: probe.UDP, To: to, Port: 8053})
				if err != nil || !r.OK {
					t.Fatalf("probe after the segment: %v, %s", err, r.Error)
				}
				segments := 0
				for _, packet := range capture.Stop() {
					if packet.Protocol == "TCP" && !packet.Outgoing {
						segments++
					}
				}
				if dropped := segments == 0; dropped != loader.dropsInvalid {
					t.Errorf("to %s: got dropped %t, want %t", to, dropped, loader.dropsInvalid)
				}
			}
		})
	}
}

// sendFlagless sends a TCP header of 20 bytes, with the right length and no flags.
func sendFlagless(to string, port uint16) error {
	network := "ip4:tcp"
	if netip.MustParseAddr(to).Is6() {
		network = "ip6:tcp"
	}
	conn, err := net.Dial(network, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	header := make([]byte, 20)
	copy(header[2:], portNumber(port))
	header[12] = 5 << 4
	_, err = conn.Write(header)
	return err
}

// TestTrackStrictly checks that Apply makes liberal tracking strict.
func TestTrackStrictly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	const path = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"
	err := newHost(t).ns.Do(func(ns.NetNS) error {
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			return err
		}
		if err := Apply(t.Context(), Options{}, labServices()); err != nil {
			return err
		}
		got, err := os.ReadFile(path)
		if err == nil && string(got) != "0\n" {
			err = fmt.Errorf("got %q, want %q", got, "0\n")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
