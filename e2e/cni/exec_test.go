package cni_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
)

func TestExec(t *testing.T) {
	dir := plugins(t, map[string]string{
		"echo":      `cat; echo "$CNI_COMMAND" >&2`,
		"fails":     `echo '{"code": 7}'; exit 3`,
		"two":       `echo '{}'; echo '{}'`,
		"deaf":      `exec <&-; echo '{}'`,
		"dies":      `echo half; kill -SEGV $$`,
		"daemon":    `sleep 1003 & echo '{}'`,
		"bad-start": `exit 0`,
	})
	check(t, os.Chmod(filepath.Join(dir, "bad-start"), 0o644))
	for _, tt := range []struct {
		plugin string
		want   cni.Call
	}{
		{"echo", cni.Call{Stdin: "{\"a\": 1}\n", Stdout: "{\"a\": 1}\n", Stderr: "ADD\n"}},
		{"fails", cni.Call{Stdout: "{\"code\": 7}\n", ExitCode: 3}},
		{"two", cni.Call{Stdout: "{}\n{}\n"}},
		{"deaf", cni.Call{Stdin: strings.Repeat("x", 1<<20), Stdout: "{}\n"}},
		{"dies", cni.Call{Stdout: "half\n", ExitCode: -1, Failure: "ended by signal: segmentation fault"}},
		{"daemon", cni.Call{Stdout: "{}\n", Failure: "left a process behind that holds its stdout or stderr open"}},
		{"bad-start", cni.Call{ExitCode: -1, Failure: "fork/exec " + dir + "/bad-start: permission denied"}},
		{"none", cni.Call{ExitCode: -1, Failure: "fork/exec " + dir + "/none: no such file or directory"}},
	} {
		t.Run(tt.plugin, func(t *testing.T) {
			env := cni.Environ([]string{"CNI_COMMAND=ADD"})
			got := cni.Exec(t.Context(), filepath.Join(dir, tt.plugin), env, []byte(tt.want.Stdin))
			tt.want.Plugin, tt.want.Path, tt.want.Verb, tt.want.Env = tt.plugin, filepath.Join(dir, tt.plugin), cni.Add,
				env
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(cni.Call{}, "Duration")); diff != "" {
				t.Errorf("call (-want +got):\n%s", diff)
			}
		})
	}
	kill(t, "sleep\x001003\x00")
}

// kill ends the processes with a command line that a test left behind.
func kill(tb testing.TB, line string) (found int) {
	tb.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if string(data) == line && pid > 1 {
			found++
			if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
				check(tb, err)
			}
		}
	}
	return found
}

// overtime is a context whose time is over when a test says so.
type overtime struct {
	context.Context
	over chan struct{}
}

func (o *overtime) Done() <-chan struct{} { return o.over }

func (o *overtime) Err() error {
	select {
	case <-o.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// awaitProcess waits for a process with a command line, as it is in /proc.
func awaitProcess(line string) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			if data, _ := os.ReadFile(file); string(data) == line {
				return
			}
		}
	}
}

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute

func TestExec_time_is_over(t *testing.T) {
	// A plugin that ignores all signals that can be ignored, with a child that keeps its output open.
	dir := plugins(t, map[string]string{
		"hang": `trap '' TERM; echo so far; echo why >&2; sleep 1004 & sleep 1004; sleep 1004`,
	})
	over := &overtime{Context: t.Context(), over: make(chan struct{})}
	go func() {
		defer close(over.over)
		awaitProcess("sleep\x001004\x00")
	}()
	call := cni.Exec(over, filepath.Join(dir, "hang"), nil, nil)
	want := fmt.Sprintf("killed after %s without an answer", call.Duration.Round(time.Millisecond))
	if call.Failure != want || call.ExitCode != -1 || call.Stdout != "so far\n" || call.Stderr != "why\n" {
		t.Errorf("got %+v, want the failure %q and what was printed", call, want)
	}
	if n := kill(t, "sleep\x001004\x00"); n > 0 {
		t.Errorf("got %d processes of its group left, want none", n)
	}
}

func TestExec_stopped(t *testing.T) {
	dir := plugins(t, map[string]string{"hang": `exec sleep 1005`})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		awaitProcess("sleep\x001005\x00")
	}()
	call := cni.Exec(ctx, filepath.Join(dir, "hang"), nil, nil)
	if got, want := call.Failure, "killed: the run was stopped"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A plugin that ended by itself was not killed, even if its time was over when that was noticed.
func TestExec_answers_at_the_last_moment(t *testing.T) {
	dir := plugins(t, map[string]string{"late": `echo '{}'`, "late-failure": `exit 5`})
	for plugin, exit := range map[string]int{"late": 0, "late-failure": 5} {
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Millisecond)
			call := cni.Exec(ctx, filepath.Join(dir, plugin), nil, nil)
			cancel()
			if killed := strings.HasPrefix(call.Failure, "killed after "); killed != (call.ExitCode == -1) || !killed &&
				(call.Failure != "" || call.ExitCode != exit) {
				t.Errorf("%s: got exit status %d and %q", plugin, call.ExitCode, call.Failure)
			}
		}
	}
}

func TestExec_concurrently(t *testing.T) {
	dir := plugins(t, map[string]string{"echo": `cat`})
	var group errgroup.Group
	for i := range 50 {
		group.Go(func() error {
			text := fmt.Sprint(i)
			if call := cni.Exec(t.Context(), filepath.Join(dir, "echo"), nil, []byte(text)); call.Stdout != text {
				return fmt.Errorf("got %+v, want %s", call, text)
			}
			return nil
		})
	}
	check(t, group.Wait())
}

func TestEnviron(t *testing.T) {
	t.Setenv("CNI_STRAY", "from this process")
	t.Setenv("PATH", "/some:/path")
	for _, tt := range []struct{ name, given, want string }{
		{"a PATH", "PATH=/other", "PATH=/other"},
		{"none", "HOME=/root", "PATH=/some:/path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := cni.Environ([]string{"CNI_COMMAND=ADD", tt.given, "CNI_ARGS=", "LD_PRELOAD=x", "XCNI_A=1"})
			if diff := cmp.Diff([]string{"CNI_ARGS=", "CNI_COMMAND=ADD", tt.want}, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCall_String(t *testing.T) {
	call := cni.Call{
		Path: "/opt/cni/bin/macvlan", ExitCode: 1, Duration: 12345678,
		Env: []string{"CNI_COMMAND=DEL", "CNI_NETNS=", "CNI_PATH=/opt/cni/bin", "PATH=/bin"},
	}
	if got, want := call.String(), "CNI_COMMAND=DEL CNI_NETNS= /opt/cni/bin/macvlan (exit 1, 12ms)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
