package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// stream is a TCP connection that gives up when nothing moves for the time idle, and at the time until if that is set.
type stream struct {
	conn  *socket.Conn
	idle  time.Duration
	until time.Time
	// moved is when bytes last arrived, in Unix nanoseconds. Bytes sent show nothing: the kernel takes some for a peer
	// that never reads.
	moved  atomic.Int64
	closed atomic.Bool
}

func newStream(conn *socket.Conn, idle time.Duration, until time.Time) *stream {
	s := &stream{conn: conn, idle: idle, until: until}
	s.moved.Store(time.Now().UnixNano())
	return s
}

func (s *stream) deadline() time.Time {
	deadline := time.Now().Add(s.idle)
	if !s.until.IsZero() && s.until.Before(deadline) {
		return s.until
	}
	return deadline
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	if err := s.conn.SetReadDeadline(s.deadline()); err != nil {
		return 0, s.closedOr(err)
	}
	n, err := s.conn.Read(b)
	if n > 0 {
		s.moved.Store(time.Now().UnixNano())
	}
	return n, s.closedOr(err)
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(s.deadline()); err != nil {
		return 0, s.closedOr(err)
	}
	n, err := s.conn.Write(b)
	return n, s.closedOr(err)
}

// closedOr makes one error of those that packages os and poll have for a closed socket.
func (s *stream) closedOr(err error) error {
	if err != nil && s.closed.Load() {
		return os.ErrClosed
	}
	return err
}

func (s *stream) close() {
	s.closed.Store(true)
	_ = s.conn.Close()
}

// tcpSocket makes a TCP socket in the namespace, bound to from unless that is the zero endpoint.
func (n namespace) tcpSocket(family int, from endpoint) (*socket.Conn, error) {
	var conn *socket.Conn
	err := n.do(func() (err error) {
		conn, err = socket.Socket(family, unix.SOCK_STREAM, unix.IPPROTO_TCP, "tcp", nil)
		return err
	})
	if err != nil || !from.addr.IsValid() {
		return conn, err
	}
	if err := conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := conn.Bind(from.sockaddr()); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// connect opens a TCP connection, waiting for wait at most.
func (n namespace) connect(ctx context.Context, from, to endpoint, wait time.Duration) (*socket.Conn, error) {
	conn, err := n.tcpSocket(family(to.addr), from)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if _, err := conn.Connect(ctx, to.sockaddr()); err != nil {
		_ = conn.Close()
		if isTimeout(err) {
			return nil, fmt.Errorf("connect: no reply within %s", wait.Round(time.Millisecond))
		}
		return nil, err
	}
	return conn, nil
}

// reason puts an error of the connection in words, after what has been achieved.
func (s *stream) reason(what string, err error) error {
	var path *os.PathError
	still := time.Since(time.Unix(0, s.moved.Load()))
	switch {
	case (isTimeout(err) || errors.Is(err, os.ErrClosed)) && still < s.idle/2:
		return fmt.Errorf("%s when the time was up", what)
	case isTimeout(err), errors.Is(err, os.ErrClosed):
		return fmt.Errorf("%s, then nothing for %s", what, s.idle.Round(time.Millisecond))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s, then the far end closed", what)
	case errors.As(err, &path):
		return fmt.Errorf("%s: %w", what, path.Err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
