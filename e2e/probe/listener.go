package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// serverIdle is how long a server keeps an idle TCP connection: longer than any link is down during a flow, and short
// enough not to accumulate the connections of clients that vanished.
const serverIdle = time.Minute

// ListenSpec says what a server listens on.
type ListenSpec struct {
	// Protocol is TCP or UDP; the kernel itself answers ICMP.
	Protocol Protocol `json:"protocol"`
	// Address is the address to listen on; empty means all, of both families.
	Address string `json:"address,omitempty"`
	// Port is the port to listen on, never 0.
	Port uint16 `json:"port"`
	// Name is the name of the server. It is sent to each client, at most 200 bytes.
	Name string `json:"name,omitempty"`
}

// Listener answers the probes and flows of this package on one port until it is closed.
type Listener struct {
	name    string
	closing context.Context
	close   context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	open map[io.Closer]struct{}
}

// Listen starts a server in the network namespace at path netns. Clients can reach it once Listen has returned. The
// caller closes the Listener; until then its sockets keep the namespace alive.
func Listen(netns string, s ListenSpec) (*Listener, error) {
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	return listenIn(n, s)
}

func listenIn(n namespace, s ListenSpec) (*Listener, error) {
	addresses, err := s.addresses()
	if err != nil {
		return nil, err
	}
	l := &Listener{name: s.Name, open: map[io.Closer]struct{}{}}
	l.closing, l.close = context.WithCancel(context.Background())
	for _, address := range addresses {
		at, err := n.resolve(address, s.Port)
		if err == nil {
			err = l.listen(n, s.Protocol, at)
		}
		if s.Address == "" && errors.Is(err, unix.EAFNOSUPPORT) && address.Is6() {
			// A kernel that was booted with ipv6.disable=1 has IPv4.
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s %s: %w", s.Protocol, netip.AddrPortFrom(address, s.Port),
				err), l.Close())
		}
	}
	return l, nil
}

func (s ListenSpec) addresses() ([]netip.Addr, error) {
	switch {
	case s.Protocol != TCP && s.Protocol != UDP:
		return nil, fmt.Errorf("listener: want protocol tcp or udp, got %q", s.Protocol)
	case s.Port == 0:
		return nil, errors.New("listener: want a port, got 0")
	case len(s.Name) > 200:
		return nil, fmt.Errorf("listener: want a name of at most 200 bytes, got %d", len(s.Name))
	case s.Address == "":
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	}
	addr, err := parseAddress(s.Address)
	if err != nil {
		return nil, fmt.Errorf("listener: address %w", err)
	}
	return []netip.Addr{addr}, nil
}

func (l *Listener) listen(n namespace, protocol Protocol, at endpoint) error {
	if protocol == UDP {
		s, err := n.packetSocket(packetOptions{family: family(at.addr), from: at})
		if err != nil {
			return err
		}
		l.start(s.conn, func() { l.answerPackets(s) })
		return nil
	}
	conn, err := n.tcpSocket(family(at.addr), endpoint{})
	if err != nil {
		return err
	}
	if err := listenTCP(conn, at); err != nil {
		_ = conn.Close()
		return err
	}
	l.start(conn, func() { l.accept(conn, l.serve) })
	return nil
}

func listenTCP(conn *socket.Conn, at endpoint) error {
	if err := conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if at.addr.Is6() {
		if err := conn.SetsockoptInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if err := conn.Bind(at.sockaddr()); err != nil {
		return err
	}
	return conn.Listen(unix.SOMAXCONN)
}

// Close stops the server, closes its connections and waits until everything is released. It may be called again.
func (l *Listener) Close() error {
	l.close()
	l.mu.Lock()
	var errs []error
	for c := range l.open {
		errs = append(errs, c.Close())
	}
	clear(l.open)
	l.mu.Unlock()
	l.running.Wait()
	return errors.Join(errs...)
}

// start runs serve, and closes c when serve returns or the listener is closed, whichever is first.
func (l *Listener) start(c io.Closer, serve func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing.Err() != nil {
		_ = c.Close()
		return
	}
	l.open[c] = struct{}{}
	l.running.Go(func() {
		serve()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
		// Closing a socket again does nothing. If a connection failed, the kernel has told its peer.
		_ = c.Close()
	})
}

func (l *Listener) answerPackets(s *packetSocket) {
	for l.closing.Err() == nil {
		p, err := s.receive(time.Time{})
		if err != nil {
			// Errors of an unconnected socket concern one packet. The loop ends when the socket is closed.
			continue
		}
		var q request
		if json.Unmarshal(p.payload, &q) != nil {
			continue
		}
		answer, err := encode(reply{
			Nonce: q.Nonce, Seq: q.Seq, Name: l.name, Peer: text(p.from.addr), Local: text(p.local),
		}, len(p.payload))
		if err != nil {
			continue
		}
		// The client reports packets that do not reach it.
		if s.send(answer, p.from, p.local) != nil {
			// It was sent to a broadcast or multicast address, which cannot be the source of an answer.
			_ = s.send(answer, p.from, netip.Addr{})
		}
	}
}

// accept calls serve for each TCP connection, until the listener is closed.
func (l *Listener) accept(listening *socket.Conn, serve func(conn *socket.Conn, peer endpoint)) {
	for l.closing.Err() == nil {
		conn, peer, err := listening.Accept(context.Background(), 0)
		if err != nil {
			// The connection was reset before it was accepted, or there is no free descriptor: others may follow.
			select {
			case <-l.closing.Done():
			case <-time.After(time.Millisecond):
			}
			continue
		}
		l.start(conn, func() { serve(conn, endpointOf(peer)) })
	}
}

// serve serves one TCP connection: a transfer, or any number of requests of a flow.
func (l *Listener) serve(conn *socket.Conn, peer endpoint) {
	s := newStream(conn, serverIdle)
	local, err := conn.Getsockname()
	if err != nil {
		return
	}
	r := bufio.NewReaderSize(s, maxLine)
	for {
		var q request
		if err := readMessage(r, &q); err != nil {
			return
		}
		answer := reply{
			Nonce: q.Nonce, Seq: q.Seq, Name: l.name, Peer: text(peer.addr), Local: text(endpointOf(local).addr),
		}
		if err := writeMessage(s, answer); err != nil {
			return
		}
		if q.Transfer {
			l.transfer(s, r, q)
			return
		}
	}
}

// transfer transfers the bytes of both directions at the same time and ends with a confirmation.
func (l *Listener) transfer(s *stream, r io.Reader, q request) {
	if q.Bytes < 0 || q.Bytes > math.MaxInt32 {
		return
	}
	sent := make(chan error, 1)
	go func() { sent <- newPattern(q.Nonce, fromServer).write(s, q.Bytes) }()
	_, err := newPattern(q.Nonce, fromClient).verify(r, q.Bytes)
	if err == nil {
		err = wantEnd(r)
	}
	if <-sent != nil {
		return
	}
	var c confirmation
	if err != nil {
		c.Error = err.Error()
	}
	_ = writeMessage(s, c)
}

// wantEnd reads the end of the stream.
func wantEnd(r io.Reader) error {
	n, err := r.Read(make([]byte, 1))
	if n > 0 {
		return errors.New("more bytes than announced")
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("want the end of the stream, got %w", err)
	}
	return nil
}
