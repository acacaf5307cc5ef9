package packetpath

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"

	"github.com/cnitest/cnitest/e2e/probe"
)

// texts returns each journey as a line: whether it is a request or a reply, whether it arrived, and where it was seen.
func texts(w *watch) []string {
	var lines []string
	for _, j := range w.journeys() {
		words := []string{"request"}
		if j.reply {
			words[0] = "reply"
		}
		if w.arrived(j) {
			words = append(words, "arrived:")
		} else {
			words = append(words, "lost:")
		}
		for _, s := range j.seen {
			words = append(words, s.Place)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

func TestWatch_journeys(t *testing.T) {
	l := newLab(t, true)
	l.sight(t, syn(), "pod/client eth0 out", "node/a eno1 out", "fabric port in", "node/b eno1 passing",
		"pod/server eth0 in")
	l.sight(t, synAck(), "pod/server eth0 out", "fabric port in")
	// An earlier connection, a packet of something else, and a connection whose SYN nobody saw.
	old := syn()
	old.tcp.SrcPort, old.tcp.SYN, old.tcp.ACK = 39999, false, true
	other := syn()
	other.tcp.DstPort = 22
	l.sight(t, old, "pod/client eth0 out")
	l.sight(t, other, "pod/client eth0 out")
	if diff := cmp.Diff(texts(l.watch), []string{
		"request arrived: pod/client node/a fabric node/b pod/server", "reply lost: pod/server fabric",
	}); diff != "" {
		t.Errorf("journeys, got, want:\n%s", diff)
	}
}

// TestWatch_journeys_translated follows a request to a service whose address and port are translated to an endpoint's
// on the way.
func TestWatch_journeys_translated(t *testing.T) {
	l := newLab(t, true)
	l.spec.To, l.spec.Port, l.ports = "10.96.0.10", 80, []uint16{80, serverPort}
	asked := syn()
	asked.destination, asked.tcp.DstPort = "10.96.0.10", 80
	l.sight(t, asked, "pod/client eth0 out", "node/a veth in")
	masqueraded := syn()
	masqueraded.source = "10.0.0.1"
	l.sight(t, masqueraded, "node/a eno1 out", "pod/server eth0 in")
	if diff := cmp.Diff(texts(l.watch), []string{"request arrived: pod/client node/a node/a pod/server"}); diff != "" {
		t.Errorf("journeys, got, want:\n%s", diff)
	}
	want := "the request had the source 10.0.0.2 when it was last seen entering veth of node/a, and 10.0.0.1 leaving " +
		"eno1 of node/a; " +
		"node/a translated it"
	if got := l.translation(t.Context()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWatch_journeys_without_a_clock orders the sightings of machines with different clocks by the path.
func TestWatch_journeys_without_a_clock(t *testing.T) {
	l := newLab(t, false)
	l.sight(t, syn(), "pod/server eth0 in", "node/b eno1 in", "node/a eno1 out", "pod/client eth0 out")
	l.sight(t, synAck(), "pod/client eth0 in", "pod/server eth0 out")
	if diff := cmp.Diff(texts(l.watch), []string{
		"request arrived: pod/client node/a node/b pod/server", "reply arrived: pod/server pod/client",
	}); diff != "" {
		t.Errorf("journeys, got, want:\n%s", diff)
	}
}

// recorded returns a request and a reply of each protocol of probes.
func recorded() map[probe.Protocol][2]packet {
	udp := func(from, to layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: from, DstPort: to} }
	echo := func(kind uint8) *layers.ICMPv4 {
		return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 1, Seq: 1}
	}
	return map[probe.Protocol][2]packet{
		probe.TCP: {syn(), synAck()},
		probe.UDP: {
			{source: clientIP, destination: serverIP, udp: udp(clientPort, serverPort), payload: "question"},
			{source: serverIP, destination: clientIP, udp: udp(serverPort, clientPort), payload: "answer"},
		},
		probe.ICMP: {
			{source: clientIP, destination: serverIP, icmp: echo(layers.ICMPv4TypeEchoRequest), payload: "echo"},
			{source: serverIP, destination: clientIP, icmp: echo(layers.ICMPv4TypeEchoReply), payload: "echo"},
		},
	}
}

// TestWatch_identify_knows_each_protocol finds a protocol of probes whose packets are not followed: the explanation
// would say that they never left.
func TestWatch_identify_knows_each_protocol(t *testing.T) {
	packets := recorded()
	for _, protocol := range probe.Protocols() {
		pair, ok := packets[protocol]
		if !ok {
			t.Errorf("%s: no packets of it are recorded; add a request and a reply above, and teach watch.identify "+
				"to tell them apart", protocol)
			continue
		}
		l := newLab(t, true)
		if l.spec.Protocol = protocol; protocol == probe.ICMP {
			l.spec.Port, l.ports = 0, nil
		}
		l.sight(t, pair[0], "pod/client eth0 out", "pod/server eth0 in")
		l.sight(t, pair[1], "pod/server eth0 out", "pod/client eth0 in")
		if diff := cmp.Diff(texts(l.watch), []string{
			"request arrived: pod/client pod/server", "reply arrived: pod/server pod/client",
		}); diff != "" {
			t.Errorf("%s: journeys, got, want:\n%s", protocol, diff)
		}
	}
}
