package main

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// refusing is a connection whose peer does not notice that writes fail.
type refusing struct {
	net.Conn
	closed bool
}

func (r *refusing) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func (r *refusing) Close() error {
	r.closed = true
	return nil
}

func TestBrittle(t *testing.T) {
	conn := &refusing{}
	if _, err := (brittle{conn}).Write([]byte("x")); !errors.Is(err, unix.ENOSPC) || !conn.closed {
		t.Errorf("got %v, closed %t, want no space and a closed connection", err, conn.closed)
	}
}
