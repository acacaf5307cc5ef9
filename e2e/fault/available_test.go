package fault_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/fault"
)

// askEnv makes this binary print whether plugins can be traced, or trace a plugin that hangs, whose path it contains.
const askEnv = "CNITEST_TEST_ASK"

func ask() {
	path := os.Getenv(askEnv)
	if path == "yes" {
		fmt.Print(fault.Available())
		os.Exit(0)
	}
	trace, err := fault.Observe(context.Background(), fault.Command{Path: path, Env: []string{"CNI_ARGS=hangs"}})
	fmt.Print(trace.Call.Failure, err)
	os.Exit(1)
}

// Killing the tracer ends its tracees.
func TestObserve_killed(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{askEnv + "=" + plugin("plugin")}
	check(t, cmd.Start())
	others := func() (pids []int) {
		entries, err := os.ReadDir("/proc")
		check(t, err)
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	for deadline := time.Now().Add(patience); len(others()) < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want the tracer, the plugin and its child, got %v", others())
		}
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	for deadline := time.Now().Add(patience); len(others()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			wantAlone(t)
			t.FailNow()
		}
		for _, pid := range others() {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // process 1 gets the orphans
		}
	}
}

func TestAvailable(t *testing.T) {
	check(t, fault.Available())
	wantAlone(t)
}

func TestAvailable_not(t *testing.T) {
	if os.Getenv(userEnv) != "" {
		t.Skip("a user namespace of one user has no other to be")
	}
	for _, tt := range []struct {
		name string
		attr syscall.SysProcAttr
		want string
	}{
		{
			name: "proc of another namespace", attr: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID},
			want: "fault: /proc is not that of this PID namespace: want /proc/self to be 1, got \"N\"",
		},
		{
			name: "no capabilities", attr: syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
			want: "fault: ptrace /proc/self/exe: seccomp filter: permission denied",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{askEnv + "=yes"}, "/", &tt.attr
			out, err := cmd.CombinedOutput()
			check(t, err)
			// The number is the process's ID in the other namespace.
			got := regexp.MustCompile(`got "[0-9]+"`).ReplaceAllString(string(out), `got "N"`)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	wantAlone(t)
}
