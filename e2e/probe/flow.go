package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

const (
	flowInterval = 20 * time.Millisecond
	// lostAfter is the time after which a request without an answer counts as lost, even if the answer comes later, in
	// time that the machine gave.
	lostAfter = time.Second
	// connectWithin limits how long a flow's connection may take. The kernel drops packets on a link until it has
	// noticed the carrier, and repeats a lost first segment after one second and after three (RFC 6298, section 2).
	connectWithin = 4 * time.Second
)

// FlowSpec says which requests run continuously. A flow needs a Listener of this package at the far end.
type FlowSpec struct {
	// Protocol is TCP or UDP.
	Protocol Protocol `json:"protocol"`
	// To is the address to ask; an IPv6 link-local one has a zone.
	To string `json:"to"`
	// Port is the port to ask.
	Port uint16 `json:"port"`
	// From is the source address to use; empty leaves the choice to the kernel.
	From string `json:"from,omitempty"`
	// Interval is the time between two requests; 0 means 20ms.
	Interval time.Duration `json:"interval,omitempty"`
}

// FlowResult is the outcome of a flow.
type FlowResult struct {
	// Sent counts the requests, Received those that were answered within 1s of time that the machine gave, Lost the
	// others.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	Lost     int `json:"lost"`
	// LongestGap is the longest time without an answer, from the start to the call of Stop, without the time that the
	// machine did not give.
	LongestGap time.Duration `json:"longestGap"`
	// Error is the first error, in one line; empty if there was none. A lost request is not an error.
	Error string `json:"error,omitempty"`
	// Worst is the largest lateness of this process's timers while the flow ran.
	Worst time.Duration `json:"worst,omitempty"`
	// Control is the result of a flow of the same kind over a Control; nil if there was none.
	Control *FlowResult `json:"control,omitempty"`
}

// flowConn carries the requests of a flow on one socket.
type flowConn interface {
	send(seq int) error
	// receive returns the number of the next answered request. broken means that no more can follow.
	receive() (seq int, broken bool, err error)
	close()
}

// Flow is a running flow.
type Flow struct {
	conn     flowConn
	stop     context.CancelFunc
	sender   chan struct{}
	receiver chan struct{}
	finish   sync.Once

	mu         sync.Mutex
	unanswered map[int]machinetime.Interval // since they were sent
	stopped    bool
	lastReply  machinetime.Interval
	whole      machinetime.Interval
	result     FlowResult
}

// StartFlow starts requests and replies on one socket in the network namespace at path netns. A UDP flow continues
// whatever happens; a TCP flow fails here if the connection is not made within 4s, and ends with its connection. The
// caller calls Stop.
func StartFlow(netns string, s FlowSpec) (*Flow, error) {
	if s.Protocol != TCP && s.Protocol != UDP {
		return nil, fmt.Errorf("flow: want protocol tcp or udp, got %q", s.Protocol)
	}
	if s.Interval < 0 {
		return nil, fmt.Errorf("flow: want an interval of 0 or more, got %s", s.Interval)
	}
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	return flowIn(n, s)
}

func flowIn(n namespace, s FlowSpec) (*Flow, error) {
	setDefault(&s.Interval, flowInterval)
	r, err := newRun(n, Spec{Protocol: s.Protocol, To: s.To, Port: s.Port, From: s.From})
	if err != nil {
		return nil, err
	}
	conn, err := r.flowConn()
	if err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	now := machinetime.Start()
	f := &Flow{
		conn: conn, lastReply: now, whole: now, stop: stop,
		sender: make(chan struct{}), receiver: make(chan struct{}), unanswered: map[int]machinetime.Interval{},
	}
	go f.receive(stop)
	go f.send(ctx, s.Interval)
	return f, nil
}

// Stop ends the flow, waits up to 1s for the answers to the last requests, and releases the socket. It may be called
// again and then returns the same.
func (f *Flow) Stop() FlowResult {
	f.finish.Do(func() {
		f.stop()
		<-f.sender
		f.mu.Lock()
		f.stopped = true
		f.result.LongestGap = max(f.result.LongestGap, f.lastReply.Given())
		f.mu.Unlock()
		for f.open() {
			select {
			case <-f.receiver:
			case <-time.After(time.Millisecond):
			}
		}
		f.conn.close()
		<-f.receiver
		f.result.Lost = f.result.Sent - f.result.Received
		f.result.Worst = f.whole.Worst()
	})
	return f.result
}

// open reports whether answers can still arrive in time.
func (f *Flow) open() bool {
	select {
	case <-f.receiver:
		return false
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sent := range f.unanswered {
		if sent.Given() < lostAfter {
			return true
		}
	}
	return false
}

func (f *Flow) send(ctx context.Context, interval time.Duration) {
	defer close(f.sender)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for seq := 1; ctx.Err() == nil; seq++ {
		f.mu.Lock()
		f.result.Sent++
		f.unanswered[seq] = machinetime.Start()
		f.mu.Unlock()
		if err := f.conn.send(seq); err != nil {
			f.failed(err)
			f.forget(seq)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// receive takes answers until the socket is closed. It calls broken when the connection is lost.
func (f *Flow) receive(broken context.CancelFunc) {
	defer close(f.receiver)
	for {
		seq, end, err := f.conn.receive()
		if err != nil {
			f.failed(err)
		}
		if end {
			broken()
			return
		}
		if err == nil {
			f.answered(seq)
		}
	}
}

func (f *Flow) answered(seq int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent, ok := f.unanswered[seq]
	if !ok {
		return
	}
	delete(f.unanswered, seq)
	if sent.Given() > lostAfter {
		return
	}
	f.result.Received++
	if !f.stopped {
		f.result.LongestGap = max(f.result.LongestGap, f.lastReply.Given())
		f.lastReply = machinetime.Start()
	}
}

func (f *Flow) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	setDefault(&f.result.Error, err.Error())
}

// forget stops waiting for the answer to a request that was never sent.
func (f *Flow) forget(seq int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.unanswered, seq)
}

func (r *run) flowConn() (flowConn, error) {
	if r.spec.Protocol == TCP {
		conn, err := r.connect(context.Background(), r.from, r.to, connectWithin)
		if err != nil {
			return nil, err
		}
		s := newStream(conn, serverIdle)
		return &streamFlow{stream: s, in: bufio.NewReaderSize(s, maxLine), nonce: rand.Uint64()}, nil
	}
	s, err := r.packetSocket(packetOptions{family: family(r.to.addr), from: r.from, reportErrors: true})
	if err != nil {
		return nil, err
	}
	return &packetFlow{packetSocket: s, to: r.to, requests: newDatagrams(0)}, nil
}

// packetFlow is a flow on a UDP socket.
type packetFlow struct {
	*packetSocket
	to       endpoint
	requests *datagrams
}

func (p *packetFlow) send(seq int) error {
	b, err := p.requests.request(seq)
	if err != nil {
		return err
	}
	err = p.packetSocket.send(b, p.to, netip.Addr{})
	if err != nil {
		return fmt.Errorf("send: %w", cause(err))
	}
	return nil
}

func (p *packetFlow) receive() (int, bool, error) {
	for {
		packet, err := p.packetSocket.receive(time.Time{})
		if errors.Is(err, os.ErrClosed) {
			return 0, true, nil
		}
		if err != nil {
			return 0, false, cause(err)
		}
		answer, ok, err := p.requests.reply(packet)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			continue
		}
		return answer.Seq, false, wantFrom(packet.from, p.to)
	}
}

// streamFlow is a flow on a TCP connection.
type streamFlow struct {
	*stream
	in    *bufio.Reader
	nonce uint64
}

func (s *streamFlow) send(seq int) error {
	if err := writeMessage(s.stream, request{Nonce: s.nonce, Seq: seq}); err != nil {
		return s.reason("send", err)
	}
	return nil
}

func (s *streamFlow) receive() (int, bool, error) {
	var answer reply
	err := readMessage(s.in, &answer)
	if errors.Is(err, os.ErrClosed) {
		return 0, true, nil
	}
	if err != nil {
		return 0, true, s.reason("receive", err)
	}
	if answer.Nonce != s.nonce {
		return 0, true, errors.New("the answer is to another connection")
	}
	return answer.Seq, false, nil
}
