package disturbance

import (
	"context"
	"fmt"
	"time"
)

// Stalled is the time in which something must end in a unit that has used up its time: it is longer than any call of a
// plugin may take.
const Stalled = 45 * time.Second

// WithTimeout returns a context that ends once limit is over and nothing has ended for the time Stalled. A unit that
// proceeds on a busy machine goes on, since everything it does has a budget of its own; a unit that hangs does not. ctx
// must come from Begin.
func WithTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return withTimeout(ctx, limit, Stalled)
}

func withTimeout(parent context.Context, limit, stalled time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	r := Of(parent)
	go func() {
		for wait := limit; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			if given := r.interval.Given(); given < limit {
				wait = limit - given
				continue
			}
			idle := r.Idle()
			if idle >= stalled {
				cancel(&TimeoutError{Limit: limit, Idle: idle})
				return
			}
			wait = stalled - idle
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// TimeoutError is the cause of a context that ended because its time was over.
type TimeoutError struct{ Limit, Idle time.Duration }

// Error says how long it waited.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("scenario took longer than %s, and nothing in it had ended for %s", e.Limit,
		e.Idle.Round(time.Second))
}
