package fault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/testbin"
)

// binEnv is set when this binary runs in its own namespaces, to the directory of the plugins.
const binEnv = "CNITEST_TEST_BIN"

// TestMain runs the tests as an agent runs on a node: as process 1, with namespaces of its own.
func TestMain(m *testing.M) {
	if os.Getenv(askEnv) != "" {
		ask()
	}
	if os.Getenv(binEnv) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Println("SKIP: needs root to make namespaces")
		return
	}
	status, err := again()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

// again builds the plugins and runs the tests inside.
func again() (status int, err error) {
	bin, err := os.MkdirTemp("", "fault-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	if err := os.Chmod(bin, 0o755); err != nil {
		return 1, err
	}
	const upstream = "github.com/containernetworking/plugins/plugins/"
	if err := testbin.Build(bin, "./testdata/plugin", upstream+"main/macvlan", upstream+"main/bridge",
		upstream+"main/vlan", upstream+"main/ipvlan", upstream+"meta/vrf", upstream+"ipam/host-local"); err != nil {
		return 1, err
	}
	if err := os.Link(filepath.Join(bin, "plugin"), filepath.Join(bin, "delegate")); err != nil {
		return 1, err
	}
	// The child gets its death signal when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), binEnv+"="+bin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return max(1, failed.ExitCode()), nil
	}
	return 0, err
}

func furnish() error {
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"),
	)
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// plugin returns the path of a built binary.
func plugin(name string) string { return filepath.Join(os.Getenv(binEnv), name) }

// directory returns a directory on the tmpfs of these namespaces.
func directory(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/run", "t")
	check(tb, err)
	tb.Cleanup(func() { check(tb, os.RemoveAll(dir)) })
	return dir
}

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute

func ctx(tb testing.TB) context.Context {
	tb.Helper()
	c, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return c
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// wantAlone fails unless this process is the only one of its PID namespace: no tracee runs, and none is a zombie.
func wantAlone(tb testing.TB) {
	tb.Helper()
	entries, err := os.ReadDir("/proc")
	check(tb, err)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
			tb.Errorf("want no other process, got %s", stat)
		}
	}
}
