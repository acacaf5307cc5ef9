package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"
)

const qemu = "qemu-system-x86_64"

// machine is a virtual machine that runs one program.
type machine struct {
	kernel         *kernel
	accel          string
	memory, cpus   int
	initrd         *os.File
	stdout, stderr io.Writer
	console        io.Writer // may be nil
}

// The descriptors that QEMU inherits follow the standard ones.
const firstFD = 3

func (m *machine) args() []string {
	accel := []string{"-accel", m.accel}
	if m.accel == "tcg" {
		// The clock of an emulated machine counts its instructions, two nanoseconds each, and skips the time that it
		// would sleep. So deadlines in it are met as on a real processor, however slow or busy this machine is. That
		// requires a single thread. A small cache suffices for such small machines.
		accel = []string{"-accel", "tcg,thread=single,tb-size=256", "-icount", "shift=1,sleep=off"}
	}
	args := append(accel,
		// max offers everything that QEMU emulates, or that KVM passes on.
		"-cpu", "max", "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", fmt.Sprint(m.memory), "-smp", fmt.Sprint(m.cpus), "-kernel", m.kernel.image(), "-initrd",
		fmt.Sprintf("/dev/fd/%d", firstFD),
		// An oops is a failure of the kernel: it ends the machine, which is not started again.
		"-append", "console=ttyS0 quiet loglevel=4 oops=panic panic=-1 mitigations=off",
	)
	// QEMU treats a pipe as a file without input, so that it does not wait for any.
	for i, name := range []string{"console", "out", "err", "control"} {
		args = append(args, "-chardev", fmt.Sprintf("file,id=%s,path=/dev/fd/%d", name, firstFD+1+i), "-serial",
			"chardev:"+name)
	}
	return args
}

// tail keeps the last lines of a console.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 30

func (t *tail) follow(r io.Reader, also io.Writer) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if also != nil {
			_, _ = io.WriteString(also, line)
		}
		t.mu.Lock()
		if text := strings.TrimRight(line, "\r\n"); text != "" {
			t.lines = append(t.lines, text)
			t.lines = t.lines[max(0, len(t.lines)-tailLines):]
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *tail) explain(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return fmt.Errorf("%w; the kernel's console is empty", err)
	}
	return fmt.Errorf("%w; the kernel's console ends with:\n\t%s", err, strings.Join(t.lines, "\n\t"))
}

// run boots the machine and returns the program's exit status. An error concerns the machine: it could not be started,
// its kernel failed, or the context ended. QEMU has ended when run returns. It also ends with this process, however
// that ends.
func (m *machine) run(ctx context.Context) (int, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, qemu, m.args()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// A terminal's interrupt must reach only this process.
		Setpgid: true,
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	cmd.ExtraFiles = []*os.File{m.initrd}
	var reads []*os.File
	for range 4 {
		read, write, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		reads, cmd.ExtraFiles = append(reads, read), append(cmd.ExtraFiles, write)
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for _, write := range cmd.ExtraFiles[1:] {
		write.Close()
	}
	var all sync.WaitGroup
	console := &tail{}
	all.Go(func() { console.follow(reads[0], m.console) })
	all.Go(func() { _, _ = io.Copy(m.stdout, reads[1]) })
	all.Go(func() { _, _ = io.Copy(m.stderr, reads[2]) })
	last, err := lastWord(reads[3])
	if err == nil {
		stop() // everything has been received
	}
	ended := cmd.Wait()
	all.Wait()
	switch {
	case err == nil && last.Error != "":
		return 0, errors.New(last.Error)
	case err == nil:
		return *last.Exit, nil
	case ctx.Err() != nil:
		return 0, console.explain(context.Cause(ctx))
	case complaint.Len() > 0:
		return 0, fmt.Errorf("%s: %w: %s", qemu, ended, strings.TrimSpace(complaint.String()))
	}
	return 0, console.explain(errors.New("the machine went down before the program ended"))
}

// lastWord reads the control port until its last line, and writes the files that follow it to their places.
func lastWord(port io.Reader) (*control, error) {
	lines := bufio.NewReader(port)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var c control
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("control port: %q: %w", line, err)
		}
		if c.Exit == nil && c.Error == "" {
			continue
		}
		return &c, extract(io.LimitReader(lines, int64(c.Bytes)))
	}
}

// extract writes the files of a tar archive; none if the archive is empty.
func extract(r io.Reader) error {
	files := tar.NewReader(r)
	for {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return fmt.Errorf("files from the machine: %w", err)
		}
		path := filepath.Join("/", head.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, files)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

const installQEMU = "apt-get install -y --no-install-recommends qemu-system-x86"

func findQEMU() error {
	if _, err := exec.LookPath(qemu); err != nil {
		return fmt.Errorf("%w; install it with `%s`, or with your system's own packages", err, installQEMU)
	}
	return nil
}

// needQEMU installs QEMU if it is missing. It asks first, unless $CI is true.
func needQEMU(ctx context.Context) error {
	missing := findQEMU()
	if missing == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return missing
	}
	if os.Getenv("CI") != "true" {
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return fmt.Errorf("%w; CI=true lets me do it", missing)
		}
		fmt.Fprintf(os.Stderr, "%s is missing. Run `%s`? [y/N] ", qemu, installQEMU)
		answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		if answer := strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			return missing
		}
	}
	args := strings.Fields(installQEMU)
	if os.Geteuid() != 0 {
		args = append([]string{"sudo"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", installQEMU, err)
	}
	return findQEMU()
}
