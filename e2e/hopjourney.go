package e2e

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// journey is one packet at all the places where it was seen, in the order of its way.
type journey struct {
	reply bool
	seen  []sighting
}

// comparedBytes of a payload tell packets apart. It is less than what a capture keeps behind the largest headers.
const comparedBytes = 64

// journeys follows requests and replies, also where their addresses are translated.
func (w *watching) journeys() []journey {
	type key struct {
		reply    bool
		identity string
	}
	var all []journey
	number := map[key]int{}
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
	if !w.clocked() {
		for _, j := range all {
			slices.SortStableFunc(j.seen, func(a, b sighting) int { return cmp.Compare(w.rank(a.place, j.reply), w.rank(b.place, j.reply)) })
		}
	}
	return all
}

// rank is how far on the way a place is, for want of one clock: from the sender over its own node, the fabric and other nodes, to
// the node of the end and the end.
func (w *watching) rank(place string, reply bool) int {
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
	case place == fabricName:
		rank = 2
	}
	if reply {
		return -rank
	}
	return rank
}

// nodeOf is the node of a pod; empty for other places.
func (w *watching) nodeOf(place string) string {
	for _, p := range w.run.env.Pods {
		if p.Name == place {
			return p.Node.Name
		}
	}
	return ""
}

// identify tells whether a packet is a request or a reply of the probe, and what remains of it when addresses and ports are translated.
func (w *watching) identify(s sighting) (reply bool, identity string, ok bool) {
	packet := gopacket.NewPacket(s.Raw, linkType(s), gopacket.NoCopy)
	if tcp, is := packet.Layer(layers.LayerTypeTCP).(*layers.TCP); is {
		if tcp.SYN && !tcp.ACK {
			w.clients[tcp.SrcPort] = true
		}
		reply, ok = w.direction(uint16(tcp.SrcPort), uint16(tcp.DstPort))
		// What an earlier connection still sends is not of this probe.
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

// direction tells by the ports, which a request goes to and a reply comes from.
func (w *watching) direction(source, destination uint16) (reply, ok bool) {
	if slices.Contains(w.ports, destination) {
		return false, true
	}
	return true, slices.Contains(w.ports, source)
}

// digest stands for the beginning of a payload.
func digest(payload []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(payload[:min(len(payload), comparedBytes)])
	return fmt.Sprintf("%x", h.Sum64())
}

// arrived reports whether a packet came to where it was to go.
func (w *watching) arrived(j journey) bool {
	return slices.ContainsFunc(j.seen, func(s sighting) bool {
		return !s.Outgoing && !s.Passing && (j.reply && s.place == w.from.Name || !j.reply && slices.Contains(w.ends, s.place))
	})
}

// last is where a packet was last seen, by somebody whom it was for: a bridge floods frames whose MAC it does not know, and a
// device on top of another has a MAC of its own.
func (j journey) last() sighting {
	for i, s := range slices.Backward(j.seen) {
		flooded := s.place == fabricName && slices.ContainsFunc(j.seen[i:], func(o sighting) bool { return o.place != fabricName && o.Passing })
		if !s.Passing && !flooded {
			return s
		}
	}
	return j.seen[len(j.seen)-1]
}
