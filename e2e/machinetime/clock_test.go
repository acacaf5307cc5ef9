package machinetime

import (
	"testing"
	"time"
)

// fakeTime is a wall clock that the test sets.
type fakeTime struct{ at time.Time }

func (f *fakeTime) now() time.Time { return f.at }

func newFake() (*fakeTime, *Clock) {
	f := &fakeTime{at: time.Unix(1000, 0)}
	return f, newClock(f.now, func() (int, bool) { return 0, false })
}

// beatLate makes the next beat late.
func (f *fakeTime) beatLate(c *Clock, late time.Duration) {
	f.at = c.due.Add(late)
	c.beat()
}

func TestClock_stolen(t *testing.T) {
	f, c := newFake()
	i := c.Start()
	for _, late := range []time.Duration{0, time.Millisecond, Tolerance, 300 * time.Millisecond, 0} {
		f.beatLate(c, late)
	}
	if got, want := i.Stolen(), 300*time.Millisecond; got != want {
		t.Errorf("stolen: got %s, want %s", got, want)
	}
	if got, want := i.Wall(), 5*period+time.Millisecond+Tolerance+300*time.Millisecond; got != want {
		t.Errorf("wall: got %s, want %s", got, want)
	}
	if got, want := i.Given(), 5*period+time.Millisecond+Tolerance; got != want {
		t.Errorf("given: got %s, want %s", got, want)
	}
}

// On a machine that was stopped all threads wake up at once: a caller may ask before the next beat.
func TestClock_beat_under_way(t *testing.T) {
	f, c := newFake()
	i := c.Start()
	f.at = f.at.Add(period + time.Minute)
	if got, want := i.Stolen(), time.Minute; got != want {
		t.Errorf("before the beat: got %s, want %s", got, want)
	}
	if got, want := i.Worst(), time.Minute; got != want {
		t.Errorf("worst before the beat: got %s, want %s", got, want)
	}
	c.beat()
	if got, want := i.Stolen(), time.Minute; got != want {
		t.Errorf("after it: got %s, want %s", got, want)
	}
}

func TestClock_worst(t *testing.T) {
	f, c := newFake()
	f.beatLate(c, time.Second)
	f.at = f.at.Add(time.Millisecond)
	first := c.Start()
	f.beatLate(c, 30*time.Millisecond)
	f.beatLate(c, 50*time.Millisecond)
	f.at = f.at.Add(time.Millisecond)
	second := c.Start()
	f.beatLate(c, 10*time.Millisecond)
	if got, want := first.Worst(), 50*time.Millisecond; got != want {
		t.Errorf("first: got %s, want %s", got, want)
	}
	if got, want := second.Worst(), 10*time.Millisecond; got != want {
		t.Errorf("second: got %s, want %s", got, want)
	}
	if got, want := c.Worst(time.Time{}), time.Second; got != want {
		t.Errorf("ever: got %s, want %s", got, want)
	}
}

// The memory for the past is limited, even if each beat is a little less late than the one before.
func TestClock_bounded(t *testing.T) {
	f, c := newFake()
	for n := range 10 * remembered {
		f.beatLate(c, time.Hour-time.Duration(n))
	}
	if got := len(c.late); got > remembered {
		t.Errorf("got %d beats in memory, want at most %d", got, remembered)
	}
}

func TestInterval_load(t *testing.T) {
	f, c := newFake()
	c.runnable = func() (int, bool) { return 7, true }
	i := c.Start()
	if got := i.Load(); got != 0 {
		t.Errorf("before a look: got %f, want 0", got)
	}
	for range loadEvery {
		f.beatLate(c, 0)
	}
	if got := i.Load(); got <= 0 || got > 7 {
		t.Errorf("got %f threads for each processor of 7 in all", got)
	}
}

// The heartbeat of this process works, and reads the figures of this machine.
func TestProcess(t *testing.T) {
	c := Process()
	before := c.Start()
	for beats := func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.beats }; beats() < 2*loadEvery; {
		time.Sleep(period)
	}
	if given := before.Given(); given > before.Wall() {
		t.Errorf("got %s given of %s", given, before.Wall())
	}
	if n, ok := runnable(); !ok || n < 0 {
		t.Errorf("threads that want a processor: got %d, %t", n, ok)
	}
}

func BenchmarkBeat(b *testing.B) {
	c := newClock(time.Now, runnable)
	for b.Loop() {
		c.beat()
	}
}
