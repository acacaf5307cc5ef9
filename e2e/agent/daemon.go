package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// DaemonArgs describe a program that runs until it is stopped or the agent ends.
type DaemonArgs struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	// BinDirs are searched for the program before the PATH.
	BinDirs []string `json:"binDirs"`
	Env     []string `json:"env"`
	// Socket is a unix socket that accepts connections when the daemon is ready, File a file that exists then. One of
	// them is set.
	Socket string `json:"socket"`
	File   string `json:"file"`
	// Within is the time for the daemon to become ready, and to end when it is told to, in time that the machine gave.
	Within time.Duration `json:"within"`
	// Owns are the daemon's files and directories, which no snapshot has.
	Owns []string `json:"owns"`
}

// DaemonState is the state of a daemon.
type DaemonState struct {
	Running bool `json:"running"`
	// Output is the end of its standard output and error since the first start.
	Output string `json:"output"`
}

// LastLines returns the end of the output, at most n lines.
func (s DaemonState) LastLines(n int) string {
	lines := strings.Split(strings.TrimSpace(s.Output), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// daemon is a daemon that was started at least once.
type daemon struct {
	output  tail
	owns    []string
	process atomic.Pointer[os.Process] // nil while it does not run

	mu    sync.Mutex // held while it is started or stopped
	args  DaemonArgs
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	doom  *doom         // nil unless it is to die with an answer
	delay *delay        // nil unless a request reaches it late
}

// StartDaemon starts a daemon and returns when it is ready. If it is not ready in time it is killed.
func (s *Server) StartDaemon(args DaemonArgs, _ *None) error {
	s.mu.Lock()
	d, ok := s.daemons[args.Name]
	if !ok {
		d = &daemon{owns: args.Owns}
		s.daemons[args.Name] = d
	}
	s.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doom != nil && d.doom.struck.Load() {
		<-d.ended
	}
	if d.running() && d.doom != nil {
		return fmt.Errorf("daemon %s: it still runs: no request made it change a file of its own", args.Name)
	}
	if d.running() {
		return fmt.Errorf("daemon %s: it already runs", args.Name)
	}
	d.spare()
	return d.start(args)
}

// prepare finds the daemon's program and removes the file that says when it is ready.
func (args *DaemonArgs) prepare() (program string, err error) {
	if len(args.Command) == 0 {
		return "", fmt.Errorf("daemon %s: want a program, got none", args.Name)
	}
	if program, err = findProgram(args.Command[0], args.BinDirs); err != nil {
		return "", fmt.Errorf("daemon %s: %w", args.Name, err)
	}
	if args.File != "" {
		if err := os.Remove(args.File); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("daemon %s: %w", args.Name, err)
		}
	}
	return program, nil
}

func (d *daemon) start(args DaemonArgs) error {
	program, err := args.prepare()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, args.Command[1:]...)
	cmd.Env = append(os.Environ(), args.Env...)
	cmd.Stdout, cmd.Stderr = &d.output, &d.output
	// The daemon gets a process group of its own, so that its children can be killed with it.
	cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("daemon %s: %w", args.Name, err)
	}
	ended := make(chan struct{})
	d.args, d.cmd, d.ended = args, cmd, ended
	d.process.Store(cmd.Process)
	go func() {
		_ = cmd.Wait()
		d.process.Store(nil)
		close(ended)
	}()
	if err := d.awaitReady(); err != nil {
		d.kill()
		return fmt.Errorf("daemon %s: %w: %s", args.Name, err, strings.TrimSpace(d.output.String()))
	}
	return nil
}

// awaitReady waits until the daemon is ready.
func (d *daemon) awaitReady() error {
	ctx, cancel := machinetime.WithTimeout(context.Background(), d.args.Within)
	defer cancel()
	defer machinetime.Watch(ctx, d.cmd.Process.Pid)()
	for {
		err := d.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("it ended before it was ready: %s", d.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s%s: %w", d.args.Within, machinetime.Excess(machinetime.Extra(ctx)),
				err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (d *daemon) ready(ctx context.Context) error {
	if d.args.Socket == "" {
		_, err := os.Stat(d.args.File)
		return err
	}
	// The socket of an earlier process refuses connections.
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.args.Socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (d *daemon) running() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// spare cancels DoomDaemon and DelayDaemon.
func (d *daemon) spare() {
	if d.doom != nil {
		d.doom.close()
		d.doom = nil
	}
	if d.delay != nil {
		d.delay.close()
		d.delay = nil
	}
}

// kill ends the daemon and its process group without warning, and waits for its end.
func (d *daemon) kill() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
}

// StopDaemon tells a daemon to end, by SIGTERM, and waits for that. If it does not end it is killed, which is an error.
// A daemon that has ended is no error.
func (s *Server) StopDaemon(name string, _ *None) error {
	return s.withDaemon(name, func(d *daemon) error {
		if !d.running() {
			return nil
		}
		d.spare()
		ctx, cancel := machinetime.WithTimeout(context.Background(), d.args.Within)
		defer cancel()
		defer machinetime.Watch(ctx, d.cmd.Process.Pid)()
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.ended:
			return nil
		case <-ctx.Done():
			d.kill()
			return fmt.Errorf("daemon %s: it did not end within %s%s of SIGTERM and was killed: %s", name,
				d.args.Within,
				machinetime.Excess(machinetime.Extra(ctx)), strings.TrimSpace(d.output.String()))
		}
	})
}

// KillDaemon ends a daemon by SIGKILL. A daemon that has ended is no error.
func (s *Server) KillDaemon(name string, _ *None) error {
	return s.withDaemon(name, func(d *daemon) error {
		if d.running() {
			d.spare()
			d.kill()
		}
		return nil
	})
}

// FreezeArgs name a daemon to freeze or to thaw.
type FreezeArgs struct {
	Name string `json:"name"`
	Thaw bool   `json:"thaw"`
}

// FreezeDaemon stops a daemon with all its children until it is thawed: others can connect to it and wait.
func (s *Server) FreezeDaemon(args FreezeArgs, _ *None) error {
	return s.withDaemon(args.Name, func(d *daemon) error {
		signal := syscall.SIGSTOP
		if args.Thaw {
			signal = syscall.SIGCONT
		}
		if !d.running() {
			return fmt.Errorf("daemon %s: it does not run", args.Name)
		}
		return syscall.Kill(-d.cmd.Process.Pid, signal)
	})
}

// Daemon returns the state of a daemon.
func (s *Server) Daemon(name string, state *DaemonState) error {
	return s.withDaemon(name, func(d *daemon) error {
		*state = DaemonState{Running: d.running(), Output: d.output.String()}
		return nil
	})
}

func (s *Server) withDaemon(name string, do func(*daemon) error) error {
	s.mu.Lock()
	d, ok := s.daemons[name]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("daemon %s: it was never started", name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return do(d)
}

// killDaemons ends all daemons when the agent ends, since they do not end with it by themselves.
func (s *Server) killDaemons() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.daemons {
		if p := d.process.Load(); p != nil {
			_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
		}
	}
}

// withoutOwned removes the files of daemons, and programs that Install replaced, from a state.
func (s *Server) withoutOwned(items []snapshot.Item) []snapshot.Item {
	s.mu.Lock()
	owned := slices.Clone(s.installed)
	for _, d := range s.daemons {
		owned = append(owned, d.owns...)
	}
	s.mu.Unlock()
	return slices.DeleteFunc(items, func(i snapshot.Item) bool {
		return i.Kind == snapshot.File && slices.ContainsFunc(owned, func(path string) bool {
			below, err := filepath.Rel(path, i.Name)
			return err == nil && filepath.IsLocal(below)
		})
	})
}

// findProgram searches directories for a program, then the PATH. A program with a slash is a path.
func findProgram(name string, dirs []string) (string, error) {
	if !strings.Contains(name, "/") {
		for _, dir := range dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil && len(dirs) > 0 && !strings.Contains(name, "/") {
		return "", fmt.Errorf("%w, nor in %s", err, strings.Join(dirs, ", "))
	}
	return path, err
}

// tailSize is the number of bytes of a daemon's output that are kept.
const tailSize = 64 << 10

// tail keeps the end of what is written to it, and may be read meanwhile.
type tail struct {
	mu   sync.Mutex
	data []byte
}

// Write keeps the end of what is written.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - tailSize; extra > 0 {
		t.data = slices.Delete(t.data, 0, extra)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}
