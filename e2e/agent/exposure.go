package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/lostthread"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// Exposure is what others than root reach of a daemon.
type Exposure struct {
	// Ports are the TCP addresses on which it listens, without those of the loopback. An unspecified address stands for
	// all addresses of its node.
	Ports []netip.AddrPort `json:"ports,omitempty"`
	// Datagrams are the same for UDP. Sockets of clients are left out: those that are connected, those with a port that
	// the kernel chose, and those of DHCP.
	Datagrams []netip.AddrPort `json:"datagrams,omitempty"`
	// Open are its unix sockets that keep a connection of a user who is nobody. Changeable are its files and
	// directories that every user may change.
	Open       []string `json:"open,omitempty"`
	Changeable []string `json:"changeable,omitempty"`
}

// Exposure returns what others than root reach of a daemon that runs.
func (s *Server) Exposure(name string, exposure *Exposure) error {
	return s.withDaemon(name, func(d *daemon) error {
		if !d.running() {
			return fmt.Errorf("daemon %s: it does not run", name)
		}
		e, err := d.exposure()
		*exposure = e
		return err
	})
}

// Exposure returns what others than root reach of a daemon.
func (c *Client) Exposure(ctx context.Context, name string) (Exposure, error) {
	return call[Exposure](ctx, c, "Exposure", name)
}

func (d *daemon) exposure() (e Exposure, err error) {
	if e.Ports, e.Datagrams, err = listening(d.cmd.Process.Pid); err != nil {
		return e, err
	}
	files, sockets, err := kept(append(slices.Clone(d.owns), d.args.Socket))
	if err != nil {
		return e, err
	}
	e.Changeable = files
	for _, path := range sockets {
		open, err := opensToNobody(path)
		if err != nil {
			return e, err
		}
		if open {
			e.Open = append(e.Open, path)
		}
	}
	return e, nil
}

// kept returns the files and directories among and below paths that every user may change, and the sockets.
func kept(paths []string) (changeable, sockets []string, err error) {
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := entry.Info()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case info.Mode().Type() == fs.ModeSocket:
				sockets = append(sockets, path)
			case info.Mode().Type() != fs.ModeSymlink && info.Mode().Perm()&0o002 != 0:
				changeable = append(changeable, path)
			}
			return nil
		})
		if path != "" && err != nil {
			return nil, nil, err
		}
	}
	slices.Sort(sockets)
	return changeable, slices.Compact(sockets), nil
}

const (
	// nobody is the user that owns nothing.
	nobody = 65534
	// closesWithin is how long a daemon may take to close a connection of a user who may not connect.
	closesWithin = 2 * time.Second
)

// opensToNobody reports whether a socket keeps a connection of a user who is nobody. One that does not know this user,
// as in a user namespace, cannot be asked.
func opensToNobody(path string) (open bool, err error) {
	err = lostthread.Do(func() error {
		// Of this thread alone: package syscall would change all.
		for _, call := range [][4]uintptr{
			{unix.SYS_SETGROUPS, 0, 0, 0},
			{unix.SYS_SETRESGID, nobody, nobody, nobody},
			{unix.SYS_SETRESUID, nobody, nobody, nobody},
		} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				return nil
			}
		}
		conn, err := dialUnix(path)
		if err != nil {
			return nil //nolint:nilerr // it is refused
		}
		defer unix.Close(conn)
		ctx, cancel := machinetime.WithTimeout(context.Background(), closesWithin)
		defer cancel()
		open, err = staysOpen(ctx, conn)
		return err
	})
	return open, err
}

// dialUnix connects from this thread: package net may connect from another one.
func dialUnix(path string) (conn int, err error) {
	conn, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(conn, &unix.SockaddrUnix{Name: path}); err != nil {
		return 0, errors.Join(err, unix.Close(conn))
	}
	return conn, nil
}

// staysOpen reports whether the other end of a connection has not closed it when ctx ends. What it says first, such as
// the settings of HTTP/2, does not count.
func staysOpen(ctx context.Context, conn int) (bool, error) {
	for data := make([]byte, 4096); ctx.Err() == nil; {
		ready := []unix.PollFd{{Fd: int32(conn), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 50)
		switch {
		case errors.Is(err, unix.EINTR) || err == nil && n == 0:
			continue
		case err != nil:
			return false, err
		}
		if n, err := unix.Read(conn, data); n <= 0 || err != nil {
			return false, nil //nolint:nilerr // it was reset
		}
	}
	return true, nil
}
