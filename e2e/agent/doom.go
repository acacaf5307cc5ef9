package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
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
		case d.delay != nil:
			return fmt.Errorf("daemon %s: a request to it is delayed", name)
		}
		d.doom, err = startDoom(d)
		return err
	})
}

// heldBack is how long an answer is held back for a file that should have been written before it.
const heldBack = 100 * time.Millisecond

// doom kills a daemon that answers after a change of its files.
type doom struct {
	*relay
	process *os.Process
	owns    []string
	before  map[string]file
	struck  atomic.Bool // whether it killed the daemon
}

// file has enough of a file to notice that it was written or replaced.
type file struct {
	inode   uint64
	size    int64
	changed time.Time
}

func startDoom(d *daemon) (r *doom, err error) {
	r = &doom{process: d.cmd.Process, owns: d.owns}
	if r.before, err = contents(d.owns); err != nil {
		return nil, err
	}
	r.relay, err = startRelay(d.args.Socket, func(client, daemon net.Conn) {
		go pass(daemon, client)
		r.answers(client, daemon)
	})
	return r, err
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
