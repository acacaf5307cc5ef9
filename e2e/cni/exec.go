package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// Exec runs one plugin binary with the given environment and input and waits for it. It never returns an error: the
// call says what went wrong. When ctx ends, the plugin and its process group are killed; a timeout of package
// machinetime is extended by the time that they wait for a processor. Calls may be made concurrently.
func Exec(ctx context.Context, path string, env []string, stdin []byte) Call {
	return execFrom(ctx, path, env, stdin, bytes.NewReader(stdin))
}

// ExecOn does the same as Exec with an open file or directory as standard input, which stays open. The call then has no
// input.
func ExecOn(ctx context.Context, path string, env []string, stdin *os.File) Call {
	return execFrom(ctx, path, env, nil, stdin)
}

func execFrom(ctx context.Context, path string, env []string, stdin []byte, from io.Reader) Call {
	call := Call{Plugin: filepath.Base(path), Path: path, Env: env, Stdin: string(stdin), ExitCode: -1}
	for _, e := range env {
		if verb, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
			call.Verb = Verb(verb)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = env
	cmd.Stdin = from
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	KillGroup(cmd)

	start := time.Now()
	err := cmd.Start()
	if err == nil {
		var end time.Time
		end, err = Wait(ctx, cmd)
		call.Duration = end.Sub(start)
	}
	call.Stdout, call.Stderr = stdout.String(), stderr.String()
	if cmd.ProcessState != nil {
		call.ExitCode = cmd.ProcessState.ExitCode()
	}
	call.Failure = failure(ctx, err, call)
	return call
}

// Wait waits for a command that was started. It returns the time at which the command ended, which is before it is
// reaped (see settling), and the error of exec.Cmd's Wait. Time that its processes wait for a processor is added to the
// timeout of package machinetime around ctx.
func Wait(ctx context.Context, cmd *exec.Cmd) (end time.Time, err error) {
	defer machinetime.Watch(ctx, cmd.Process.Pid)()
	awaitEnd(cmd.Process.Pid)
	end = time.Now()
	time.Sleep(settling + min(machinetime.Turn(), maxTurn))
	return end, cmd.Wait()
}

// settling limits how long the last thread of a process that has ended may still need in the kernel before the process
// is reaped, once it has a processor.
//
// The kernel tells the parent before that thread has dropped its entry in /proc. A parent that reaps at once drops the
// entries of the whole process, and loops in shrink_dcache_parent until the thread is done. The loop may itself keep
// the thread from the processor, for seconds on a busy machine (seen on Linux 6.18 with plugins whose threads had
// opened /proc/self/task/TID/ns/net).
const (
	settling = 500 * time.Microsecond
	// maxTurn limits the wait for that thread's turn on a busy machine.
	maxTurn = 50 * time.Millisecond
)

// awaitEnd waits until a child has ended, without reaping it, and returns its status.
func awaitEnd(pid int) unix.WaitStatus {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return statusOf(&info)
		}
	}
}

// KillGroup makes the end of a command's context kill its whole process group. Wait then does not wait for children
// that still hold the command's output open, as a daemon may do for ever: only the end of the command itself counts.
func KillGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	// By then the output has been read, and children that were forked meanwhile have closed their copies of the pipes,
	// even on a busy emulated machine.
	cmd.WaitDelay = 5 * time.Second
}

func failure(ctx context.Context, err error, call Call) string {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return "left a process behind that holds its stdout or stderr open"
	case err == nil, call.ExitCode >= 0:
		// The command ended by itself, even if its time was over when that was noticed.
		return ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return KilledText(ctx, call.Duration)
	case ctx.Err() != nil:
		return "killed: the run was stopped"
	case errors.As(err, &exit):
		return fmt.Sprintf("ended by signal: %s", exit.Sys().(syscall.WaitStatus).Signal())
	}
	return err.Error()
}

// KilledText returns the text for a plugin that was killed when the time of ctx was over: after how long, and how much
// of that time the machine did not give it.
func KilledText(ctx context.Context, took time.Duration) string {
	extra := machinetime.Extra(ctx)
	return fmt.Sprintf("killed after %s without an answer%s", (took - extra).Round(time.Millisecond),
		machinetime.Excess(extra))
}

// Environ returns the environment of a plugin: the given variables of the protocol and of traces, and PATH. If PATH is
// not given, it is that of this process. libcni would pass the whole environment of its own process.
func Environ(vars []string) []string {
	var env []string
	path := "PATH=" + os.Getenv("PATH")
	for _, v := range vars {
		switch {
		case strings.HasPrefix(v, "CNI_"), traces(v):
			env = append(env, v)
		case strings.HasPrefix(v, "PATH="):
			path = v
		}
	}
	slices.Sort(env) // libcni's order is that of a map, which is random
	return append(env, path)
}

// traces reports whether a variable is one by which libcni passes the context of a trace to plugins (W3C Trace Context
// and Baggage).
func traces(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains([]string{"TRACEPARENT", "TRACESTATE", "BAGGAGE"}, name)
}
