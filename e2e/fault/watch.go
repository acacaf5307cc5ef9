package fault

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Held stops the thread that makes the call before it, until Watch.Release or the next Watch.Begin. The others of the
// program go on. It happens only to a program that is watched.
const Held When = "held"

// Watch is a program that runs for long, such as a daemon, under the tracer: it says what the program does, and what
// happens to it is chosen while it runs. Its methods may be called concurrently.
type Watch struct {
	mu     sync.Mutex
	tracer *tracer // nil before the start
	plan   *Injection
	// held is the thread that is stopped; nil if none is. released means that it may go on.
	held     *thread
	released bool
}

// Watched is what a program did since Watch.Begin.
type Watched struct {
	// Points have numbers from 1 on.
	Points []Point `json:"points"`
	// Hit, Diverged and Told are those of a Trace.
	Hit      *Point `json:"hit,omitempty"`
	Diverged bool   `json:"diverged,omitempty"`
	Told     bool   `json:"told,omitempty"`
	// Held means that a thread is stopped, Ended that the program has ended.
	Held  bool `json:"held,omitempty"`
	Ended bool `json:"ended,omitempty"`
}

// Attend runs a program until it or ctx ends, with points as ObserveReads makes them. Watch.Begin says what happens to
// it, before the start and while it runs. In all other respects it is like Observe.
func Attend(ctx context.Context, command Command, watch *Watch) (Trace, error) {
	return run(ctx, command, task{watch: watch, reads: true})
}

// Begin forgets what the program did, ends what happened to it, and lets something else happen; nil only observes.
func (w *Watch) Begin(injection *Injection) error {
	if injection != nil && injection.When != Held {
		if err := injection.validate(); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan, w.released = injection, true
	if w.tracer != nil {
		w.adopt(w.tracer)
	}
	return nil
}

// adopt gives a tracer the plan; the caller holds the lock.
func (w *Watch) adopt(t *tracer) {
	t.injection, t.points, t.hit, t.times, t.dumps = w.plan, nil, nil, 0, nil
	t.trace.Told, t.trace.Diverged = false, false
	clear(t.deaf)
	clear(t.torn)
	w.tracer = t
}

// Release lets a stopped thread go on.
func (w *Watch) Release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = true
}

// State returns what the program has done since Begin.
func (w *Watch) State() Watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tracer == nil {
		return Watched{}
	}
	state := Watched{
		Diverged: w.tracer.trace.Diverged, Told: w.tracer.trace.Told, Held: w.held != nil && !w.released,
		Ended: w.tracer.ended,
	}
	for _, p := range w.tracer.points {
		state.Points = append(state.Points, *p)
	}
	if hit := w.tracer.hit; hit != nil {
		copied := *hit
		state.Hit = &copied
	}
	return state
}

// Nth returns how many of the points up to one are like it: Injection.Nth for a program that is watched.
func Nth(points []Point, p Point) int {
	n := 0
	for _, q := range points[:slices.IndexFunc(points, func(q Point) bool { return q.Number == p.Number })+1] {
		if q.Like(p) {
			n++
		}
	}
	return n
}

// due reports whether the fault happens at a point.
func (t *tracer) due(p *Point) bool {
	if t.injection == nil || t.hit != nil && t.hit != p {
		return false
	}
	if t.injection.Nth == 0 {
		return p.Number == t.injection.Point.Number
	}
	if !p.Like(t.injection.Point) {
		return false
	}
	n := 0
	for _, q := range t.points {
		if q.Like(*p) {
			n++
		}
	}
	return n == t.injection.Nth
}

// hold stops a thread before its call.
func (t *tracer) hold(c *sysCall) {
	t.watch.held, t.watch.released = c.thread, false
	c.thread.call = c
}

// letGo lets a held thread go on if it may; the caller holds the lock.
func (w *Watch) letGo() error {
	if w.held == nil || !w.released {
		return nil
	}
	th := w.held
	w.held = nil
	return resume(unix.PtraceSyscall, th.tid, 0)
}

// next waits for the next stop or end of a thread. While one is held it also looks whether that may go on.
func (t *tracer) next(status *unix.WaitStatus) (int, error) {
	const options = unix.WCLONE | unix.WNOTHREAD
	for t.watch != nil {
		t.watch.mu.Lock()
		err := t.watch.letGo()
		holds := t.watch.held != nil
		t.watch.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if !holds {
			break
		}
		if tid, err := unix.Wait4(-1, status, options|unix.WNOHANG, nil); tid != 0 || err != nil {
			return tid, err
		}
		time.Sleep(500 * time.Microsecond)
	}
	return unix.Wait4(-1, status, options, nil)
}

// handle handles a stop of a thread, or its end.
func (t *tracer) handle(tid int, status unix.WaitStatus) error {
	if t.watch != nil {
		t.watch.mu.Lock()
		defer t.watch.mu.Unlock()
	}
	if status.Stopped() {
		return t.stopped(t.thread(tid), status)
	}
	if t.watch != nil && t.watch.held != nil && t.watch.held.tid == tid {
		t.watch.held = nil
	}
	t.gone(tid, status)
	return nil
}
