package fault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// traceOptions make every thread and process that a tracee starts a tracee too, and end all of them with the tracer.
const traceOptions = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACESECCOMP |
	unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK

// start starts a program that waits before its first instruction. This thread traces it, and the filter for the calls
// of the table is installed; a nil table means all calls. The caller has locked the thread. made is called once the
// program is loaded. After an error nothing is left behind.
func start(command Command, attr *os.ProcAttr, table map[int]callSpec, made func()) (*os.Process, error) {
	program, err := filter(table)
	if err != nil {
		return nil, err
	}
	attr.Sys = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	path := command.Path
	process, err := os.StartProcess(path, append([]string{path}, command.Args...), attr)
	made()
	if err != nil {
		return nil, err
	}
	err = errors.Join(awaitStop(process.Pid, unix.SIGTRAP), unix.PtraceSetOptions(process.Pid, traceOptions))
	if err == nil {
		err = installFilter(process.Pid, program)
	}
	if err != nil {
		end(process)
		return nil, fmt.Errorf("ptrace %s: %w", path, err)
	}
	return process, nil
}

// end kills a tracee that has not run yet.
func end(process *os.Process) {
	_ = process.Kill()
	for {
		if _, err := unix.Wait4(process.Pid, nil, unix.WALL|unix.WNOTHREAD, nil); err != unix.EINTR {
			break
		}
	}
	_ = process.Release()
}

// awaitStop waits for the stop by a signal.
func awaitStop(pid int, want syscall.Signal) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		break
	}
	if !status.Stopped() || status.StopSignal() != want {
		return fmt.Errorf("want a stop by %s, got the wait status %#x", want, uint32(status))
	}
	return nil
}

// installFilter makes the stopped program install the filter for itself, and restores the registers and memory that it
// used for that.
func installFilter(pid int, program []bpf.RawInstruction) error {
	saved, err := readRegisters(pid)
	if err != nil {
		return fmt.Errorf("registers: %w", err)
	}
	code := make([]byte, len(trap))
	if _, err := unix.PtracePeekText(pid, saved.pc(), code); err != nil {
		return fmt.Errorf("program text: %w", err)
	}
	// struct sock_fprog and the filter are written below the stack, which contains nothing there yet.
	var image bytes.Buffer
	address := (saved.sp() - uintptr(16+8*len(program)) - 256) &^ 15
	header := struct {
		Length, _ uint16
		_         uint32
		Filter    uint64
	}{Length: uint16(len(program)), Filter: uint64(address) + 16}
	if err := errors.Join(binary.Write(&image, binary.NativeEndian, header), binary.Write(&image, binary.NativeEndian,
		program)); err != nil {
		return err
	}
	if _, err := unix.PtracePokeData(pid, address, image.Bytes()); err != nil {
		return fmt.Errorf("program stack: %w", err)
	}
	if _, err := unix.PtracePokeText(pid, saved.pc(), trap[:]); err != nil {
		return fmt.Errorf("program text: %w", err)
	}
	// The program is trusted: without the flag, older kernels slow it down
	// (Documentation/admin-guide/hw-vuln/spectre.rst).
	answer, err := call(pid, saved, unix.SYS_SECCOMP, [3]uint64{
		unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uint64(address),
	})
	if err != nil {
		return err
	}
	if answer != 0 {
		// Without CAP_SYS_ADMIN in its user namespace a program may not filter itself (seccomp(2)).
		return fmt.Errorf("seccomp filter: %w", unix.Errno(-answer))
	}
	if _, err := unix.PtracePokeText(pid, saved.pc(), code); err != nil {
		return fmt.Errorf("program text: %w", err)
	}
	return saved.write(pid)
}

// call makes a stopped thread perform a system call at its program counter, where the instruction for it is.
func call(pid int, registers registers, number int, args [3]uint64) (int64, error) {
	registers.request(number, args)
	if err := registers.write(pid); err != nil {
		return 0, fmt.Errorf("registers: %w", err)
	}
	// Once to its entry, once to its exit.
	for range 2 {
		if err := unix.PtraceSyscall(pid, 0); err != nil {
			return 0, fmt.Errorf("go on: %w", err)
		}
		if err := awaitStop(pid, unix.SIGTRAP|0x80); err != nil {
			return 0, err
		}
	}
	after, err := readRegisters(pid)
	return after.result(), err
}

func available() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The tracer reads about its tracees in /proc, which must be that of its own PID namespace.
	if self, err := os.Readlink("/proc/self"); err != nil || self != fmt.Sprint(os.Getpid()) {
		return fmt.Errorf("fault: /proc is not that of this PID namespace: want /proc/self to be %d, got %q",
			os.Getpid(), self)
	}
	process, err := start(Command{Path: "/proc/self/exe"}, &os.ProcAttr{Env: []string{}}, calls(false), func() {})
	if err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	defer end(process)
	fd, err := unix.PidfdOpen(process.Pid, 0)
	if err != nil {
		return fmt.Errorf("fault: pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	// Since Linux 5.6. The program has no open file: EBADF shows that the kernel looked for one.
	if _, err := unix.PidfdGetfd(fd, 0, 0); err != unix.EBADF {
		return fmt.Errorf("fault: pidfd_getfd: want EBADF, got %w", err)
	}
	return nil
}

// pipes are the plugin's input and output.
type pipes struct {
	child          []*os.File
	stdin          *os.File
	stdout, stderr output
}

// output collects the output of a program.
type output struct {
	file *os.File
	text bytes.Buffer
	done chan struct{}
}

func newPipes() (p *pipes, err error) {
	p = &pipes{}
	var in, out, errs *os.File
	if in, p.stdin, err = os.Pipe(); err == nil {
		if p.stdout.file, out, err = os.Pipe(); err == nil {
			p.stderr.file, errs, err = os.Pipe()
		}
	}
	p.child = []*os.File{in, out, errs}
	if err != nil {
		p.closeChild()
		for _, f := range []*os.File{p.stdin, p.stdout.file, p.stderr.file} {
			_ = f.Close() // closing nil returns an error
		}
	}
	return p, err
}

func (p *pipes) closeChild() {
	for _, f := range p.child {
		_ = f.Close()
	}
}

// serve feeds the program and collects its output until it is closed.
func (p *pipes) serve(input []byte) {
	p.closeChild()
	go func() {
		_, _ = p.stdin.Write(input) // a program that does not read all of it gets less
		_ = p.stdin.Close()
	}()
	for _, o := range []*output{&p.stdout, &p.stderr} {
		o.done = make(chan struct{})
		go func() {
			defer close(o.done)
			_, _ = o.text.ReadFrom(o.file)
		}()
	}
}

// collect returns the output. All traced programs have ended; for other processes that have an end of a pipe it waits
// at most one second.
func (p *pipes) collect() (stdout, stderr string) {
	_ = p.stdin.SetDeadline(time.Now())
	for _, o := range []*output{&p.stdout, &p.stderr} {
		_ = o.file.SetReadDeadline(time.Now().Add(time.Second))
		<-o.done
		_ = o.file.Close()
	}
	return p.stdout.text.String(), p.stderr.text.String()
}
