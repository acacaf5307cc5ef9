package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// DoomDaemon lets a running daemon die after it wrote down a request, and before the client has the answer: from now on
// a relay listens on its socket, and kills the daemon when it answers after a change of its files. A daemon that
// changes no file lives on.
func (s *Server) DoomDaemon(name string, _ *None) error {
	return s.withDaemon(name, func(d *daemon) (err error) {
		switch {
		case !d.running():
			return fmt.Errorf("daemon %s: it does not run", name)
		case d.args.Socket == "" || len(d.owns) == 0:
			return fmt.Errorf("daemon %s: to kill it between its files and its answer, the target must name its "+
				"socket (ready.socket) and its files (owns)", name)
		case d.doom != nil:
			return nil
		}
		d.doom, err = startDoom(d)
		return err
	})
}

// heldBack is how long an answer is held back for a file that should have been written before it.
const heldBack = 100 * time.Millisecond

// doom is a relay between a daemon's socket and its clients.
type doom struct {
	process *os.Process
	socket  string // where it listens
	behind  string // where the daemon listens meanwhile
	owns    []string
	before  map[string]file
	accepts net.Listener

	struck atomic.Bool // whether it killed the daemon
	once   sync.Once
	mu     sync.Mutex
	// conns has both ends of each connection; nil once the relay has ended.
	conns []net.Conn
}

// file has enough of a file to notice that it was written or replaced.
type file struct {
	inode   uint64
	size    int64
	changed time.Time
}

func startDoom(d *daemon) (*doom, error) {
	before, err := contents(d.owns)
	if err != nil {
		return nil, err
	}
	r := &doom{
		process: d.cmd.Process, socket: d.args.Socket, behind: d.args.Socket + ".doomed", owns: d.owns,
		before: before, conns: []net.Conn{},
	}
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
	go r.serve()
	if err := os.Chmod(r.socket, info.Mode().Perm()); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// close ends the relay and every connection through it, and puts the daemon's socket back. It may be called again.
func (r *doom) close() {
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

func (r *doom) serve() {
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
		go relay(daemon, client)
		go r.answers(client, daemon)
	}
}

// relay passes requests on.
func relay(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// answers passes answers on, until the daemon has changed a file of its own.
func (r *doom) answers(client, daemon net.Conn) {
	defer client.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := daemon.Read(buffer)
		if err != nil {
			return
		}
		time.Sleep(heldBack)
		if r.written() {
			r.struck.Store(true)
			_ = syscall.Kill(-r.process.Pid, syscall.SIGKILL)
			r.close()
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// written reports whether the daemon's files have changed since the start. A file that cannot be read counts as
// changed.
func (r *doom) written() bool {
	now, err := contents(r.owns)
	if err != nil || len(now) != len(r.before) {
		return true
	}
	for path, f := range now {
		if r.before[path] != f {
			return true
		}
	}
	return false
}

// contents returns the regular files among and below paths.
func contents(paths []string) (map[string]file, error) {
	files := map[string]file{}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			files[path] = file{inode: info.Sys().(*syscall.Stat_t).Ino, size: info.Size(), changed: info.ModTime()}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}
