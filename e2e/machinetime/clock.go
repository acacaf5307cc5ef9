// Package machinetime counts the time that the machine gave to this process, instead of the time that passed. On a
// machine that is busy, was stopped or migrated, the two differ, and a program that measures wall-clock time blames
// others for it.
//
// A heartbeat sleeps some milliseconds over and over and measures how late it wakes up. The lateness is time that no
// process here could use: timeouts of this package (WithTimeout) last longer by it, and an Interval has the largest
// lateness. Timers do not show how long another process waits for a processor: Watch adds that to the timeout of its
// owner.
//
// Run its tests: go test ./e2e/machinetime
package machinetime

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// period is how long the heartbeat sleeps. Fifty beats a second cost less than a thousandth of a processor.
	period = 20 * time.Millisecond
	// Tolerance is how late a beat may be before its lateness counts as stolen. Beats of an idle machine are late by
	// less than 2ms, those of a machine with forty threads for each processor by 80ms at most: that uses up no budget
	// of a second, and if it counted, a plugin that sleeps would get half as much time again.
	Tolerance = 100 * time.Millisecond
	// loadEvery is the number of beats between two measurements of the load.
	loadEvery = 5
	// remembered is how long Worst is exact. Earlier lateness is forgotten.
	remembered = 1024
)

// Clock measures how late timers are. Its methods may be called concurrently.
type Clock struct {
	now func() time.Time
	// runnable returns how many threads of the machine want a processor; false if that is unknown.
	runnable func() (int, bool)

	mu sync.Mutex
	// due is when the next beat should come.
	due    time.Time
	beats  int
	stolen time.Duration
	// late has the beats that were late, in the order of time, each later than all that follow.
	late []lateBeat
	// load is the sum of runnable for each processor, over samples measurements.
	load    float64
	samples int
}

// lateBeat is a beat that came late.
type lateBeat struct {
	at   time.Time
	late time.Duration
}

// newClock returns a clock without a heartbeat.
func newClock(now func() time.Time, runnable func() (int, bool)) *Clock {
	return &Clock{now: now, runnable: runnable, due: now().Add(period)}
}

// Process returns the clock of this process. Its heartbeat begins with the first call and never stops.
var Process = sync.OnceValue(func() *Clock {
	c := newClock(time.Now, runnable)
	go func() {
		for {
			time.Sleep(period)
			c.beat()
		}
	}()
	return c
})

// beat records how late a beat is.
func (c *Clock) beat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	late := now.Sub(c.due)
	c.stolen += counted(late)
	for len(c.late) > 0 && c.late[len(c.late)-1].late <= late {
		c.late = c.late[:len(c.late)-1]
	}
	if len(c.late) == remembered {
		c.late = append(c.late[:0], c.late[1:]...)
	}
	c.late = append(c.late, lateBeat{now, late})
	if c.beats++; c.beats%loadEvery == 0 {
		if n, ok := c.runnable(); ok {
			c.load += float64(n) / float64(runtime.NumCPU())
			c.samples++
		}
	}
	c.due = now.Add(period)
}

// counted returns the part of a lateness that counts as stolen.
func counted(late time.Duration) time.Duration {
	if late <= Tolerance {
		return 0
	}
	return late
}

// Start begins an interval.
func (c *Clock) Start() Interval {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Interval{clock: c, begin: c.now(), stolen: c.stolenNow(), load: c.load, samples: c.samples}
}

// stolenNow returns all that was stolen until now, including what the next beat will find; the caller holds the lock.
func (c *Clock) stolenNow() time.Duration { return c.stolen + counted(c.now().Sub(c.due)) }

// Stolen returns what was stolen since the first beat.
func (c *Clock) Stolen() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stolenNow()
}

// Worst returns how late the latest beat was since a time, at most since the clock began.
func (c *Clock) Worst(since time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	worst := max(0, c.now().Sub(c.due))
	for _, b := range c.late {
		if !b.at.Before(since) {
			return max(worst, b.late)
		}
	}
	return worst
}

// Interval is the time since Start was called.
type Interval struct {
	clock   *Clock
	begin   time.Time
	stolen  time.Duration
	load    float64
	samples int
}

// Start begins an interval of this process's clock.
func Start() Interval { return Process().Start() }

// Stolen returns what was stolen in the interval.
func (i Interval) Stolen() time.Duration { return i.clock.Stolen() - i.stolen }

// Wall returns how long the interval lasts by the clock on the wall.
func (i Interval) Wall() time.Duration { return i.clock.now().Sub(i.begin) }

// Given returns how much time the machine gave.
func (i Interval) Given() time.Duration { return max(0, i.Wall()-i.Stolen()) }

// Worst returns how late timers were at worst.
func (i Interval) Worst() time.Duration { return i.clock.Worst(i.begin) }

// Load returns how many threads wanted each processor on average, those of others included; 0 where the interval is
// shorter than a tenth of a second, or the machine does not tell.
func (i Interval) Load() float64 {
	i.clock.mu.Lock()
	defer i.clock.mu.Unlock()
	if n := i.clock.samples - i.samples; n > 0 {
		return (i.clock.load - i.load) / float64(n)
	}
	return 0
}

// Turn returns how long a thread that is ready to run waits for its turn at most, as far as the number of such threads
// tells: nothing on an idle machine.
func Turn() time.Duration {
	n, ok := runnable()
	if !ok {
		return 0
	}
	return slice * time.Duration(n) / time.Duration(runtime.NumCPU())
}

// slice is how long the kernel lets a thread run while others wait (base_slice_ns of the scheduler, for some
// processors).
const slice = 3 * time.Millisecond

// runnable reads how many threads run or want to (proc_loadavg(5), the fourth field). The one that reads is among them.
func runnable() (int, bool) {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data))
	if len(fields) < 4 {
		return 0, false
	}
	text, _, _ := strings.Cut(fields[3], "/")
	n, err := strconv.Atoi(text)
	return n - 1, err == nil
}
