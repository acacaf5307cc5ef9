package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	icmpHeader = 8
	// echoLeast is the size of the nonce and the number of a request.
	echoLeast = 12
)

// echo makes echo requests.
//
// pro-bing does not suffice: it creates its socket itself and keeps the thread of the namespace while it waits, accepts
// replies from any address, and drops the errors that routers report.
type echo struct {
	to    endpoint
	id    uint16
	nonce uint64
	size  int
}

// newEcho makes requests of size bytes including the ICMP header, or as small as possible.
func newEcho(to endpoint, size int) *echo {
	return &echo{to: to, id: uint16(rand.Uint32()), nonce: rand.Uint64(), size: max(size-icmpHeader, echoLeast)}
}

func (e *echo) data(seq int) []byte {
	b := make([]byte, e.size)
	binary.BigEndian.PutUint64(b, e.nonce)
	binary.BigEndian.PutUint32(b[8:], uint32(seq))
	return b
}

func (e *echo) request(seq int) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(e.id), Seq: seq & 0xffff, Data: e.data(seq)}}
	if e.to.addr.Is6() {
		// The kernel fills in the checksum of ICMPv6 (RFC 3542, 3.1).
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

func (e *echo) reply(p packet) (reply, bool, error) {
	protocol := layers.IPProtocolICMPv4
	if e.to.addr.Is6() {
		protocol = layers.IPProtocolICMPv6
	}
	m, err := icmp.ParseMessage(int(protocol), p.payload)
	if err != nil {
		// A raw socket receives all ICMP messages of its namespace, including malformed ones.
		return reply{}, false, nil
	}
	switch body := m.Body.(type) {
	case *icmp.Echo:
		if m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			return reply{}, false, nil
		}
		return e.echoed(body)
	case *icmp.DstUnreach:
		return reply{}, false, e.reported(p, body.Data)
	case *icmp.PacketTooBig:
		return reply{}, false, e.reported(p, body.Data)
	case *icmp.TimeExceeded:
		return reply{}, false, e.reported(p, body.Data)
	case *icmp.ParamProb:
		return reply{}, false, e.reported(p, body.Data)
	}
	return reply{}, false, nil
}

func (e *echo) echoed(body *icmp.Echo) (reply, bool, error) {
	if body.ID != int(e.id) || len(body.Data) < echoLeast || binary.BigEndian.Uint64(body.Data) != e.nonce {
		return reply{}, false, nil
	}
	seq := int(binary.BigEndian.Uint32(body.Data[8:]))
	if !bytes.Equal(body.Data, e.data(seq)) {
		return reply{}, false, fmt.Errorf("reply of %d bytes differs from the request of %d", len(body.Data), e.size)
	}
	return reply{Seq: seq, Local: text(e.to.addr)}, true, nil
}

// reported returns the error that p reports about a packet that begins with original; nil if that is not one of ours.
func (e *echo) reported(p packet, original []byte) error {
	var to netip.Addr
	var rest []byte
	var what fmt.Stringer
	if e.to.addr.Is4() {
		if len(original) < ipv4Header {
			return nil
		}
		to, _ = netip.AddrFromSlice(original[16:20])
		rest = original[min(int(original[0]&0x0f)*4, len(original)):]
		what = layers.CreateICMPv4TypeCode(p.payload[0], p.payload[1])
	} else {
		if len(original) < ipv6Header {
			return nil
		}
		to, _ = netip.AddrFromSlice(original[24:40])
		rest = original[ipv6Header:]
		what = layers.CreateICMPv6TypeCode(p.payload[0], p.payload[1])
	}
	if to != e.to.addr || len(rest) < icmpHeader || binary.BigEndian.Uint16(rest[4:]) != e.id {
		return nil
	}
	return fmt.Errorf("%s reports %s", text(p.from.addr), what)
}
