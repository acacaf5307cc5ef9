// Package timing measures what the time of a scenario or a requirement goes to: making the lab, calls of the plugins,
// probes, snapshots, and waits.
//
// Run its tests: go test ./e2e/internal/timing
package timing

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

// The phases. Several of one unit may run at the same time.
const (
	Lab      = "lab"       // a cluster starts or ends, and nodes are prepared
	Calls    = "calls"     // plugins run, as a runtime calls them
	Traced   = "traced"    // plugins run under the tracer, to fail, to kill or to explain them
	Traffic  = "traffic"   // probes, flows and captures, with what they wait for
	Snapshot = "snapshots" // the state of a node is read, to compare it
	Daemons  = "daemons"   // daemons of the target start and end
	Wait     = "waits"     // a time passes that a scenario or a requirement prescribes
	Other    = "other"     // other requests to nodes
	Suite    = "itself"    // nothing of these: the suite computes, or waits for its turn
)

// Book has the times of one unit. Its methods may be called concurrently.
type Book struct {
	name  string
	begin time.Time
	now   func() time.Time

	mu     sync.Mutex
	spent  map[string]time.Duration
	count  map[string]int
	active int
	// idleSince is when the last phase ended, if active is 0.
	idleSince time.Time
	idle, all time.Duration
}

type bookKey struct{}

type withinKey struct{}

// With returns a context whose phases are kept in a new book.
func With(ctx context.Context, name string) (context.Context, *Book) {
	b := newBook(name, time.Now)
	return context.WithValue(ctx, bookKey{}, b), b
}

func newBook(name string, now func() time.Time) *Book {
	at := now()
	return &Book{
		name: name, begin: at, idleSince: at, now: now, spent: map[string]time.Duration{}, count: map[string]int{},
	}
}

// Begin notes that a phase begins, and returns the function that ends it. What begins with the returned context belongs
// to this phase, and is not counted again. Without a book it does nothing.
func Begin(ctx context.Context, phase string) (inner context.Context, end func()) {
	b, _ := ctx.Value(bookKey{}).(*Book)
	if b == nil || ctx.Value(withinKey{}) != nil {
		return ctx, func() {}
	}
	return context.WithValue(ctx, withinKey{}, true), b.enter(phase)
}

// Sleep waits for a time that the kernel or a protocol prescribes, where no event tells when it is over. It is the
// phase Wait.
func Sleep(ctx context.Context, d time.Duration) error {
	_, end := Begin(ctx, Wait)
	defer end()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Close closes something, as a phase.
func Close(ctx context.Context, phase string, c io.Closer) error {
	_, end := Begin(ctx, phase)
	defer end()
	return c.Close()
}

func (b *Book) enter(phase string) (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	begin := b.now()
	if b.active == 0 {
		b.idle += begin.Sub(b.idleSince)
	}
	b.active++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		at := b.now()
		b.spent[phase] += at.Sub(begin)
		b.count[phase]++
		b.active--
		b.idleSince = at
	}
}

// End ends the unit.
func (b *Book) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.now()
	if b.active == 0 {
		b.idle += at.Sub(b.idleSince)
		b.idleSince = at
	}
	b.all = at.Sub(b.begin)
}

// Spent is what went to one phase.
type Spent struct {
	Phase string
	Time  time.Duration
	// Count is how often it began.
	Count int
}

// Summary has the times of a unit.
type Summary struct {
	Name string
	Wall time.Duration
	// Phases are in the order of their times, the longest first. They may be longer than Wall together.
	Phases []Spent
}

// Summary returns the times of a unit that has ended.
func (b *Book) Summary() Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Summary{Name: b.name, Wall: b.all, Phases: []Spent{{Suite, b.idle, 1}}}
	for phase, t := range b.spent {
		s.Phases = append(s.Phases, Spent{phase, t, b.count[phase]})
	}
	order(s.Phases)
	return s
}

// Sum adds the times of several units.
func Sum(units []Summary) Summary {
	all := Summary{}
	byPhase := map[string]Spent{}
	for _, u := range units {
		all.Wall += u.Wall
		for _, p := range u.Phases {
			sum := byPhase[p.Phase]
			byPhase[p.Phase] = Spent{p.Phase, sum.Time + p.Time, sum.Count + p.Count}
		}
	}
	for _, p := range byPhase {
		all.Phases = append(all.Phases, p)
	}
	order(all.Phases)
	return all
}

func order(phases []Spent) {
	slices.SortFunc(phases, func(a, b Spent) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Phase, b.Phase))
	})
}
