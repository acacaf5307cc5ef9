package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
)

// relay stands between a daemon's socket and its clients.
type relay struct {
	socket  string // where it listens
	behind  string // where the daemon listens meanwhile
	accepts net.Listener

	once sync.Once
	mu   sync.Mutex
	// conns has both ends of each connection; nil once the relay has ended.
	conns []net.Conn
}

// startRelay puts a relay before a socket. Each connection is handled by serve, in a goroutine of its own.
func startRelay(socket string, serve func(client, daemon net.Conn)) (*relay, error) {
	r := &relay{socket: socket, behind: socket + ".behind", conns: []net.Conn{}}
	info, err := os.Stat(r.socket)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(r.socket, r.behind); err != nil {
		return nil, err
	}
	if r.accepts, err = net.Listen("unix", r.socket); err != nil {
		return nil, errors.Join(err, os.Rename(r.behind, r.socket))
	}
	r.accepts.(*net.UnixListener).SetUnlinkOnClose(false)
	go r.run(serve)
	if err := os.Chmod(r.socket, info.Mode().Perm()); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// close ends the relay and every connection through it, and puts the daemon's socket back. It may be called again.
func (r *relay) close() {
	r.once.Do(func() {
		_ = r.accepts.Close()
		// A daemon that was started again has a new socket; the socket of one that was killed refuses connections.
		_ = os.Rename(r.behind, r.socket)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
	})
}

func (r *relay) run(serve func(client, daemon net.Conn)) {
	for {
		client, err := r.accepts.Accept()
		if err != nil {
			return
		}
		daemon, err := net.Dial("unix", r.behind)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		over := r.conns == nil
		if !over {
			r.conns = append(r.conns, client, daemon)
		}
		r.mu.Unlock()
		if over {
			_, _ = client.Close(), daemon.Close()
			return
		}
		go serve(client, daemon)
	}
}

// pass passes everything on, until one end is gone.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}
