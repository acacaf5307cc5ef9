// Package machinetime counts the time that the machine gave to this process, instead of the time that passed. On a
// machine that is busy, or was stopped or migrated, the two differ, and a program that measures wall-clock time blames
// others for the difference.
//
// A heartbeat sleeps some milliseconds again and again, and measures how late it wakes up. During the lateness no
// process here could work, so timeouts of this package (WithTimeout) are extended by it, and an Interval reports the
// largest one. Timers do not show how long another process waits for a processor: Watch adds that time to the timeout
// of its owner.
//
// Run its tests: go test ./e2e/machinetime
package machinetime

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// period is how long the heartbeat sleeps. Fifty beats per second cost less than a thousandth of a processor.
	period = 20 * time.Millisecond
	// Tolerance is how late a beat may be before its lateness counts as stolen. On an idle machine beats are less than
	// 2ms late, on a machine with forty threads per processor at most 80ms. Such lateness uses up no budget of a
	// second. If it counted, a plugin that sleeps would get half as much time again.
	Tolerance = 100 * time.Millisecond
	// loadEvery is the number of beats between two measurements of the load.
	loadEvery = 5
	// remembered is the number of late beats that Worst remembers.
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
	// late contains late beats in the order of time, each later than all that follow.
	late []lateBeat
	// load is the sum of runnable per processor, over samples measurements.
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

// stolenNow returns the time that was stolen until now, including what the next beat will notice. The caller holds the
// lock.
func (c *Clock) stolenNow() time.Duration { return c.stolen + counted(c.now().Sub(c.due)) }

// Stolen returns the time that was stolen since the first beat.
func (c *Clock) Stolen() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stolenNow()
}

// Worst returns the largest lateness of a beat since a time, or since the clock began if that is later.
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

// Stolen returns the time that was stolen in the interval.
func (i Interval) Stolen() time.Duration { return i.clock.Stolen() - i.stolen }

// Wall returns the duration of the interval by wall-clock time.
func (i Interval) Wall() time.Duration { return i.clock.now().Sub(i.begin) }

// Given returns how much of the interval the machine gave.
func (i Interval) Given() time.Duration { return max(0, i.Wall()-i.Stolen()) }

// Worst returns the largest lateness of a timer in the interval.
func (i Interval) Worst() time.Duration { return i.clock.Worst(i.begin) }

// Load returns how many threads, including those of other programs, wanted each processor on average. It returns 0 if
// the interval is shorter than a tenth of a second, or if the machine does not say.
func (i Interval) Load() float64 {
	i.clock.mu.Lock()
	defer i.clock.mu.Unlock()
	if n := i.clock.samples - i.samples; n > 0 {
		return (i.clock.load - i.load) / float64(n)
	}
	return 0
}

// Turn returns how long a runnable thread waits for a processor at most, estimated from the number of such threads: 0
// on an idle machine.
func Turn() time.Duration {
	n, ok := runnable()
	if !ok {
		return 0
	}
	return slice * time.Duration(n) / time.Duration(runtime.NumCPU())
}

// slice is how long the kernel lets a thread run while others wait (base_slice_ns of the scheduler, for a few
// processors).
const slice = 3 * time.Millisecond

// loadavg opens the file once: it is read ten times a second by dozens of processes.
var loadavg = sync.OnceValue(func() int {
	fd, err := unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
})

// runnable returns how many threads run or want to run, including the calling one (proc_loadavg(5), the fourth field).
func runnable() (int, bool) {
	var data [128]byte
	length, err := unix.Pread(loadavg(), data[:], 0)
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data[:length]))
	if len(fields) < 4 {
		return 0, false
	}
	text, _, _ := strings.Cut(fields[3], "/")
	n, err := strconv.Atoi(text)
	return n - 1, err == nil
}
