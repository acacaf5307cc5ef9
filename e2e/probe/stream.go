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

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// stream is a TCP connection that fails if it is idle for a time, counted in time that the machine gave.
type stream struct {
	conn *socket.Conn
	idle time.Duration
	// moved is the time at which bytes last arrived, in Unix nanoseconds. Bytes that were sent show nothing: the kernel
	// accepts some for a peer that never reads.
	moved  atomic.Int64
	closed atomic.Bool
}

func newStream(conn *socket.Conn, idle time.Duration) *stream {
	s := &stream{conn: conn, idle: idle}
	s.moved.Store(time.Now().UnixNano())
	return s
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.within(s.conn.SetReadDeadline, s.conn.Read, b)
	if n > 0 {
		s.moved.Store(time.Now().UnixNano())
	}
	return n, err
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	return s.within(s.conn.SetWriteDeadline, s.conn.Write, b)
}

// within moves bytes. It extends the idle time by the time that the machine did not give.
func (s *stream) within(setDeadline func(time.Time) error, move func([]byte) (int, error), b []byte) (int, error) {
	interval := machinetime.Start()
	for moved := 0; ; {
		if err := setDeadline(time.Now().Add(s.idle - interval.Given())); err != nil {
			return moved, s.closedOr(err)
		}
		n, err := move(b[moved:])
		moved += n
		if err == nil || n > 0 || !isTimeout(err) || interval.Given() >= s.idle {
			return moved, s.closedOr(err)
		}
	}
}

// closedOr returns one error in place of those that packages os and poll have for a closed socket.
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
	ctx, cancel := machinetime.WithTimeout(ctx, wait)
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

// reason describes an error of the connection, after what was achieved.
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
