package netns

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// forwarder passes connections on.
type forwarder struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	open   map[io.Closer]bool
	closed bool
}

func newForwarder(listener net.Listener, dial func(context.Context) (net.Conn, error)) *forwarder {
	return &forwarder{listener: listener, dial: dial, open: map[io.Closer]bool{}}
}

// Close ends the listener and all connections.
func (f *forwarder) Close() error {
	f.mu.Lock()
	f.closed = true
	open := f.open
	f.open = nil
	f.mu.Unlock()
	err := f.listener.Close()
	for conn := range open {
		_ = conn.Close()
	}
	return err
}

func (f *forwarder) serve() {
	for {
		conn, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go f.pass(conn)
		}
	}
}

// pass copies in both directions until one side ends.
func (f *forwarder) pass(near net.Conn) {
	defer near.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startOfAPI)
	defer cancel()
	far, err := f.dial(ctx)
	if err != nil {
		return
	}
	defer far.Close()
	if !f.keep(near, far) {
		return
	}
	defer f.forget(near, far)
	done := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(ends[0], ends[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// keep remembers connections that Close ends. It reports whether the forwarder is open.
func (f *forwarder) keep(conns ...io.Closer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		if !f.closed {
			f.open[c] = true
		}
	}
	return !f.closed
}

func (f *forwarder) forget(conns ...io.Closer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		delete(f.open, c)
	}
}
