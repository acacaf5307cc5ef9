package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// packetSocket is an unconnected UDP or raw ICMP socket that returns the local address of each packet. A connected one
// would hide replies that come from other addresses.
type packetSocket struct {
	conn      *socket.Conn
	v4        bool
	raw       bool
	closed    atomic.Bool
	buffer    []byte
	ancillary []byte
}

// packetOptions describes the socket. from is the zero endpoint for any address of the family.
type packetOptions struct {
	family       int
	icmp         bool
	from         endpoint
	dontFragment bool
	// reportErrors makes the kernel return the ICMP errors that UDP packets cause (ip(7), IP_RECVERR). Raw sockets
	// receive these messages themselves.
	reportErrors bool
	// many allows the socket to send to broadcast and multicast addresses.
	many bool
}

// packet is a received packet: the payload of UDP, or the ICMP message.
type packet struct {
	payload []byte
	from    endpoint
	// local is the address to which it was sent, on the interface link.
	local netip.Addr
	link  int
}

func (n namespace) packetSocket(o packetOptions) (*packetSocket, error) {
	kind, protocol := unix.SOCK_DGRAM, unix.IPPROTO_UDP
	if o.icmp {
		kind, protocol = unix.SOCK_RAW, unix.IPPROTO_ICMP
		if o.family == unix.AF_INET6 {
			protocol = unix.IPPROTO_ICMPV6
		}
	}
	var conn *socket.Conn
	err := n.do(func() (err error) {
		conn, err = socket.Socket(o.family, kind, protocol, "probe", nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &packetSocket{
		conn: conn, v4: o.family == unix.AF_INET, raw: o.icmp,
		buffer: make([]byte, 64<<10), ancillary: make([]byte, 256),
	}
	if err := s.configure(o); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *packetSocket) configure(o packetOptions) error {
	type option struct{ level, name, value int }
	options := []option{{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}}
	if !s.v4 {
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1}}
	}
	if !s.v4 && !s.raw {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	if o.many && s.v4 {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_BROADCAST, 1})
	}
	switch {
	case o.dontFragment && s.v4:
		options = append(options, option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO})
	case o.dontFragment:
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO})
	}
	switch {
	case o.reportErrors && s.v4:
		options = append(options, option{unix.IPPROTO_IP, unix.IP_RECVERR, 1})
	case o.reportErrors:
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1})
	}
	for _, option := range options {
		if err := s.conn.SetsockoptInt(option.level, option.name, option.value); err != nil {
			return err
		}
	}
	from := o.from
	if !from.addr.IsValid() {
		from.addr = netip.IPv4Unspecified()
		if !s.v4 {
			from.addr = netip.IPv6Unspecified()
		}
	}
	return s.conn.Bind(from.sockaddr())
}

func (s *packetSocket) close() {
	s.closed.Store(true)
	_ = s.conn.Close()
}

// send sends payload from the address from; if that is not valid, the kernel chooses one.
func (s *packetSocket) send(payload []byte, to endpoint, from netip.Addr) error {
	var ancillary []byte
	if s.v4 && to.link != 0 {
		ancillary = (&ipv4.ControlMessage{IfIndex: to.link}).Marshal()
	}
	if from.IsValid() {
		source := net.IP(from.AsSlice())
		if s.v4 {
			ancillary = (&ipv4.ControlMessage{Src: source}).Marshal()
		} else {
			ancillary = (&ipv6.ControlMessage{Src: source, IfIndex: to.link}).Marshal()
		}
	}
	_, err := s.conn.Sendmsg(context.Background(), payload, ancillary, to.sockaddr(), 0)
	if err != nil && !errors.Is(err, unix.EMSGSIZE) {
		// The error may belong to an earlier packet; every call can return such an error (udp(7)). Then nothing was
		// sent.
		_, err = s.conn.Sendmsg(context.Background(), payload, ancillary, to.sockaddr(), 0)
	}
	return err
}

// receive waits for the next packet until deadline. The zero time waits until the socket is closed; the error is then
// os.ErrClosed. The payload is valid until the next call.
func (s *packetSocket) receive(deadline time.Time) (packet, error) {
	p, err := s.receivePacket(deadline)
	if err != nil && s.closed.Load() {
		// Packages os, poll and socket each have their own error for it.
		return packet{}, os.ErrClosed
	}
	return p, err
}

func (s *packetSocket) receivePacket(deadline time.Time) (packet, error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return packet{}, err
	}
	n, ancillary, _, sa, err := s.conn.Recvmsg(context.Background(), s.buffer, s.ancillary, 0)
	if err != nil {
		s.dropErrors()
		return packet{}, err
	}
	p := packet{payload: s.buffer[:n], from: endpointOf(sa)}
	if s.v4 {
		var m ipv4.ControlMessage
		if err := m.Parse(s.ancillary[:ancillary]); err != nil {
			return packet{}, fmt.Errorf("ancillary data: %w", err)
		}
		p.link, p.local = m.IfIndex, addrOf(m.Dst)
	} else {
		var m ipv6.ControlMessage
		if err := m.Parse(s.ancillary[:ancillary]); err != nil {
			return packet{}, fmt.Errorf("ancillary data: %w", err)
		}
		p.link, p.local = m.IfIndex, addrOf(m.Dst)
	}
	if s.raw && s.v4 {
		// raw(7): IPv4 raw sockets receive the IP header as well, IPv6 ones do not.
		header := int(p.payload[0]&0x0f) * 4
		p.payload = p.payload[min(header, n):]
	}
	return p, nil
}

// dropErrors empties the queue of IP_RECVERR: the error itself has already been returned; the queue contains the
// packets that caused it.
func (s *packetSocket) dropErrors() {
	rc, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		for err = nil; err == nil; {
			_, _, _, _, err = unix.Recvmsg(int(fd), nil, nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		}
	})
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// isTimeout reports whether an error is the deadline of a socket or a context.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
