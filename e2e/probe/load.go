package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// LoadKind is a kind of traffic that goes as fast as it can.
type LoadKind string

// Stream is one TCP connection that carries data one way, Exchanges one on which a byte goes to and fro, Connections
// are TCP connections one after the other with such an exchange each, Packets are UDP packets one way.
const (
	Stream      LoadKind = "stream"
	Exchanges   LoadKind = "exchanges"
	Connections LoadKind = "connections"
	Packets     LoadKind = "packets"
)

// LoadSpec says what to send. It needs a server of ServeLoad at the far end.
type LoadSpec struct {
	Kind LoadKind `json:"kind"`
	// To and Port are the address and the port to send to.
	To   string `json:"to"`
	Port uint16 `json:"port"`
	// For is how long; 0 means 200ms.
	For time.Duration `json:"for,omitempty"`
}

// LoadResult is what arrived.
type LoadResult struct {
	// Rate is in bits, exchanges, connections or packets that arrived in a second.
	Rate float64 `json:"rate"`
	// P99 is the 99th percentile of the time of an exchange or a connection; 0 for other kinds.
	P99 time.Duration `json:"p99,omitempty"`
	// Lost is the share of the packets that did not arrive, from 0 to 1.
	Lost float64 `json:"lost,omitempty"`
}

const (
	loadTime = 200 * time.Millisecond
	// loadWait is how long one read, write or connection may take before the load ends with an error.
	loadWait = 5 * time.Second
	// loadChunk is how much a stream sends at once, loadPacket the payload of a packet.
	loadChunk, loadPacket = 256 << 10, 64
	// loadDrain is how long packets may still be on their way after the last one was sent.
	loadDrain = 20 * time.Millisecond
)

// A connection to such a server begins with one of these; askPackets is followed by the number of a series of packets,
// and forgets it.
const (
	askStream byte = iota + 1
	askExchanges
	askConnection
	askPackets
)

// load is a load under way.
type load struct {
	n    namespace
	to   endpoint
	spec LoadSpec
}

// Load sends from the network namespace at path netns as fast as it can until the time is over. The error says what
// failed first. Loads may run at the same time, and then share the machine.
func Load(ctx context.Context, netns string, s LoadSpec) (LoadResult, error) {
	n, err := openNamespace(netns)
	if err != nil {
		return LoadResult{}, err
	}
	defer n.close()
	addr, err := parseAddress(s.To)
	if err != nil {
		return LoadResult{}, fmt.Errorf("load: address %w", err)
	}
	setDefault(&s.For, loadTime)
	l := &load{n: n, spec: s}
	if l.to, err = n.resolve(addr, s.Port); err != nil {
		return LoadResult{}, fmt.Errorf("load: %w", err)
	}
	run := map[LoadKind]func(context.Context) (LoadResult, error){
		Stream: l.stream, Exchanges: l.exchanges, Connections: l.connections, Packets: l.packets,
	}[s.Kind]
	if run == nil {
		return LoadResult{}, fmt.Errorf("load: want kind stream, exchanges, connections or packets, got %q", s.Kind)
	}
	result, err := run(ctx)
	if err != nil {
		return result, fmt.Errorf("load of %s: %w", s.Kind, err)
	}
	return result, nil
}

// dial connects to the server and says what is wanted of it.
func (l *load) dial(ctx context.Context, ask ...byte) (*socket.Conn, error) {
	conn, err := l.n.connect(ctx, endpoint{}, l.to, loadWait)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(conn.SetDeadline(time.Now().Add(l.spec.For+loadWait)), sendAll(conn, ask)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func sendAll(conn io.Writer, data []byte) error {
	for len(data) > 0 {
		n, err := conn.Write(data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (l *load) stream(ctx context.Context) (r LoadResult, err error) {
	conn, err := l.dial(ctx, askStream)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	chunk := make([]byte, loadChunk)
	begin := time.Now()
	for time.Since(begin) < l.spec.For && ctx.Err() == nil {
		if _, err := conn.Write(chunk); err != nil {
			return r, err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return r, err
	}
	// The server counts what it has read.
	var count [8]byte
	if _, err := io.ReadFull(conn, count[:]); err != nil {
		return r, err
	}
	r.Rate = 8 * float64(binary.BigEndian.Uint64(count[:])) / time.Since(begin).Seconds()
	return r, ctx.Err()
}

// repeat calls exchange until the time is over, and returns the rate.
func (l *load) repeat(ctx context.Context, exchange func() error) (r LoadResult, err error) {
	var took []time.Duration
	begin := time.Now()
	for last := begin; last.Sub(begin) < l.spec.For && ctx.Err() == nil; {
		if err := exchange(); err != nil {
			return r, err
		}
		now := time.Now()
		took = append(took, now.Sub(last))
		last = now
	}
	if len(took) == 0 {
		return r, ctx.Err()
	}
	r.Rate = float64(len(took)) / time.Since(begin).Seconds()
	slices.Sort(took)
	r.P99 = took[min(len(took)-1, len(took)*99/100)]
	return r, ctx.Err()
}

func (l *load) exchanges(ctx context.Context) (r LoadResult, err error) {
	conn, err := l.dial(ctx, askExchanges)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	one := []byte{0}
	return l.repeat(ctx, func() error {
		if _, err := conn.Write(one); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, one)
		return err
	})
}

func (l *load) connections(ctx context.Context) (LoadResult, error) {
	one := []byte{0}
	return l.repeat(ctx, func() error {
		conn, err := l.dial(ctx, askConnection)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, one); err != nil {
			return err
		}
		// The server closes first, so that it is the one that remembers the connection for a minute (TIME-WAIT), and
		// this end does not run out of ports.
		if _, err := conn.Read(one); !errors.Is(err, io.EOF) {
			return fmt.Errorf("want the end of the connection, got %w", err)
		}
		return nil
	})
}

func (l *load) packets(ctx context.Context) (r LoadResult, err error) {
	s, err := l.n.packetSocket(packetOptions{family: family(l.to.addr)})
	if err != nil {
		return r, err
	}
	defer s.close()
	if _, err := s.conn.Connect(ctx, l.to.sockaddr()); err != nil {
		return r, err
	}
	packet := make([]byte, loadPacket)
	series := rand.Uint64()
	binary.BigEndian.PutUint64(packet, series)
	sent := 0
	begin := time.Now()
	for took := time.Duration(0); took < l.spec.For && ctx.Err() == nil; took = time.Since(begin) {
		switch _, err := s.conn.Write(packet); {
		case err == nil:
			sent++
		case errors.Is(err, unix.ENOBUFS):
			sent++ // dropped by this machine
		default:
			return r, err
		}
	}
	took := time.Since(begin)
	time.Sleep(loadDrain)
	arrived, err := l.arrived(ctx, series)
	if err != nil || sent == 0 {
		return r, err
	}
	r.Rate = float64(arrived) / took.Seconds()
	r.Lost = max(0, 1-float64(arrived)/float64(sent))
	return r, ctx.Err()
}

// arrived asks the server how many packets of a series it has seen.
func (l *load) arrived(ctx context.Context, series uint64) (uint64, error) {
	conn, err := l.dial(ctx, binary.BigEndian.AppendUint64([]byte{askPackets}, series)...)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var count [8]byte
	_, err = io.ReadFull(conn, count[:])
	return binary.BigEndian.Uint64(count[:]), err
}
