package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// loadBuffer is for packets that arrive while the server does not run.
const loadBuffer = 4 << 20

// ServeLoad starts a server for Load in the network namespace at path netns: on a port of TCP and of UDP, at all
// addresses of both families. The caller closes it; until then its sockets keep the namespace alive.
func ServeLoad(netns string, port uint16) (*Listener, error) {
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	l := &Listener{open: map[io.Closer]struct{}{}}
	l.closing, l.close = context.WithCancel(context.Background())
	counts := &packetCounts{series: map[uint64]uint64{}}
	for _, address := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		err := l.serveLoad(n, endpoint{addr: address, port: port}, counts)
		if errors.Is(err, unix.EAFNOSUPPORT) && address.Is6() {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("serve loads on port %d: %w", port, err), l.Close())
		}
	}
	return l, nil
}

// packetCounts counts the packets that arrived, by series.
type packetCounts struct {
	mu     sync.Mutex
	series map[uint64]uint64
}

func (l *Listener) serveLoad(n namespace, at endpoint, counts *packetCounts) error {
	conn, err := n.tcpSocket(family(at.addr), endpoint{})
	if err != nil {
		return err
	}
	if err := listenTCP(conn, at); err != nil {
		_ = conn.Close()
		return err
	}
	l.start(conn, func() {
		l.accept(conn, func(client *socket.Conn, _ endpoint) { counts.answer(client) })
	})
	packets, err := n.packetSocket(packetOptions{family: family(at.addr), from: at})
	if err != nil {
		return err
	}
	// Beyond net.core.rmem_max, where this process may.
	_ = packets.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, loadBuffer)
	l.start(packets.conn, func() { counts.count(l.closing, packets.conn) })
	return nil
}

// count counts packets until the socket is closed.
func (p *packetCounts) count(closing context.Context, conn *socket.Conn) {
	packet := make([]byte, loadPacket)
	for closing.Err() == nil {
		n, err := conn.Read(packet)
		if err != nil || n < 8 {
			continue
		}
		p.mu.Lock()
		p.series[binary.BigEndian.Uint64(packet)]++
		p.mu.Unlock()
	}
}

// answer serves one connection.
func (p *packetCounts) answer(conn *socket.Conn) {
	buffer := make([]byte, loadChunk)
	if conn.SetDeadline(time.Now().Add(serverIdle)) != nil {
		return
	}
	if _, err := io.ReadFull(conn, buffer[:1]); err != nil {
		return
	}
	switch buffer[0] {
	case askStream:
		count := uint64(0)
		for {
			n, err := conn.Read(buffer)
			count += uint64(n)
			if errors.Is(err, io.EOF) {
				_ = sendAll(conn, binary.BigEndian.AppendUint64(nil, count))
			}
			if err != nil {
				return
			}
		}
	case askExchanges:
		for {
			if _, err := io.ReadFull(conn, buffer[:1]); err != nil {
				return
			}
			if _, err := conn.Write(buffer[:1]); err != nil {
				return
			}
		}
	case askConnection:
		_, _ = conn.Write(buffer[:1])
	case askPackets:
		if _, err := io.ReadFull(conn, buffer[:8]); err != nil {
			return
		}
		series := binary.BigEndian.Uint64(buffer)
		p.mu.Lock()
		arrived := p.series[series]
		delete(p.series, series)
		p.mu.Unlock()
		_ = sendAll(conn, binary.BigEndian.AppendUint64(nil, arrived))
	}
}
