package fault

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

const (
	// watchEvery is how often the gate looks whether a run waits.
	watchEvery = 2 * time.Millisecond
	// sleptFor is the number of looks in a row at which a call must sleep to count as one that waits.
	sleptFor = 3
	// refusedFor is the number of times that a point must fail with one error to count as one that waits.
	refusedFor = 3
	// circling is the number of points in a row of at most three kinds that count as waiting.
	circling = 40
	// idleFor is how long a run may do nothing, in time that the machine gave, before it counts as one that waits for
	// something else than a lock.
	idleFor = 3 * time.Second
	// deadFor is how long two runs must wait for locks to count as deadlocked.
	deadFor = 500 * time.Millisecond
)

// gate lets one of two runs go on at a time.
type gate struct {
	mu    sync.Mutex
	moved *sync.Cond
	turn  int
	stops []Stop
	seats [2]seat
	// free means that nobody is held any more.
	free, deadlock bool
	events         []Event
	ctx            context.Context
	stuck          machinetime.Interval
	stuckLooks     int
}

// seat is the state of a run.
type seat struct {
	// held means that it is stopped before a point, ended that it has ended.
	held, ended bool
	at          int // its last point
	// lock is the thread that is in a call for a lock; 0 if none is. slept counts the looks at which it slept.
	lock, slept int
	// refused counts how often it got one error at one point.
	refused int
	last    string // the point and the error
	recent  []string
	// active is the time since its last point.
	active    machinetime.Interval
	processes []int
}

// player is a run with its gate.
type player struct {
	*gate
	run int
}

func newGate(ctx context.Context, schedule Schedule) *gate {
	g := &gate{turn: schedule.First, stops: slices.Clone(schedule.Stops), ctx: ctx}
	g.moved = sync.NewCond(&g.mu)
	for i := range g.seats {
		g.seats[i].active = machinetime.Start()
	}
	context.AfterFunc(ctx, g.close)
	return g
}

// close lets everybody go.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free = true
	g.moved.Broadcast()
}

// pass returns once the run may make the call of a point.
func (p *player) pass(point *Point, pid int) {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.seats[p.run]
	s.at = point.Number
	if !slices.Contains(s.processes, pid) {
		s.processes = append(s.processes, pid)
	}
	if next := (Stop{p.run, point.Number}); g.turn == p.run && len(g.stops) > 0 && g.stops[0] == next {
		g.stops = g.stops[1:]
		if !g.seats[1-p.run].ended {
			g.events = append(g.events, Event{Run: p.run, Kind: Stopped, Point: point.Number})
			g.handOver(1 - p.run)
		}
	}
	s.held = true
	for g.turn != p.run && !g.free {
		g.moved.Wait()
	}
	s.held, s.slept, s.active = false, 0, machinetime.Start()
	if s.recent = append(s.recent, point.What); len(s.recent) > circling {
		s.recent = s.recent[1:]
	}
	g.events = append(g.events, Event{Run: p.run, Kind: Made, Point: point.Number})
}

// handOver gives the turn to a run; the caller holds the lock.
func (g *gate) handOver(to int) {
	g.turn = to
	g.seats[to].refused, g.seats[to].last, g.seats[to].recent = 0, "", nil
	g.seats[to].active = machinetime.Start()
	g.moved.Broadcast()
}

// enters says that a thread is in a call for a lock, leaves that the call of a point has returned.
func (p *player) enters(tid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seats[p.run].lock, p.seats[p.run].slept = tid, 0
}

func (p *player) leaves(tid int, point *Point) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.seats[p.run]
	if s.lock == tid {
		s.lock, s.slept = 0, 0
	}
	s.active = machinetime.Start()
	if what := point.What + " " + point.Error; point.Error != "" {
		if s.last != what {
			s.refused, s.last = 0, what
		}
		s.refused++
	}
}

// end says that a run has ended.
func (g *gate) end(run int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seats[run].ended = true
	g.events = append(g.events, Event{Run: run, Kind: Ended})
	if g.turn == run {
		g.handOver(1 - run)
	}
}

// watch looks for runs that wait until the gate is closed.
func (g *gate) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for range ticker.C {
		g.mu.Lock()
		if g.free {
			g.mu.Unlock()
			return
		}
		g.look()
		g.mu.Unlock()
	}
}

// look hands over if the run whose turn it is waits; the caller holds the lock.
func (g *gate) look() {
	me, other := &g.seats[g.turn], &g.seats[1-g.turn]
	for _, s := range []*seat{me, other} {
		switch {
		case s.lock != 0 && sleeps(s.lock, s.lock):
			s.slept++
		default:
			s.slept = 0
		}
	}
	if me.held || me.ended || other.ended || !me.waits() {
		g.stuckLooks = 0
		return
	}
	if other.held {
		g.events = append(g.events, Event{Run: g.turn, Kind: Waits, Point: me.at})
		g.handOver(1 - g.turn)
		return
	}
	// The other one was let go before. Either it waits, too, or it is on its way to its next point.
	if me.slept < sleptFor || other.slept < sleptFor {
		g.stuckLooks = 0
		return
	}
	if g.stuckLooks++; g.stuckLooks == 1 {
		g.stuck = machinetime.Start()
	}
	if g.stuck.Given() >= deadFor {
		g.deadlock, g.free = true, true
		g.events = append(g.events, Event{Run: g.turn, Kind: Waits, Point: me.at})
		for _, pid := range append(slices.Clone(me.processes), other.processes...) {
			_ = unix.Kill(pid, unix.SIGQUIT)
		}
		g.moved.Broadcast()
	}
}

// waits reports whether a run waits for something.
func (s *seat) waits() bool {
	if s.slept >= sleptFor || s.refused >= refusedFor || len(s.recent) == circling && kinds(s.recent) <= 3 {
		return true
	}
	if s.active.Given() < idleFor {
		return false
	}
	for _, pid := range s.processes {
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, t := range threads {
			var tid int
			_, _ = fmt.Sscan(t.Name(), &tid)
			if !sleeps(pid, tid) {
				return false
			}
		}
	}
	return true
}

// kinds returns the number of different texts.
func kinds(texts []string) int {
	seen := map[string]bool{}
	for _, t := range texts {
		seen[t] = true
	}
	return len(seen)
}

// sleeps reports whether a thread sleeps in a call that a signal may interrupt (proc_pid_stat(5)), or has ended.
func sleeps(pid, tid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if err != nil {
		return true
	}
	text := string(data)
	_, state, _ := strings.Cut(text[strings.LastIndexByte(text, ')'):], " ")
	return strings.HasPrefix(state, "S")
}
