package netns

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that answers each line with itself.
func echo(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	return listener.Addr().String()
}

// A node reaches the API through this process; when the node ends, so do its connections.
func TestForwarder(t *testing.T) {
	far := echo(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newForwarder(listener, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", far)
	})
	go f.serve()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if got, err := lines.ReadString('\n'); err != nil || got != "hello\n" {
		t.Fatalf("got %q, %v, want hello", got, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := lines.ReadString('\n'); err == nil {
		t.Error("the connection is still open")
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

// thing counts how often it is closed.
type thing struct {
	name   string
	closed chan struct{}
}

func (t *thing) close() { close(t.closed) }

func TestPool(t *testing.T) {
	var p pool[*thing]
	a, b := &thing{"a", make(chan struct{})}, &thing{"b", make(chan struct{})}
	p.give(a, time.Hour)
	p.give(b, time.Hour)
	if got, found := p.take(func(t *thing) bool { return t.name == "b" }); got != b || !found {
		t.Errorf("got %v, want b", got)
	}
	if _, found := p.take(func(t *thing) bool { return t.name == "b" }); found {
		t.Error("b was given once and taken twice")
	}
	p.give(b, time.Millisecond)
	<-b.closed
	if got, found := p.take(func(*thing) bool { return true }); got != a || !found {
		t.Errorf("got %v, want a: b has ended", got)
	}
	select {
	case <-a.closed:
		t.Error("a was closed, and is somebody's")
	default:
	}
}
