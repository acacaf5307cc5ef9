// Package debian runs programs of Debian's packages in the namespaces of a node, which are not installed there:
// programs.sh unpacks them, with all that they depend on, into a root directory. It knows nothing of what they do.
//
// Run its tests: sudo go test ./e2e/lab/event
package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/lostthread"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// Dir is the root directory with the programs of Debian's packages that programs.sh unpacks; empty if the user has
// no cache.
func Dir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "cnitest", "node-programs")
}

// Limit is how long a program may take to start, to do something, and to end.
const Limit = 60 * time.Second

// Root is a root directory with programs of Debian's packages, as they see the node: with its network and its /proc,
// and with files, a /run and a D-Bus of their own.
type Root struct {
	spaces  lostthread.Namespaces // in which the programs run
	running []*process
	// Log is what all programs said.
	Log output
}

// process is a program that stays.
type process struct {
	*exec.Cmd
	ended chan error // gets what Wait returned
}

// output is what programs said. It may be written to concurrently.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps what a program says.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns what was said, at most the last 2000 bytes.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := o.text.Bytes()
	return string(text[max(0, len(text)-2000):])
}

// mounted is where the root directory is mounted, in a mount namespace that only the programs have.
const mounted = "/tmp/root"

// Open makes the root directory from programs, over the file system of the calling thread.
func Open(programs string) (*Root, error) {
	d := &Root{}
	here, err := lostthread.Here()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	mount := func(source, target, kind string, flags uintptr, data string) func() error {
		return func() error {
			if err := unix.Mount(source, target, kind, flags, data); err != nil {
				return fmt.Errorf("mount %s: %w", target, err)
			}
			return nil
		}
	}
	bind := func(dir string) func() error {
		return mount(dir, mounted+dir, "", unix.MS_BIND|unix.MS_REC, "")
	}
	err = lostthread.Do(func() error {
		for _, step := range []func() error{
			here.Enter,
			func() error { return unix.Unshare(unix.CLONE_NEWNS) },
			mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755"),
			func() error {
				var errs []error
				for _, dir := range []string{"upper", "work", "root"} {
					errs = append(errs, os.Mkdir("/tmp/"+dir, 0o755)) //nolint:gosec // as on any machine
				}
				return errors.Join(errs...)
			},
			mount("overlay", mounted, "overlay", 0, "lowerdir="+programs+",upperdir=/tmp/upper,workdir=/tmp/work"),
			bind("/proc"), bind("/sys"), bind("/dev"),
			// udev works, and others expect it, where /sys can be written to.
			func() error {
				return unix.MountSetattr(unix.AT_FDCWD, mounted+"/sys", 0,
					&unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
			},
			mount("tmpfs", mounted+"/run", "tmpfs", 0, "mode=0755"),
			func() (err error) {
				d.spaces, err = lostthread.Here()
				return err
			},
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the root of Debian's programs: %w", err)
	}
	return d, nil
}

// inside calls f in the namespaces of the programs.
func (d *Root) inside(f func() error) error {
	return lostthread.Do(func() error {
		if err := d.spaces.Enter(); err != nil {
			return err
		}
		return f()
	})
}

// Write writes a file.
func (d *Root) Write(path, text string) error {
	return d.inside(func() error {
		path = filepath.Join(mounted, path)
		return errors.Join(
			os.MkdirAll(filepath.Dir(path), 0o755),  //nolint:gosec // as on any machine
			os.WriteFile(path, []byte(text), 0o644), //nolint:gosec // as on any machine
			os.Chmod(path, 0o644),                   //nolint:gosec // whatever the umask is
		)
	})
}

// Show shows a directory of the node at a path.
func (d *Root) Show(dir, at string) error {
	return d.inside(func() error {
		at = filepath.Join(mounted, at)
		if err := os.MkdirAll(at, 0o755); err != nil { //nolint:gosec // as on any machine
			return err
		}
		return unix.Mount(dir, at, "", unix.MS_BIND|unix.MS_REC, "")
	})
}

// Has reports whether a file exists.
func (d *Root) Has(path string) (found bool, err error) {
	err = d.inside(func() error {
		_, err := os.Lstat(filepath.Join(mounted, path))
		found = err == nil
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return found, err
}

// launch starts a program.
func (d *Root) launch(program string, args ...string) (*exec.Cmd, error) {
	cmd := &exec.Cmd{
		Path: program, Args: append([]string{filepath.Base(program)}, args...), Dir: "/",
		Stdout: &d.Log, Stderr: &d.Log,
		Env: []string{
			"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "SYSTEMD_IGNORE_CHROOT=1", "SYSTEMD_LOG_TARGET=console",
		},
		SysProcAttr: &unix.SysProcAttr{Chroot: mounted, Setpgid: true},
		WaitDelay:   time.Second, // a child that goes on has its output, too
	}
	if err := d.inside(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return cmd, nil
}

// Start starts a program that stays.
func (d *Root) Start(program string, args ...string) error {
	cmd, err := d.launch(program, args...)
	if err != nil {
		return err
	}
	p := &process{Cmd: cmd, ended: make(chan error, 1)}
	go func() { p.ended <- cmd.Wait() }()
	d.running = append(d.running, p)
	return nil
}

// Run runs a program until it ends.
func (d *Root) Run(program string, args ...string) error {
	cmd, err := d.launch(program, args...)
	if err != nil {
		return err
	}
	defer killAfter(cmd, Limit).Stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w; it said: %s", program, err, &d.Log)
	}
	return nil
}

// killAfter ends a program and all that it started when the time is over.
func killAfter(cmd *exec.Cmd, limit time.Duration) *time.Timer {
	return time.AfterFunc(limit, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
}

// StartBus starts a D-Bus of the programs, on which everybody may do everything.
func (d *Root) StartBus() error {
	const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>`
	if err := d.Write("/run/dbus/system.conf", config); err != nil {
		return err
	}
	err := d.Start("/usr/bin/dbus-daemon", "--config-file=/run/dbus/system.conf", "--nofork", "--nopidfile")
	if err != nil {
		return err
	}
	return d.Await("dbus-daemon", func() (bool, error) { return d.Has("/run/dbus/system_bus_socket") })
}

// Await waits until a program is ready.
func (d *Root) Await(program string, ready func() (bool, error)) error {
	for interval := machinetime.Start(); interval.Given() < Limit; time.Sleep(50 * time.Millisecond) {
		if ok, err := ready(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is not ready after %s; it said: %s", program, Limit, &d.Log)
}

// Close ends the programs, the last one first, as their services end.
func (d *Root) Close() error {
	defer d.spaces.Close()
	var errs []error
	for i := len(d.running) - 1; i >= 0; i-- {
		errs = append(errs, d.running[i].end())
	}
	return errors.Join(errs...)
}

// Stop ends the program that was started last, and Start may start it again.
func (d *Root) Stop() error {
	last := len(d.running) - 1
	p := d.running[last]
	d.running = d.running[:last]
	return p.end()
}

// end ends a program, as `systemctl stop` does.
func (p *process) end() error {
	if err := p.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	defer killAfter(p.Cmd, Limit).Stop()
	var exited *exec.ExitError
	if err := <-p.ended; err != nil && !errors.As(err, &exited) && !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	_ = unix.Kill(-p.Process.Pid, unix.SIGKILL) // what it left
	return nil
}
