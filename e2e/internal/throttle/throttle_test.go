package throttle

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

func TestThrottle_decide(t *testing.T) {
	th := New(1, 64)
	if got, want := th.Limit(), min(64, runtime.NumCPU()); got != want {
		t.Fatalf("at the start: got %d, want %d", got, want)
	}
	enterAll := func() {
		for th.running < th.limit {
			if err := th.Enter(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := th.Limit()
	for range 10 {
		enterAll()
		th.decide(1, 0)
	}
	if got, want := th.Limit(), start+10; got != want {
		t.Errorf("on a calm machine: got %d, want %d", got, want)
	}
	enterAll()
	before := th.Limit()
	th.decide(3, 0)
	if got := th.Limit(); got != before {
		t.Errorf("on a busy one: got %d, want %d still", got, before)
	}
	th.decide(9, 0)
	if got, want := th.Limit(), before/2; got != want {
		t.Errorf("on a crowded one: got %d, want %d", got, want)
	}
	th.decide(9, 0)
	if got, want := th.Limit(), before/2; got != want {
		t.Errorf("while those that began before still run: got %d, want %d", got, want)
	}
	for range 100 {
		th.decide(1, 200*time.Millisecond)
	}
	if got := th.Limit(); got != 1 {
		t.Errorf("while timers are late: got %d, want 1", got)
	}
}

func TestThrottle_least(t *testing.T) {
	th := New(3, 64)
	for range 100 {
		th.decide(9, 200*time.Millisecond)
	}
	if got := th.Limit(); got != 3 {
		t.Errorf("on a crowded machine: got %d, want 3", got)
	}
}

func TestThrottle_AtMost(t *testing.T) {
	th := New(1, 64)
	th.limit, th.running = 9, 9
	th.AtMost(2)
	th.decide(0, 0)
	if got := th.Limit(); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
	th.AtMost(5)
	th.decide(0, 0)
	if got := th.Limit(); got != 2 {
		t.Errorf("got %d after a larger one, want 2 still", got)
	}
}

// Never more run than are requested.
func TestThrottle_idle(t *testing.T) {
	th := New(1, 64)
	before := th.Limit()
	for range 100 {
		th.decide(0, 0)
	}
	if got := th.Limit(); got != before {
		t.Errorf("got %d with nobody who waits, want %d", got, before)
	}
}

func TestThrottle_Enter(t *testing.T) {
	th := New(1, 1)
	ctx, cancel := context.WithCancel(context.Background())
	if err := th.Enter(ctx); err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() { entered <- th.Enter(ctx) }()
	select {
	case err := <-entered:
		t.Fatalf("two at once, error %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	th.Leave()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	go func() { entered <- th.Enter(ctx) }()
	cancel()
	if err := <-entered; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}
