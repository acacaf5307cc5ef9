package fault_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/fault"
)

// attend starts the daemon of the test's plugin, and returns it and a function that asks it.
func attend(t *testing.T) (*fault.Watch, func() string) {
	t.Helper()
	dir, watch, ended := directory(t), &fault.Watch{}, make(chan error, 1)
	running, cancel := context.WithCancel(ctx(t))
	go func() {
		_, err := fault.Attend(running, command(dir, "serve"), watch)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		check(t, <-ended)
		wantAlone(t)
	})
	ask := func() string {
		for running.Err() == nil {
			conn, err := net.Dial("unix", filepath.Join(dir, "socket"))
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			_, _ = conn.Write([]byte("?"))
			answer, _ := io.ReadAll(conn)
			_ = conn.Close()
			return string(answer)
		}
		return "no answer"
	}
	return watch, ask
}

// find returns the point with a description, and its place among those that are like it.
func find(t *testing.T, points []fault.Point, what string) (fault.Point, int) {
	t.Helper()
	for _, p := range points {
		if strings.HasPrefix(p.What, what) {
			return p, fault.Nth(points, p)
		}
	}
	t.Fatalf("want a point %q in\n%s", what, fault.Summary(points))
	return fault.Point{}, 0
}

// What happens to a program that is watched can be chosen again and again.
func TestAttend(t *testing.T) {
	watch, ask := attend(t)
	if got := ask(); got != "1 <nil>" {
		t.Fatalf("got %q, want 1", got)
	}
	check(t, watch.Begin(nil))
	if got := ask(); got != "2 <nil>" {
		t.Fatalf("got %q, want 2", got)
	}
	p, nth := find(t, watch.State().Points, "open /run/")
	for range 3 {
		check(t, watch.Begin(&fault.Injection{Point: p, When: fault.Fail, Errno: syscall.EIO, Nth: nth}))
		got, did := ask(), watch.State()
		if !strings.Contains(got, "input/output error") || did.Hit == nil || !did.Told || did.Diverged {
			t.Errorf("got %q, %+v, want that the open fails", got, did)
		}
		check(t, watch.Begin(nil))
		if got, did := ask(), watch.State(); !strings.HasSuffix(got, " <nil>") || did.Hit != nil || did.Told {
			t.Errorf("got %q, %+v, want an answer", got, did)
		}
	}
}

// While one thread is held the others go on: both requests read the same count.
func TestAttend_held(t *testing.T) {
	watch, ask := attend(t)
	ask()
	check(t, watch.Begin(nil))
	if got := ask(); got != "2 <nil>" {
		t.Fatalf("got %q, want 2", got)
	}
	p, nth := find(t, watch.State().Points, "create")
	check(t, watch.Begin(&fault.Injection{Point: p, When: fault.Held, Nth: nth}))
	first := make(chan string, 1)
	go func() { first <- ask() }()
	for !watch.State().Held && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	second := ask()
	watch.Release()
	if one := <-first; one != "3 <nil>" || second != one || watch.State().Held {
		t.Errorf("got %q and %q, want 3 twice", one, second)
	}
}
