package probe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

func startCapture(t *testing.T, h *host, m Match) *Capture {
	t.Helper()
	c, err := StartCapture(h.path, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	return c
}

// ephemeral matches a port that the kernel chose.
var ephemeral = regexp.MustCompile(`\b[3-6]\d{4}\b`)

// lines returns packets as interface, direction and info, with PORT in place of ports that the kernel chose.
func lines(packets []Packet) []string {
	var lines []string
	for _, p := range packets {
		way := "in"
		if p.Outgoing {
			way = "out"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", p.Interface, way, ephemeral.ReplaceAllString(p.Info, "PORT")))
	}
	return lines
}

// askOnce asks in one attempt, however long the answer takes: a second attempt would be in the capture too.
func askOnce(t *testing.T, h *host, s Spec) Result {
	t.Helper()
	s.Attempts, s.Within = 1, patience
	return ask(t, h, s)
}

// distinct removes repeated lines: on a busy machine the kernel repeats requests that were not answered within a
// second.
func distinct(lines []string) []string {
	var first []string
	for _, line := range lines {
		if !slices.Contains(first, line) {
			first = append(first, line)
		}
	}
	return first
}

func TestCapture(t *testing.T) {
	lan := newLAN(t, 3)
	a, b := lan.hosts[0], lan.hosts[1]
	listen(t, b, ListenSpec{Protocol: TCP, Port: 8080})
	listen(t, b, ListenSpec{Protocol: UDP, Port: 8080})
	for _, tt := range []struct {
		name  string
		on    *host
		match Match
		spec  Spec
		want  []string
	}{
		{
			"udp", a,
			Match{Hosts: []string{"10.9.0.2"}},
			Spec{Protocol: UDP, To: "10.9.0.2", Port: 8080, Size: 400},
			[]string{
				"eth0 out ARP who has 10.9.0.2 tell 10.9.0.1",
				"eth0 in ARP 10.9.0.2 is at 02:09:00:00:00:02",
				"eth0 out UDP PORT > 8080 length 372",
				"eth0 in UDP 8080 > PORT length 372",
			},
		},
		{
			"udp in fragments", b,
			Match{Hosts: []string{"10.9.0.1"}},
			Spec{Protocol: ICMP, To: "10.9.0.2", Size: 2000},
			[]string{
				"eth0 in ARP who has 10.9.0.2 tell 10.9.0.1",
				"eth0 out ARP 10.9.0.2 is at 02:09:00:00:00:02",
				"eth0 in ICMP fragment at 0",
				"eth0 in ICMP fragment at 1480",
				"eth0 out ICMP fragment at 0",
				"eth0 out ICMP fragment at 1480",
			},
		},
		{
			"icmp seen on the bridge", lan.fabric,
			Match{Hosts: []string{"10.9.0.2"}, Ports: []uint16{8080}},
			Spec{Protocol: ICMP, To: "10.9.0.2"},
			[]string{
				"port1 in ARP who has 10.9.0.2 tell 10.9.0.1",
				"port2 out ARP who has 10.9.0.2 tell 10.9.0.1",
				"port3 out ARP who has 10.9.0.2 tell 10.9.0.1",
				"br0 in ARP who has 10.9.0.2 tell 10.9.0.1",
				"port2 in ARP 10.9.0.2 is at 02:09:00:00:00:02",
				"port1 out ARP 10.9.0.2 is at 02:09:00:00:00:02",
				"port1 in ICMP echo request seq 1",
				"port2 out ICMP echo request seq 1",
				"port2 in ICMP echo reply seq 1",
				"port1 out ICMP echo reply seq 1",
			},
		},
		{
			"icmp over IPv6", a,
			Match{Hosts: []string{"fd09::2"}},
			Spec{Protocol: ICMP, To: "fd09::2", Count: 2},
			[]string{
				"eth0 out NS who has fd09::2",
				"eth0 in NA fd09::2 is at 02:09:00:00:00:02",
				"eth0 out ICMPv6 echo request seq 1",
				"eth0 in ICMPv6 echo reply seq 1",
				"eth0 out ICMPv6 echo request seq 2",
				"eth0 in ICMPv6 echo reply seq 2",
			},
		},
		{
			"no listener", a,
			Match{Hosts: []string{"10.9.0.2"}, Ports: []uint16{9}},
			Spec{Protocol: TCP, To: "10.9.0.2", Port: 9, Attempts: 1},
			[]string{
				"eth0 out ARP who has 10.9.0.2 tell 10.9.0.1",
				"eth0 in ARP 10.9.0.2 is at 02:09:00:00:00:02",
				"eth0 out TCP PORT > 9 SYN",
				"eth0 in TCP 9 > PORT RST ACK",
			},
		},
		{"another host", a, Match{Hosts: []string{"10.9.0.3"}}, Spec{Protocol: ICMP, To: "10.9.0.2"}, nil},
		{
			"another port", a,
			Match{Hosts: []string{"10.9.0.2"}, Ports: []uint16{81}},
			Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080},
			[]string{"eth0 out ARP who has 10.9.0.2 tell 10.9.0.1", "eth0 in ARP 10.9.0.2 is at 02:09:00:00:00:02"},
		},
		{
			"limit", a,
			Match{Hosts: []string{"10.9.0.2"}, Limit: 1},
			Spec{Protocol: ICMP, To: "10.9.0.2"},
			[]string{"eth0 out ARP who has 10.9.0.2 tell 10.9.0.1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, h := range lan.hosts {
				if err := forgetNeighbours(h.path, "eth0"); err != nil {
					t.Fatal(err)
				}
			}
			c := startCapture(t, tt.on, tt.match)
			askOnce(t, a, tt.spec)
			got := distinct(lines(c.Stop()))
			// Broadcasts pass the ports of a bridge in random order.
			if tt.on == lan.fabric {
				slices.Sort(got)
				slices.Sort(tt.want)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("got - want +\n%s", diff)
			}
			if got, want := c.Unseen() > 0, tt.match.Limit > 0; got != want {
				t.Errorf("got %d unseen packets, want some: %t", c.Unseen(), want)
			}
		})
	}
}

func TestCapture_tcp(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	listen(t, b, ListenSpec{Protocol: TCP, Port: 8080})
	c := startCapture(t, a, Match{Ports: []uint16{8080}, Hosts: []string{"10.9.0.1"}})
	if got := askOnce(t, a, Spec{Protocol: TCP, To: "10.9.0.2", Port: 8080}); !got.OK {
		t.Fatal(got.Error)
	}
	packets := slices.DeleteFunc(c.Stop(), func(p Packet) bool { return p.Protocol != "TCP" })
	got := distinct(lines(packets))
	want := []string{"eth0 out TCP PORT > 8080 SYN", "eth0 in TCP 8080 > PORT SYN ACK", "eth0 out TCP PORT > 8080 ACK"}
	if len(got) < 3 {
		t.Fatalf("got %q, want a connection", got)
	}
	if diff := cmp.Diff(got[:3], want); diff != "" {
		t.Errorf("got - want +\n%s", diff)
	}
	// Both sides close the connection, and neither resets it.
	for part, want := range map[string]bool{
		"eth0 out TCP PORT > 8080 FIN": true, "eth0 in TCP 8080 > PORT FIN": true, "RST": false,
	} {
		if seen := strings.Contains(strings.Join(got, "\n"), part); seen != want {
			t.Errorf("got %q, want %q in it: %t", got, part, want)
		}
	}
}

func TestCapture_packet(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	before := time.Now()
	// Repeat it many times without a pause: nothing sent after StartCapture or before Stop may be missed.
	for range 50 {
		c := startCapture(t, a, Match{Hosts: []string{"10.9.0.2"}, Ports: []uint16{1}})
		if got := askOnce(t, a, Spec{Protocol: ICMP, To: "10.9.0.2"}); !got.OK {
			t.Fatal(got.Error)
		}
		packets := slices.DeleteFunc(c.Stop(), func(p Packet) bool { return p.Protocol == "ARP" })
		i := slices.IndexFunc(packets, func(p Packet) bool { return !p.Outgoing })
		if len(distinct(lines(packets))) != 2 || i < 1 {
			t.Fatalf("got %q, want a request and a reply", lines(packets))
		}
		got := packets[i]
		if got.Time.Before(before) || got.Time.After(time.Now()) {
			t.Errorf("got time %s, want one since %s", got.Time, before)
		}
		if want := ethernet + ipv4Header + icmpHeader + echoLeast; len(got.Raw) != want {
			t.Errorf("got %d bytes, want %d", len(got.Raw), want)
		}
		got.Time, got.Raw = time.Time{}, nil
		want := Packet{
			Interface: "eth0", SourceMAC: b.mac, DestinationMAC: a.mac, Source: "10.9.0.2", Destination: "10.9.0.1",
			Protocol: "ICMP", Info: "ICMP echo reply seq 1", Length: ethernet + ipv4Header + icmpHeader + echoLeast,
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("got - want +\n%s", diff)
		}
	}
}

const ethernet = 14

// TestCapture_interfaces checks the names of links that are deleted or renamed before their packets are read.
func TestCapture_interfaces(t *testing.T) {
	lan := newLAN(t, 2)
	a, b := lan.hosts[0], lan.hosts[1]
	c, err := openCapture(a.path, Match{Hosts: []string{"10.9.0.1", "10.9.9.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, b, Spec{Protocol: ICMP, To: "10.9.0.1"}); !got.OK {
		t.Fatal(got.Error)
	}
	// A packet to one's own address stays on lo.
	if got := ask(t, a, Spec{Protocol: ICMP, To: "10.9.0.1"}); !got.OK {
		t.Fatal(got.Error)
	}
	// One link is made and deleted, another is renamed: a plugin does both.
	a.do(t, func() error { return addPair("new0", "new1", "10.9.9.1/24") })
	ask(t, a, Spec{Protocol: ICMP, To: "10.9.9.2", Attempts: 1, Within: 10 * time.Millisecond})
	a.do(t, func() error {
		link, err := netlink.LinkByName("new0")
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(link); err != nil {
			return err
		}
		if link, err = netlink.LinkByName("eth0"); err != nil {
			return err
		}
		return netlink.LinkSetName(link, "net1")
	})
	go c.record()
	seen := map[string]bool{}
	for _, p := range c.Stop() {
		seen[p.Interface] = true
	}
	want := map[string]bool{"lo": true, "net1": true, "new0": true, "new1": true}
	if diff := cmp.Diff(seen, want); diff != "" {
		t.Errorf("interfaces: got - want +\n%s", diff)
	}
}

// addPair makes a veth pair in one namespace, with an address on the first end.
func addPair(one, other, cidr string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = one
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: other}); err != nil {
		return err
	}
	if err := setUp(other); err != nil {
		return err
	}
	if err := setUp(one); err != nil {
		return err
	}
	return addAddress(one, cidr)
}

func TestStartCapture_bad(t *testing.T) {
	for _, tt := range []struct {
		name    string
		netns   string
		match   Match
		wantErr string
	}{
		{"host", "", Match{Hosts: []string{"router"}}, `capture: host "router" is not an IP address`},
		{"limit", "", Match{Limit: -1}, "capture: want a limit of 0 or more, got -1"},
		{"last", "", Match{Last: -1}, "capture: want 0 or more of the last packets, got -1"},
		{"namespace", "/nowhere", Match{}, `network namespace "/nowhere": no such file or directory`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := StartCapture(tt.netns, tt.match)
			if got := errText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

// TestCapture_keeps_the_first_and_the_last checks that of many packets those at the beginning and at the end are kept.
func TestCapture_keeps_the_first_and_the_last(t *testing.T) {
	lan := newLAN(t, 2)
	// On a busy machine the address is asked for twice, and requests overtake replies. Therefore both learn each
	// other's address first, and the last request waits for the replies to the others.
	requests := func(count int) {
		t.Helper()
		if got := ask(t, lan.hosts[0], Spec{Protocol: ICMP, To: "10.9.0.2", Count: count}); !got.OK {
			t.Fatalf("got %+v", got)
		}
	}
	requests(1)
	c := startCapture(t, lan.hosts[0], Match{Hosts: []string{"10.9.0.2"}, Limit: 2, Last: 2})
	requests(1)
	requests(5)
	requests(1)
	want := []string{
		"eth0 out ICMP echo request seq 1",
		"eth0 in ICMP echo reply seq 1",
		"eth0 out ICMP echo request seq 1",
		"eth0 in ICMP echo reply seq 1",
	}
	if diff := cmp.Diff(want, lines(c.Stop())); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
	if got, want := c.Unseen(), 10; got != want {
		t.Errorf("got %d unseen packets, want %d", got, want)
	}
}

// TestCapture_tells_whom_a_frame_is_for checks that the ports of a bridge see frames for its hosts.
func TestCapture_tells_whom_a_frame_is_for(t *testing.T) {
	lan := newLAN(t, 2)
	captures := []*Capture{
		startCapture(t, lan.fabric, Match{Hosts: []string{"10.9.0.2"}}),
		startCapture(t, lan.hosts[1], Match{Hosts: []string{"10.9.0.2"}}),
	}
	got, err := Run(t.Context(), lan.hosts[0].path, Spec{Protocol: ICMP, To: "10.9.0.2"})
	if err != nil || !got.OK {
		t.Fatalf("got %+v, error %v", got, err)
	}
	for i, passing := range []bool{true, false} {
		seen := 0
		for _, p := range captures[i].Stop() {
			if !p.Outgoing && p.Protocol == "ICMP" && p.Destination == "10.9.0.2" {
				seen++
				if p.Passing != passing {
					t.Errorf("%s: got passing %t, want %t", p.Info, p.Passing, passing)
				}
			}
		}
		if seen == 0 {
			t.Errorf("capture %d: got no request", i)
		}
	}
}
