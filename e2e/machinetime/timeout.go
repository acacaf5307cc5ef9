package machinetime

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// timeout is a context that ends when the machine has given it its time.
type timeout struct {
	context.Context // ends with the timeout, and contains its cause
	limit           time.Duration
	interval        Interval
	// starved is how long processes that work for the timeout's owner waited for a processor.
	starved atomic.Int64
	expired atomic.Bool
	done    chan struct{}

	mu    sync.Mutex
	timer *time.Timer
}

// timeoutKey is the key of the innermost timeout of a context.
type timeoutKey struct{}

// WithTimeout does the same as context.WithTimeout, but d is time that the machine gives. The context has no deadline,
// since the end moves.
func WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return Process().withTimeout(ctx, d, nil)
}

// WithTimeoutCause does the same as WithTimeout, with a cause for the end of the time.
func WithTimeoutCause(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	return Process().withTimeout(ctx, d, cause)
}

func (c *Clock) withTimeout(parent context.Context, d time.Duration,
	cause error,
) (context.Context, context.CancelFunc) {
	if cause == nil {
		cause = context.DeadlineExceeded
	}
	inner, cancel := context.WithCancelCause(parent)
	t := &timeout{Context: inner, limit: d, interval: c.Start(), done: make(chan struct{})}
	context.AfterFunc(inner, func() { close(t.done) })
	t.mu.Lock()
	t.timer = time.AfterFunc(d, func() { t.check(func() { cancel(cause) }) })
	t.mu.Unlock()
	return t, func() {
		t.mu.Lock()
		t.timer.Stop()
		t.mu.Unlock()
		cancel(context.Canceled)
	}
}

// check ends the context if its time is over; otherwise it waits for the remaining time.
func (t *timeout) check(expire func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Context.Err() != nil {
		return
	}
	if left := t.left(); left > 0 {
		t.timer.Reset(left)
		return
	}
	t.expired.Store(true)
	expire()
}

// left returns the remaining time.
func (t *timeout) left() time.Duration { return t.limit + t.extra() - t.interval.Wall() }

// extra returns by how much the timeout is extended. Timers of this process are late at the same moments at which
// others wait for a processor.
func (t *timeout) extra() time.Duration {
	return max(t.interval.Stolen(), time.Duration(t.starved.Load()))
}

// Done returns a channel that is closed when the context ends.
func (t *timeout) Done() <-chan struct{} { return t.done }

// Err returns context.DeadlineExceeded when the time is over.
func (t *timeout) Err() error {
	if t.expired.Load() {
		return context.DeadlineExceeded
	}
	return t.Context.Err()
}

// Value returns the timeout itself for its key, and otherwise the value of the parent context.
func (t *timeout) Value(key any) any {
	if key == (timeoutKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// Extra returns by how much the innermost timeout around a context is extended; 0 if there is none.
func Extra(ctx context.Context) time.Duration {
	if t, ok := ctx.Value(timeoutKey{}).(*timeout); ok {
		return t.extra()
	}
	return 0
}

// Excess returns an addition to a message about a wait that was longer than its budget: " (and 4s in which the machine
// gave it no processor)"; empty if extra is less than a tenth of a second.
func Excess(extra time.Duration) string {
	if extra < 100*time.Millisecond {
		return ""
	}
	return fmt.Sprintf(" (and %s in which the machine gave it no processor)", extra.Round(100*time.Millisecond))
}
