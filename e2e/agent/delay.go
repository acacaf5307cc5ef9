package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// DelayDaemon holds back the next request to a daemon: from now on a relay listens on its socket. The requests of
// other connections overtake it. DeliverDaemon passes it on, when its client is gone.
func (s *Server) DelayDaemon(name string, _ *None) error {
	return s.withDaemon(name, func(d *daemon) (err error) {
		switch {
		case !d.running():
			return fmt.Errorf("daemon %s: it does not run", name)
		case d.args.Socket == "":
			return fmt.Errorf("daemon %s: to delay a request, the target must name its socket (ready.socket)", name)
		case d.doom != nil || d.delay != nil:
			return fmt.Errorf("daemon %s: it is doomed, or a request to it is delayed already", name)
		}
		d.delay, err = startDelay(d.args.Socket)
		return err
	})
}

// answerWithin is how long a daemon may take to answer a request that was delayed. No answer is no error.
const answerWithin = 5 * time.Second

// DeliverDaemon passes the delayed request on and returns when the daemon has answered it, which nobody reads, or has
// closed the connection. Afterwards clients reach the daemon as before.
func (s *Server) DeliverDaemon(name string, _ *None) error {
	return s.withDaemon(name, func(d *daemon) error {
		if d.delay == nil || !d.running() {
			return fmt.Errorf("daemon %s: no request is delayed", name)
		}
		defer d.spare()
		ctx, cancel := machinetime.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		defer machinetime.Watch(ctx, d.cmd.Process.Pid)()
		if err := d.delay.deliver(ctx); err != nil {
			return fmt.Errorf("daemon %s: %w", name, err)
		}
		return nil
	})
}

// delay holds back the request of one client.
type delay struct {
	*relay
	held chan *heldRequest // has the request once its client is gone

	mu    sync.Mutex
	taken bool // whether a client is the one whose request is held back
}

// heldRequest is a request whose client is gone.
type heldRequest struct {
	daemon   net.Conn
	data     []byte
	answered <-chan struct{} // closed when the daemon has answered, or has closed the connection
}

func startDelay(socket string) (d *delay, err error) {
	d = &delay{held: make(chan *heldRequest, 1)}
	d.relay, err = startRelay(socket, d.serve)
	return d, err
}

// serve handles a connection. The first one on which something is sent is that of the request.
func (d *delay) serve(client, daemon net.Conn) {
	begin := make([]byte, 64<<10)
	n, err := client.Read(begin)
	if err != nil {
		_, _ = client.Close(), daemon.Close()
		return
	}
	d.mu.Lock()
	mine := !d.taken
	d.taken = true
	d.mu.Unlock()
	if !mine {
		if _, err := daemon.Write(begin[:n]); err == nil {
			go pass(daemon, client)
			pass(client, daemon)
		}
		return
	}
	d.hold(client, daemon, begin[:n])
}

// hold keeps what a client sends until it is gone. With HTTP/2, and so gRPC, a request follows the server's settings:
// what comes before them is passed on.
func (d *delay) hold(client, daemon net.Conn, begin []byte) {
	answered := make(chan struct{})
	if !bytes.HasPrefix(begin, []byte(http2.ClientPreface)) {
		rest, _ := io.ReadAll(client) // until it is gone
		go func() {
			defer close(answered)
			_, _ = daemon.Read(make([]byte, 1))
		}()
		d.held <- &heldRequest{daemon: daemon, data: append(begin, rest...), answered: answered}
		return
	}
	greeted := make(chan struct{})
	go readFrames(client, daemon, greeted, answered)
	if _, err := daemon.Write(begin); err != nil {
		return
	}
	<-greeted
	rest, _ := io.ReadAll(client)
	d.held <- &heldRequest{daemon: daemon, data: unfinished(rest), answered: answered}
}

// unfinished returns the frames of a client that was killed: one that gives up by itself takes its request back.
func unfinished(data []byte) []byte {
	counted := &io.LimitedReader{R: bytes.NewReader(data), N: int64(len(data))}
	frames := http2.NewFramer(io.Discard, counted)
	for end := 0; ; end = len(data) - int(counted.N) {
		frame, err := frames.ReadFrame()
		if err != nil {
			return data[:end]
		}
		switch frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return data[:end]
		}
	}
}

// readFrames passes the frames of a daemon on to a client, which may be gone, until one ends a stream. It closes
// greeted after the first frame.
func readFrames(client io.Writer, daemon net.Conn, greeted, answered chan<- struct{}) {
	defer close(answered)
	frames := http2.NewFramer(io.Discard, io.TeeReader(daemon, deaf{client}))
	for first := true; ; first = false {
		frame, err := frames.ReadFrame()
		if first {
			close(greeted)
		}
		if err != nil {
			return
		}
		if headers, ok := frame.(*http2.HeadersFrame); ok && headers.StreamEnded() {
			return
		}
	}
}

// deaf is a client to which writing never fails.
type deaf struct{ io.Writer }

// Write writes if it can.
func (d deaf) Write(p []byte) (int, error) {
	_, _ = d.Writer.Write(p)
	return len(p), nil
}

// deliver passes the request on, and waits for the answer.
func (d *delay) deliver(ctx context.Context) error {
	select {
	case request := <-d.held:
		if _, err := request.daemon.Write(request.data); err != nil {
			return nil //nolint:nilerr // the daemon has given up the client, and never sees the request
		}
		select {
		case <-request.answered:
		case <-ctx.Done():
		}
		return nil
	case <-ctx.Done():
		return errors.New("no client has sent a request and gone")
	}
}
