package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

const (
	ipv4Header = 20
	ipv6Header = 40
	udpHeader  = 8
	maxPacket  = 65535
)

// question makes the requests of a packet probe and recognises the replies.
type question interface {
	// request returns the request of a number, as the payload of a packet socket.
	request(seq int) ([]byte, error)
	// reply says which request p answers. ok is false for a packet that does not belong to this probe. The error is an
	// answer from the network instead of the target.
	reply(p packet) (answer reply, ok bool, err error)
}

func (r *run) question() question {
	overhead := ipv6Header
	if r.to.addr.Is4() {
		overhead = ipv4Header
	}
	if r.spec.Protocol == ICMP {
		return newEcho(r.to, r.spec.Size-overhead)
	}
	return newDatagrams(r.spec.Size - overhead - udpHeader)
}

// checkSize returns an error if the size is too small for a request.
func (r *run) checkSize() error {
	if r.spec.Size == 0 {
		return nil
	}
	if r.spec.Size > maxPacket {
		return fmt.Errorf("want a size of at most %d bytes, got %d", maxPacket, r.spec.Size)
	}
	// Requests fill the rest of the size; one that is larger than the size shows how much is missing.
	q := r.question()
	b, err := q.request(r.spec.Count)
	if err != nil {
		return err
	}
	least := len(b) + ipv4Header
	if r.to.addr.Is6() {
		least = len(b) + ipv6Header
	}
	if r.spec.Protocol == UDP {
		least += udpHeader
	}
	if least > r.spec.Size {
		return fmt.Errorf("want a size of at least %d bytes, got %d", least, r.spec.Size)
	}
	return nil
}

// packets makes one attempt: it sends Count requests on one socket, all of which must be answered.
func (r *run) packets(ctx context.Context, wait time.Duration) error {
	r.result.Local = r.source()
	s, err := r.packetSocket(packetOptions{
		family: family(r.to.addr), icmp: r.spec.Protocol == ICMP, from: r.from,
		dontFragment: r.spec.DontFragment, reportErrors: r.spec.Protocol == UDP, many: r.via.addr.IsValid(),
	})
	if err != nil {
		return err
	}
	defer s.close()
	defer context.AfterFunc(ctx, s.close)()

	q := r.question()
	var next time.Time
	var asked machinetime.Interval
	unanswered := map[int]bool{}
	for r.result.Sent < r.spec.Count || len(unanswered) > 0 {
		if r.result.Sent < r.spec.Count && !time.Now().Before(next) {
			r.result.Sent++
			unanswered[r.result.Sent] = true
			if err := r.ask(s, q, r.result.Sent); err != nil {
				return err
			}
			next = time.Now().Add(r.spec.Interval)
			asked = machinetime.Start()
		}
		until := time.Now().Add(wait - asked.Given())
		if r.result.Sent < r.spec.Count {
			until = next
		}
		p, err := s.receive(until)
		if isTimeout(err) && (r.result.Sent < r.spec.Count || asked.Given() < wait) {
			continue
		}
		if err != nil {
			return r.silence(err, wait)
		}
		answer, ok, err := q.reply(p)
		if err != nil {
			return err
		}
		if !ok || !unanswered[answer.Seq] {
			continue
		}
		if err := wantFrom(p.from, r.to); err != nil {
			if r.via.addr.IsValid() {
				continue // other sockets received it too
			}
			return err
		}
		delete(unanswered, answer.Seq)
		r.answered(answer, text(p.local))
	}
	return nil
}

func (r *run) ask(s *packetSocket, q question, seq int) error {
	b, err := q.request(seq)
	if err != nil {
		return err
	}
	to := r.to
	if r.via.addr.IsValid() {
		to = r.via
	}
	if err := s.send(b, to, netip.Addr{}); err != nil {
		return fmt.Errorf("send: %w", cause(err))
	}
	return nil
}

// silence returns the error of an attempt that ended with err before the last reply.
func (r *run) silence(err error, wait time.Duration) error {
	if !isTimeout(err) && !errors.Is(err, os.ErrClosed) {
		return cause(err)
	}
	if r.spec.Count > 1 {
		return fmt.Errorf("%d of %d requests answered within %s", r.result.Received, r.spec.Count,
			wait.Round(time.Millisecond))
	}
	return fmt.Errorf("no reply within %s", wait.Round(time.Millisecond))
}

// wantFrom returns an error if a reply came from another endpoint than it had to.
func wantFrom(from, want endpoint) error {
	if from.addr != want.addr {
		return fmt.Errorf("reply came from %s, want %s", from.addr, want.addr)
	}
	if from.port != want.port {
		return fmt.Errorf("reply came from port %d, want %d", from.port, want.port)
	}
	return nil
}

// cause returns an error without the name of the system call, which says less than the other words.
func cause(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// source returns the address from which the kernel reaches the target. It connects a UDP socket to find it and sends
// nothing. It returns an empty string if there is no route.
func (r *run) source() string {
	if r.from.addr.IsValid() {
		return text(r.from.addr)
	}
	var conn *socket.Conn
	err := r.do(func() (err error) {
		conn, err = socket.Socket(family(r.to.addr), unix.SOCK_DGRAM, unix.IPPROTO_UDP, "udp", nil)
		return err
	})
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	to := r.to
	setDefault(&to.port, 1)
	if _, err := conn.Connect(context.Background(), to.sockaddr()); err != nil {
		return ""
	}
	sa, err := conn.Getsockname()
	if err != nil {
		return ""
	}
	return text(endpointOf(sa).addr)
}
