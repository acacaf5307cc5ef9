package machinetime

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestWithTimeout_expires(t *testing.T) {
	cause := errors.New("it took too long")
	ctx, cancel := WithTimeoutCause(context.Background(), 10*time.Millisecond, cause)
	defer cancel()
	child, cancelChild := context.WithCancel(ctx)
	defer cancelChild()
	<-child.Done()
	for name, ctx := range map[string]context.Context{"itself": ctx, "child": child} {
		if got := ctx.Err(); got != context.DeadlineExceeded {
			t.Errorf("%s: got the error %v, want %v", name, got, context.DeadlineExceeded)
		}
		if got := context.Cause(ctx); !errors.Is(got, cause) {
			t.Errorf("%s: got the cause %v, want %v", name, got, cause)
		}
	}
}

func TestWithTimeout_canceled(t *testing.T) {
	stop := errors.New("stop")
	parent, cancelParent := context.WithCancelCause(context.Background())
	ctx, cancel := WithTimeout(parent, time.Hour)
	defer cancel()
	cancelParent(stop)
	<-ctx.Done()
	if got := ctx.Err(); got != context.Canceled {
		t.Errorf("got the error %v, want %v", got, context.Canceled)
	}
	if got := context.Cause(ctx); !errors.Is(got, stop) {
		t.Errorf("got the cause %v, want %v", got, stop)
	}
}

// Stolen time is not counted.
func TestWithTimeout_stretches(t *testing.T) {
	f, c := newFake()
	ctx, cancel := c.withTimeout(context.Background(), time.Hour, nil)
	defer cancel()
	w := ctx.(*timeout)
	expired := func() bool {
		w.check(func() { w.expired.Store(true) })
		return w.Err() != nil
	}
	for range int(time.Minute / period) {
		f.beatLate(c, 0)
	}
	f.beatLate(c, 2*time.Hour)
	if expired() {
		t.Fatalf("expired after %s of %s", w.interval.Given(), w.limit)
	}
	if got, want := Extra(ctx), 2*time.Hour; got != want {
		t.Errorf("extra: got %s, want %s", got, want)
	}
	for w.interval.Given() < w.limit {
		f.beatLate(c, 0)
	}
	if !expired() {
		t.Errorf("not expired after %s of %s", w.interval.Given(), w.limit)
	}
}

// The time that a watched process waits for a processor is not counted, and the time that it sleeps is.
func TestWatch_look(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("10/stat", "10 (plugin (x) y) S 1 10 10")
	write("10/task/10/schedstat", "5000 1000000000 3")
	write("10/task/11/schedstat", "5000 2000000000 3")
	write("20/stat", "20 (delegate) R 10 10 10")
	write("20/task/20/schedstat", "5000 3000000000 3")
	write("30/stat", "30 (another) R 1 10 10")
	write("30/task/30/schedstat", "5000 9000000000 3")
	w := &watch{root: root, seen: map[int]time.Duration{}}
	look := func(pid int) time.Duration { return w.look((&processes{root: root}).below(pid)) }
	if got, want := look(10), 3*time.Second; got != want {
		t.Errorf("first look: got %s, want %s", got, want)
	}
	write("10/task/11/schedstat", "5000 2500000000 3")
	if got, want := look(10), 500*time.Millisecond; got != want {
		t.Errorf("second look: got %s, want %s", got, want)
	}
	if got := look(10); got != 0 {
		t.Errorf("third look: got %s, want 0", got)
	}
	if got := look(40); got != 0 {
		t.Errorf("no such process: got %s, want 0", got)
	}
}

// A process that sleeps gets no additional time.
func TestWatch_sleeper(t *testing.T) {
	ctx, cancel := WithTimeout(context.Background(), time.Second)
	defer cancel()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skipf("no program that sleeps: %v", err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	defer Watch(ctx, cmd.Process.Pid)()
	<-ctx.Done()
	starved := time.Duration(ctx.(*timeout).starved.Load())
	if starved > 300*time.Millisecond {
		t.Errorf("a process that sleeps: got %s without a processor, want none", starved)
	}
}

func TestExcess(t *testing.T) {
	for extra, want := range map[time.Duration]string{
		0: "", 99 * time.Millisecond: "",
		4040 * time.Millisecond: " (and 4s in which the machine gave it no processor)",
	} {
		if got := Excess(extra); got != want {
			t.Errorf("%s: got %q, want %q", extra, got, want)
		}
	}
}
