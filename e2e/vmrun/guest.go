package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const guestName = "vm"

// The machine's serial ports: the kernel's console, the program's standard output and error, and the messages between
// the two vmruns.
const (
	outPort     = "/dev/ttyS1"
	errPort     = "/dev/ttyS2"
	controlPort = "/dev/ttyS3"
)

// control is a line on the control port. The last one has an exit status, or the reason why the program has none, and
// is followed by a tar archive of Bytes bytes.
type control struct {
	Up    bool   `json:"up,omitempty"`
	Exit  *int   `json:"exit,omitempty"`
	Error string `json:"error,omitempty"`
	Bytes int    `json:"bytes,omitempty"`
}

// guestMain runs as process 1 of the machine. It does not return: without a process 1 the kernel panics, which the
// other side reports.
func guestMain() {
	if err := guest(); err != nil {
		fmt.Fprintln(os.Stderr, "vmrun, process 1:", err)
		os.Exit(1)
	}
	// The other side ends the machine as soon as it has the last line; this is for the case that it is gone.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func guest() error {
	data, err := os.ReadFile(jobPath)
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	if err := furnish(); err != nil {
		return err
	}
	port, err := openPort(controlPort)
	if err != nil {
		return err
	}
	if err := send(port, control{Up: true}, nil); err != nil {
		return err
	}
	status, err := 0, error(nil)
	if len(j.Args) > 0 {
		status, err = j.run()
	}
	if err != nil {
		return send(port, control{Error: err.Error()}, nil)
	}
	files, err := j.collect()
	if err != nil {
		return send(port, control{Error: err.Error()}, nil)
	}
	return send(port, control{Exit: &status}, files)
}

func send(port io.Writer, c control, files []byte) error {
	c.Bytes = len(files)
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = port.Write(append(append(line, '\n'), files...))
	return err
}

// furnish sets up the machine as a booted one is for its programs.
func furnish() error {
	// The initramfs is replaced by a root that is a separate mount, since that can be changed.
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"bind", func() error { return unix.Mount(machineRoot, machineRoot, "", unix.MS_BIND, "") }},
		{"enter", func() error { return unix.Chdir(machineRoot) }},
		{"move", func() error { return unix.Mount(".", "/", "", unix.MS_MOVE, "") }},
		{"change root", func() error { return errors.Join(unix.Chroot("."), unix.Chdir("/")) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %s: %w", machineRoot, step.what, err)
		}
	}
	for _, m := range []struct{ kind, path, data string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", "mode=755"},
		{"devpts", "/dev/pts", "ptmxmode=666,mode=620"},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"tmpfs", "/run", "mode=755"},
		{"tmpfs", "/tmp", "mode=1777"},
		{"cgroup2", "/sys/fs/cgroup", ""},
	} {
		if err := os.MkdirAll(m.path, 0o755); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if m.path == "/tmp" && !isEmpty(m.path) {
			continue // the program or its files are there
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	if err := unix.Sethostname([]byte(guestName)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// openPort opens a serial port for raw bytes.
func openPort(path string) (*os.File, error) {
	port, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	mode, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, mode); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return port, nil
}

// run runs the program, and reaps orphans, as process 1 must.
func (j job) run() (int, error) {
	if err := os.MkdirAll(j.Dir, 0o755); err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	out, err := openStream(outPort)
	if err != nil {
		return 0, err
	}
	errs, err := openStream(errPort)
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Dir: j.Dir, Env: j.Env, Files: []uintptr{null.Fd(), out.write.Fd(), errs.write.Fd()}}
	pid, err := syscall.ForkExec(j.Args[0], j.Args, attr)
	if err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	status, err := reapUntil(pid)
	if err != nil {
		return 0, err
	}
	// The output of the program comes before the last line.
	if err := errors.Join(out.finish(), errs.finish()); err != nil {
		return 0, err
	}
	if status.Signaled() {
		_, _ = fmt.Fprintf(errs.port, "vmrun: %s: %s\n", filepath.Base(j.Args[0]), status.Signal())
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// reapUntil reaps processes until a process has ended, and returns how it ended.
func reapUntil(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if err == nil && ended == pid {
			return status, nil
		}
	}
}

// stream is a pipe to a port, since programs behave differently on terminals.
type stream struct {
	port, read, write *os.File
	copied            chan error
}

func openStream(path string) (*stream, error) {
	port, err := openPort(path)
	if err != nil {
		return nil, err
	}
	s := &stream{port: port, copied: make(chan error, 1)}
	if s.read, s.write, err = os.Pipe(); err != nil {
		return nil, err
	}
	go func() {
		_, err := io.Copy(s.port, s.read)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		s.copied <- err
	}()
	return s, nil
}

// finish returns when everything that the program wrote has been sent. Later output of its grandchildren, which may
// keep the pipe open, is lost.
func (s *stream) finish() error {
	_ = s.write.Close()
	for {
		n, err := s.unread()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	// Bytes read before are still written (io.Copy).
	if err := s.read.SetReadDeadline(time.Now()); err != nil {
		return err
	}
	if err := <-s.copied; err != nil {
		return err
	}
	// A request of 1 waits for the transmitter (tcdrain(3), ioctl_tty(2), TCSBRK).
	return unix.IoctlSetInt(int(s.port.Fd()), unix.TCSBRK, 1)
}

// unread returns the number of bytes in the pipe. It does not call Fd, after which the pipe would have no deadlines.
func (s *stream) unread() (n int, err error) {
	conn, err := s.read.SyscallConn()
	if err != nil {
		return 0, err
	}
	if failed := conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); failed != nil {
		return 0, failed
	}
	return n, err
}

// collect returns a tar archive of the files to be brought back; empty if there are none.
func (j job) collect() ([]byte, error) {
	if len(j.Back) == 0 {
		return nil, nil
	}
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, dir := range j.Back {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path == dir {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := w.WriteHeader(&tar.Header{
				Name: strings.TrimPrefix(path, "/"), Mode: 0o644, Size: int64(len(data)),
			}); err != nil {
				return err
			}
			_, err = w.Write(data)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), w.Close()
}
