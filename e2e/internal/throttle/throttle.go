// Package throttle says how many units may run at the same time: as many as the machine carries without being late,
// whoever else uses it.
//
// It adds one while processors are idle and timers are on time, and halves the number when more threads want the
// processors than a run may use (additive increase, multiplicative decrease, as in congestion control). Several runs on
// a machine share it in this way without knowing of each other.
//
// Run its tests: go test ./e2e/internal/throttle
package throttle

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

const (
	// interval is how long the machine is watched for each decision.
	interval = 500 * time.Millisecond
	// Below calmLoad threads for each processor and calmLateness, one more unit may run; above crowded, too many are
	// running.
	calmLoad        = 2.5
	calmLateness    = 25 * time.Millisecond
	crowdedLoad     = 4
	crowdedLateness = 50 * time.Millisecond
)

// Throttle bounds what runs at the same time. Its methods may be called concurrently.
type Throttle struct {
	least, most int

	mu      sync.Mutex
	limit   int
	running int
	changed chan struct{} // closed and replaced when somebody may go on
	// settling is the number of coming decisions that change nothing: what began before the last change is still
	// running.
	settling int
}

// New returns a throttle with a limit between least, which is 1 or more, and most. It begins with one for each
// processor.
func New(least, most int) *Throttle {
	most = max(least, most)
	return &Throttle{
		least: least, most: most, limit: min(max(least, runtime.NumCPU()), most), changed: make(chan struct{}),
	}
}

// Follow adjusts the throttle to the machine until ctx ends.
func (t *Throttle) Follow(ctx context.Context) {
	for {
		i := machinetime.Start()
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
			t.decide(i.Load(), i.Worst())
		}
	}
}

// decide changes the limit according to what was seen in an interval.
func (t *Throttle) decide(load float64, worst time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case load > crowdedLoad || worst > crowdedLateness:
		if t.settling > 0 {
			t.settling--
			return
		}
		t.limit, t.settling = max(t.least, min(t.limit, t.running)/2), 4
	case load < calmLoad && worst < calmLateness && t.running >= t.limit && t.limit < t.most:
		t.limit++
		t.wake()
	}
}

// AtMost lowers the largest limit. What runs already goes on.
func (t *Throttle) AtMost(most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.most = max(t.least, min(most, t.most))
	t.limit = min(t.limit, t.most)
}

// wake makes all waiting callers check the limit again. The caller holds the lock.
func (t *Throttle) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Enter waits until one more unit may run. Its error is that of ctx.
func (t *Throttle) Enter(ctx context.Context) error {
	for {
		t.mu.Lock()
		if t.running < t.limit {
			t.running++
			t.mu.Unlock()
			return nil
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// Leave records that a unit has ended.
func (t *Throttle) Leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	t.wake()
}

// Limit returns how many units may run at present.
func (t *Throttle) Limit() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limit
}
