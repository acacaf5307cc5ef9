package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
)

// insideEnv is set when this binary runs as process 1 of its own namespaces.
const insideEnv = "CNITEST_TEST_INSIDE"

// TestMain runs the tests as an agent runs on a node: as process 1, with a network and a /run of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv(echoEnv); dir != "" {
		fmt.Fprintln(os.Stderr, echo(dir))
		os.Exit(1)
	}
	if ready := os.Getenv(listenEnv); ready != "" {
		fmt.Fprintln(os.Stderr, hear(ready))
		os.Exit(1)
	}
	if os.Getenv(insideEnv) != "" {
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
	// The child gets its death signal when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	var status *exec.ExitError
	if errors.As(err, &status) {
		os.Exit(max(1, status.ExitCode()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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

// serve starts an agent. It returns the harness's side of it, and a function that ends it as the end of its input does.
func serve(tb testing.TB, options agent.Options) (client *agent.Client, end func()) {
	tb.Helper()
	requests, ask := io.Pipe()
	answers, answer := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- agent.Serve(agent.Pipe{ReadCloser: requests, WriteCloser: answer}, options)
		_ = answer.Close() // as when its process ends
	}()
	client = agent.NewClient("node/a", agent.Pipe{ReadCloser: answers, WriteCloser: ask})
	end = func() {
		check(tb, ask.Close())
		select {
		case err := <-served:
			check(tb, err)
		case <-time.After(patience):
			tb.Error("want the agent to end with its input, got that it goes on")
		}
	}
	tb.Cleanup(func() { check(tb, client.Close()) })
	return client, end
}

// start calls serve for a test that does not end its agent.
func start(tb testing.TB) *agent.Client {
	tb.Helper()
	client, _ := serve(tb, agent.Options{})
	return client
}

// namespace makes a namespace that ends with the test.
func namespace(tb testing.TB, c *agent.Client, name string) string {
	tb.Helper()
	path, err := c.CreateNamespace(ctx(tb), name)
	check(tb, err)
	tb.Cleanup(func() { check(tb, c.RemoveNamespace(context.Background(), name)) })
	return path
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

// starved matches what machinetime.Excess adds to a message on a busy machine.
var starved = regexp.MustCompile(` \(and \S+ in which the machine gave it no processor\)`)

// wantError compares the whole text; empty means no error.
func wantError(tb testing.TB, got error, want string) {
	tb.Helper()
	text := ""
	if got != nil {
		text = starved.ReplaceAllString(got.Error(), "")
	}
	if text != want {
		tb.Errorf("got the error %q, want %q", text, want)
	}
}

// eventually calls f until it returns no error, or fails with the last one.
func eventually(tb testing.TB, f func() error) {
	tb.Helper()
	err := f()
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); err = f() {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		tb.Fatalf("after %s: %v", patience, err)
	}
}
