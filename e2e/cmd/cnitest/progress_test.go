package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report"
)

// show simulates a run of two scenarios.
func show(p *progress) {
	p.begin("net.conflist", []*e2e.Unit{{ID: "host-to-pod"}, {ID: "reboot"}}, []string{"route"})
	p.started(&e2e.Unit{ID: "host-to-pod"})
	p.started(&e2e.Unit{ID: "reboot"})
	p.done(report.Result{
		ID: "host-to-pod", Plugin: report.Chain, Result: report.Fail, DurationSeconds: 1.23,
		Reason: "a.yaml:7: probe: no reply; the request was last seen on eth0\nin between",
	})
	p.done(report.Result{ID: "reboot", Plugin: "macvlan", Result: report.Skipped, Reason: "no second node"})
	p.end()
}

const shown = `net.conflist: 2 scenarios
fail            host-to-pod                            1.2s
    a.yaml:7: probe: no reply;
    the request was last seen on eth0
    in between
skipped         reboot (macvlan)                       0.0s  no second node
`

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	show(newProgress(context.Background(), &out))
	if diff := cmp.Diff(out.String(), shown); diff != "" {
		t.Errorf("got, want:\n%s", diff)
	}
}

func TestProgressOnTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	screen, terminal := openTerminal(t)
	p := newProgress(context.Background(), terminal)
	show(p)
	// A second call changes nothing.
	p.end()
	fmt.Fprintln(terminal, "last")
	got := screen.read(t, "last\r\n")
	// A line is cut before it wraps.
	live := regexp.MustCompile(`  \d of 2, [0-9.]+m?s  [a-z -]*\r\x1b\[K`)
	var what []string
	for _, line := range live.FindAllString(got, -1) {
		text := strings.TrimSuffix(line, "\r\x1b[K")
		if len(text) > columns-3 {
			t.Errorf("got live line %q of %d columns, want at most %d", text, len(text), columns-3)
		}
		what = append(what, strings.Fields(text)[0]+" "+strings.Join(strings.Fields(text)[4:], " "))
	}
	for _, want := range []string{"0 host-to-pod", "0 host-to-pod r", "1 reboot"} {
		if !slices.ContainsFunc(what, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("got live lines %q, want one that starts with %q", what, want)
		}
	}
	// Without them the terminal shows what a file would contain.
	if diff := cmp.Diff(strings.ReplaceAll(live.ReplaceAllString(got, ""), "\r\n", "\n"), shown+"last\n"); diff != "" {
		t.Errorf("got, want on the screen:\n%s", diff)
	}
}

func TestProgressAfterSignal(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var out bytes.Buffer
	p := newProgress(ctx, &out)
	p.begin("net.conflist", make([]*e2e.Unit, 0), nil)
	p.done(report.Result{ID: "reboot", Plugin: report.Chain, Result: report.Pass})
	cancel(&signalError{syscall.SIGTERM})
	p.done(report.Result{ID: "host-to-pod", Plugin: report.Chain, Result: report.Fail})
	if strings.Contains(out.String(), "fail") {
		t.Errorf("got a result after the signal:\n%s", &out)
	}
	if s := signalOf(ctx); s == nil || s.status() != 143 {
		t.Errorf("got signal %v, want SIGTERM", s)
	}
}

// terminal is the far side of a pseudo-terminal.
type terminal struct{ *os.File }

// columns is the width of the tests' terminals.
const columns = 32

// openTerminal returns both sides of a pseudo-terminal (pty(7)).
func openTerminal(t *testing.T) (terminal, *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = far.Close() })
	fd := int(far.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	return terminal{far}, near
}

// read returns the output up to a text.
func (s terminal) read(t *testing.T, end string) string {
	t.Helper()
	watchdog := time.AfterFunc(waitTime, func() { _ = s.Close() })
	defer watchdog.Stop()
	var got strings.Builder
	buffer := make([]byte, 4096)
	for !strings.HasSuffix(got.String(), end) {
		n, err := s.Read(buffer)
		got.Write(buffer[:n])
		if err != nil {
			t.Fatalf("terminal: %v; got %q", err, got.String())
		}
	}
	return got.String()
}
