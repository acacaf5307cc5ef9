package packetpath

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// journey is one packet at all the places where it was seen, in the order in which it passed them.
type journey struct {
	reply bool
	seen  []Sighting
}

// comparedBytes is how much of a payload is compared to distinguish packets. It is less than what a capture keeps after
// the largest headers.
const comparedBytes = 64

// journeys follows each request and each reply from place to place, also if its addresses are translated on the way.
func (w *watch) journeys() []journey {
	type key struct {
		reply    bool
		identity string
	}
	var all []journey
	number := map[key]int{}
	if w.clients == nil {
		w.clients = map[layers.TCPPort]bool{}
	}
	for _, s := range w.seen {
		reply, identity, ok := w.identify(s)
		if !ok {
			continue
		}
		at, known := number[key{reply, identity}]
		if !known {
			at = len(all)
			number[key{reply, identity}] = at
			all = append(all, journey{reply: reply})
		}
		all[at].seen = append(all[at].seen, s)
	}
	if !w.oneClock() {
		for _, j := range all {
			slices.SortStableFunc(j.seen, func(a, b Sighting) int {
				return cmp.Compare(w.rank(a.Place, j.reply), w.rank(b.Place, j.reply))
			})
		}
	}
	return all
}

// rank returns how far along the path a place is, to order sightings without a common clock: first the sender, then its
// node, the fabric, other nodes, the node of the destination, and the destination.
func (w *watch) rank(place string, reply bool) int {
	rank := 3
	switch {
	case place == w.from.Name:
		rank = 0
	case slices.Contains(w.ends, place):
		rank = 6
	case place == w.nodeOf(w.from.Name):
		rank = 1
	case slices.ContainsFunc(w.ends, func(end string) bool { return place == w.nodeOf(end) }):
		rank = 5
	case place == cluster.FabricName:
		rank = 2
	}
	if reply {
		return -rank
	}
	return rank
}

// nodeOf returns the name of the node of a pod; it is empty for other places.
func (w *watch) nodeOf(place string) string {
	for _, p := range w.env.Pods {
		if p.Name == place {
			return p.Node.Name
		}
	}
	return ""
}

// identify reports whether a packet is a request or a reply of the probe, and returns an identity that does not change
// when addresses and ports are translated.
func (w *watch) identify(s Sighting) (reply bool, identity string, ok bool) {
	packet := gopacket.NewPacket(s.Raw, linkType(s), gopacket.NoCopy)
	if tcp, is := packet.Layer(layers.LayerTypeTCP).(*layers.TCP); is {
		if tcp.SYN && !tcp.ACK {
			w.clients[tcp.SrcPort] = true
		}
		reply, ok = w.direction(uint16(tcp.SrcPort), uint16(tcp.DstPort))
		// Packets of an earlier connection do not belong to this probe.
		if ok = ok && (w.clients[tcp.SrcPort] || w.clients[tcp.DstPort]); ok {
			data := len(tcp.Payload) > 0
			identity = fmt.Sprint("tcp ", tcp.Seq, tcp.SYN, tcp.FIN, tcp.RST, data)
			if !data {
				identity += fmt.Sprint(" ", tcp.Ack)
			}
		}
		return reply, identity, ok
	}
	if udp, is := packet.Layer(layers.LayerTypeUDP).(*layers.UDP); is {
		reply, ok = w.direction(uint16(udp.SrcPort), uint16(udp.DstPort))
		return reply, "udp " + digest(udp.Payload), ok
	}
	if icmp, is := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); is {
		kind := icmp.TypeCode.Type()
		return kind == layers.ICMPv4TypeEchoReply, fmt.Sprint("icmp ", icmp.Seq, " ", digest(icmp.Payload)),
			w.spec.Port == 0 && (kind == layers.ICMPv4TypeEchoReply || kind == layers.ICMPv4TypeEchoRequest)
	}
	if icmp, is := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); is {
		kind := icmp.TypeCode.Type()
		return kind == layers.ICMPv6TypeEchoReply, "icmpv6 " + digest(icmp.Payload),
			w.spec.Port == 0 && (kind == layers.ICMPv6TypeEchoReply || kind == layers.ICMPv6TypeEchoRequest)
	}
	return false, "", false
}

// direction reports by the ports whether a packet is a reply: requests go to the ports of the probe, replies come from
// them.
func (w *watch) direction(source, destination uint16) (reply, ok bool) {
	if slices.Contains(w.ports, destination) {
		return false, true
	}
	return true, slices.Contains(w.ports, source)
}

// digest returns a sum of the first bytes of a payload.
func digest(payload []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(payload[:min(len(payload), comparedBytes)])
	return fmt.Sprintf("%x", h.Sum64())
}

// arrived reports whether a packet reached the place it was sent to.
func (w *watch) arrived(j journey) bool {
	return slices.ContainsFunc(j.seen, func(s Sighting) bool {
		return !s.Outgoing && !s.Passing && (j.reply && s.Place == w.from.Name || !j.reply &&
			slices.Contains(w.ends, s.Place))
	})
}

// last returns the last sighting of a packet at a place that it was meant for: a bridge floods frames with an unknown
// MAC, and a device above another one has a MAC of its own.
func (j journey) last() Sighting {
	for i, s := range slices.Backward(j.seen) {
		flooded := s.Place == cluster.FabricName && slices.ContainsFunc(j.seen[i:], func(o Sighting) bool {
			return o.Place != cluster.FabricName && o.Passing
		})
		if !s.Passing && !flooded {
			return s
		}
	}
	return j.seen[len(j.seen)-1]
}
