package packetpath

import (
	"net"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
	"github.com/cnitest/cnitest/e2e/witness"
)

// kernel answers an agent's queries in place of a kernel. If it has no entry, the answer is empty.
type kernel struct {
	links      []agent.Link
	route      agent.Route
	ways       map[string]witness.Way // by destination; "IFACE DESTINATION" for packets that arrived on an interface
	neighbours map[string]string      // states by address
	items      []snapshot.Item
}

// server is the agent of a kernel.
type server struct{ kernel *kernel }

func (s *server) Links(_ string, reply *[]agent.Link) error {
	*reply = s.kernel.links
	return nil
}

func (s *server) Route(_ agent.RouteArgs, reply *agent.Route) error {
	*reply = s.kernel.route
	return nil
}

func (s *server) Lookup(args agent.LookupArgs, reply *witness.Way) error {
	key := args.Question.Destination
	if args.Question.Interface != "" {
		key = args.Question.Interface + " " + key
	}
	*reply = s.kernel.ways[key]
	return nil
}

func (s *server) Neighbour(args agent.NeighbourArgs, reply *agent.NeighbourReply) error {
	if state, ok := s.kernel.neighbours[args.Address]; ok {
		reply.Found, reply.Entry.State, reply.Entry.MAC = true, state, "02:00:00:00:00:99"
	}
	return nil
}

func (s *server) Snapshot(_ agent.SnapshotArgs, reply *snapshot.State) error {
	reply.Items = s.kernel.items
	return nil
}

// client returns a client of an agent with a kernel.
func client(t *testing.T, k *kernel) *agent.Client {
	t.Helper()
	near, far := net.Pipe()
	s := rpc.NewServer()
	if err := s.RegisterName("Agent", &server{k}); err != nil {
		t.Fatal(err)
	}
	go s.ServeCodec(jsonrpc.NewServerCodec(far))
	c := agent.NewClient("test", near)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// machines is a cluster of two nodes, with or without a fabric that can be watched.
type machines struct {
	cluster.Cluster
	nodes  []*cluster.Node
	fabric *cluster.Place
}

func (m *machines) Nodes() []*cluster.Node           { return m.nodes }
func (m *machines) Hosts() map[string]*cluster.Place { return nil }
func (m *machines) Fabric() *cluster.Place           { return m.fabric }

// The addresses of the test: a client on node/a and a server on node/b, each with a link eth0.
const (
	clientIP, serverIP     = "10.0.0.2", "10.0.1.2"
	clientMAC, serverMAC   = "02:00:00:00:00:02", "02:00:00:00:01:02"
	clientPort, serverPort = 40000, 8080
	nodeMAC, otherNodeMAC  = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
)

// lab is a watch of a probe from pod/client on node/a to pod/server on node/b, and their kernels.
type lab struct {
	*watch
	kernels map[string]*kernel
	clock   time.Time
}

// newLab returns a lab in which nothing was seen. Without a fabric the places have no common clock.
func newLab(t *testing.T, fabric bool) *lab {
	t.Helper()
	kernels := map[string]*kernel{}
	place := func(name, iface, address, mac string) cluster.Place {
		k := &kernel{ways: map[string]witness.Way{}, neighbours: map[string]string{}, links: []agent.Link{
			{Name: iface, Index: 2, MAC: mac, Addresses: []string{address + "/24"}},
		}}
		kernels[name] = k
		return cluster.Place{
			Name: name, Agent: client(t, k), Interfaces: map[string][]netip.Addr{iface: {netip.MustParseAddr(address)}},
		}
	}
	c := &machines{nodes: []*cluster.Node{
		{Place: place("node/a", "eno1", "10.0.0.1", nodeMAC), Uplink: "eno1"}, {Place: place("node/b", "eno1", "10.0.1.1", otherNodeMAC), Uplink: "eno1"},
	}}
	if fabric {
		f := place(cluster.FabricName, "port", "192.0.2.1", "")
		c.fabric = &f
	}
	env := environment.New(&scenario.Scenario{
		Name: "probe", Pods: []scenario.Pod{{Name: "client", Node: "a"}, {Name: "server", Node: "b"}},
	}, c)
	env.Pods[0].Place = place("pod/client", "eth0", clientIP, clientMAC)
	env.Pods[1].Place = place("pod/server", "eth0", serverIP, serverMAC)
	l := &lab{kernels: kernels, clock: time.Unix(1700000000, 0), watch: &watch{
		env: env, watched: map[string]agent.Watched{},
		probed: probed{
			from: &env.Pods[0].Place, to: &env.Pods[1].Place, local: clientIP, ends: []string{"pod/server"},
			ports: []uint16{serverPort}, spec: probe.Spec{Protocol: probe.TCP, To: serverIP, Port: serverPort},
		},
	}}
	for _, p := range []*cluster.Place{l.from, l.to, &c.nodes[0].Place, &c.nodes[1].Place, c.fabric} {
		l.addPlace(p)
	}
	return l
}

// packet is a recorded packet of the probe: its addresses and ports, and its special properties.
type packet struct {
	source, destination string
	tcp                 *layers.TCP
	udp                 *layers.UDP
	icmp                *layers.ICMPv4
	payload             string
	info                string
}

// syn returns the first packet of a connection, synAck the answer to it.
func syn() packet {
	return packet{source: clientIP, destination: serverIP, tcp: &layers.TCP{
		SrcPort: clientPort, DstPort: serverPort, SYN: true, Seq: 1,
	}}
}

func synAck() packet {
	return packet{
		source: serverIP, destination: clientIP, tcp: &layers.TCP{
			SrcPort: serverPort, DstPort: clientPort, SYN: true, ACK: true, Seq: 7, Ack: 2,
		},
	}
}

// raw returns the bytes of a packet as a capture has them.
func (p packet) raw(t *testing.T) []byte {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip := &layers.IPv4{Version: 4, TTL: 64, SrcIP: net.ParseIP(p.source), DstIP: net.ParseIP(p.destination)}
	parts := []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, ip,
	}
	switch {
	case p.tcp != nil:
		ip.Protocol = layers.IPProtocolTCP
		_ = p.tcp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, p.tcp)
	case p.udp != nil:
		ip.Protocol = layers.IPProtocolUDP
		_ = p.udp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, p.udp)
	case p.icmp != nil:
		ip.Protocol = layers.IPProtocolICMPv4
		parts = append(parts, p.icmp)
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, append(parts, gopacket.Payload(p.payload))...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// sight records a packet at places such as "pod/client eth0 out" (or in, or passing), one after the other.
func (l *lab) sight(t *testing.T, p packet, places ...string) {
	t.Helper()
	for _, text := range places {
		l.clock = l.clock.Add(time.Millisecond)
		s := Sighting{Packet: probe.Packet{
			Time: l.clock, Raw: p.raw(t), Source: p.source, Destination: p.destination, SourceMAC: "02:00:00:00:00:01",
			DestinationMAC: serverMAC, Info: p.info,
		}}
		if p.destination == clientIP {
			s.DestinationMAC = clientMAC
		}
		s.Length = len(s.Raw)
		if p.icmp != nil {
			s.Protocol = "ICMP"
		}
		words := strings.Fields(text)
		s.Place, s.Interface, s.Outgoing, s.Passing = words[0], words[1], words[2] == "out", words[2] == "passing"
		l.seen = append(l.seen, s)
	}
}
