// Package throttle says how many units may run at the same time: as many as the machine carries without being late,
// whoever else uses it.
//
// It adds one while processors are idle and timers are on time, and halves the number when timers are late, or when no
// processor is idle and more threads want one than a run may use (additive increase, multiplicative decrease, as in
// congestion control). Several runs on a machine share it in this way without knowing of each other.
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
	// One more unit may run if timers are at most calmLateness late, and if there are less than calmLoad threads for
	// each processor or calmIdle of the processors' time was left.
	calmLoad     = 2.5
	calmIdle     = 0.1
	calmLateness = 25 * time.Millisecond
	// Too many are running if timers are later than crowdedLateness, or if there are more than crowdedLoad threads for
	// each processor and less than crowdedIdle of their time was left. The load alone says little: a call of a plugin
	// starts a dozen threads that want a processor for some microseconds.
	crowdedLoad     = 4
	crowdedIdle     = 0.03
	crowdedLateness = 50 * time.Millisecond
)

// seen is what was seen of the machine in an interval.
type seen struct {
	// load is the number of threads for each processor that wanted one, and idle the share of the processors' time that
	// nobody used.
	load, idle float64
	// late is the largest lateness of a timer.
	late time.Duration
}

// calm reports whether the machine carries more than now.
func (s seen) calm() bool { return s.late < calmLateness && (s.load < calmLoad || s.idle > calmIdle) }

// crowded reports whether the machine carries less than now.
func (s seen) crowded() bool {
	return s.late > crowdedLateness || s.load > crowdedLoad && s.idle < crowdedIdle
}

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
		i, idle := machinetime.Start(), machinetime.WatchIdle()
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
			t.decide(seen{load: i.Load(), idle: idle.Share(), late: i.Worst()})
		}
	}
}

// decide changes the limit according to what was seen in an interval.
func (t *Throttle) decide(s seen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case s.crowded():
		if t.settling > 0 {
			t.settling--
			return
		}
		t.limit, t.settling = max(t.least, min(t.limit, t.running)/2), 4
	case s.calm() && t.running >= t.limit && t.limit < t.most:
		t.limit++
		t.wake()
	}
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
