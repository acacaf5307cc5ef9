package cni

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// ExecMeasured does the same as Exec for calls whose time is measured. The plugin's input and output are files in
// memory, which this process need not serve meanwhile, so that only the plugin works. It returns when the plugin has
// ended, and reaps it afterwards. It does not wait for output of processes that the plugin leaves behind.
//
// cpu waits until the plugin is reaped, and returns the processor time of the plugin and of the programs that it waited
// for; 0 if the plugin could not be started. It may be called again.
func ExecMeasured(ctx context.Context, path string, env []string, stdin []byte) (
	call Call, cpu func() time.Duration,
) {
	cpu = func() time.Duration { return 0 }
	call = Call{Plugin: filepath.Base(path), Path: path, Env: env, Stdin: string(stdin), ExitCode: -1}
	for _, e := range env {
		if verb, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
			call.Verb = Verb(verb)
		}
	}
	var files [3]*os.File
	for i := range files {
		fd, err := unix.MemfdCreate("cnitest-stdio", unix.MFD_CLOEXEC)
		if err != nil {
			call.Failure = err.Error()
			return call, cpu
		}
		files[i] = os.NewFile(uintptr(fd), "cnitest-stdio")
		defer files[i].Close()
	}
	if _, err := files[0].WriteAt(stdin, 0); err != nil {
		call.Failure = err.Error()
		return call, cpu
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, files[0], files[1], files[2]
	KillGroup(cmd)

	start := time.Now()
	if err := cmd.Start(); err != nil {
		call.Failure = failure(ctx, err, call)
		return call, cpu
	}
	unwatch := machinetime.Watch(ctx, cmd.Process.Pid)
	status := awaitEnd(cmd.Process.Pid)
	call.Duration = time.Since(start)
	unwatch()
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		time.Sleep(settling + min(machinetime.Turn(), maxTurn))
		_ = cmd.Wait()
	}()
	cpu = func() time.Duration {
		<-reaped
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	call.Stdout, call.Stderr = content(files[1]), content(files[2])
	switch {
	case status.Exited():
		call.ExitCode = status.ExitStatus()
	case ctx.Err() != nil:
		call.Failure = failure(ctx, ctx.Err(), call)
	default:
		call.Failure = "ended by signal: " + status.Signal().String()
	}
	return call, cpu
}

// content returns the content of a file.
func content(f *os.File) string {
	size, err := f.Seek(0, 2)
	if err != nil {
		return ""
	}
	text := make([]byte, size)
	n, _ := f.ReadAt(text, 0)
	return string(text[:n])
}

// statusOf returns the status of a child from the answer of waitid(2).
func statusOf(info *unix.Siginfo) unix.WaitStatus {
	const exited = 1 // CLD_EXITED
	// After three numbers and, on 64 bits, a gap: the process, its user, and its status (sigaction(2), si_status).
	const offset = 16 + 8
	raw := unsafe.Slice((*byte)(unsafe.Pointer(info)), unsafe.Sizeof(*info))
	status := binary.NativeEndian.Uint32(raw[offset:])
	if info.Code == exited {
		return unix.WaitStatus(status << 8)
	}
	return unix.WaitStatus(status)
}
