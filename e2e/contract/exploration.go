package contract

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Cases says what a requirement tries, if it tries many cases.
type Cases string

// These are the kinds of cases. Each is the label of the requirements that try it.
const (
	// Faults kill or fail a plugin at each call by which it changes something.
	Faults Cases = "faults"
	// BadReads give bad answers to a plugin that only looks.
	BadReads Cases = "reads"
	// Sequences are a few verbs in a row.
	Sequences Cases = "sequences"
	// Schedules are two calls that take turns.
	Schedules Cases = "schedules"
	// PowerCuts are disks that a power cut may leave.
	PowerCuts Cases = "power"
)

// Sweeps reports whether the requirement tries many cases, which takes time.
func (r *Requirement) Sweeps() bool { return r.Cases != "" }

// Sampled reports whether a plain run tries only some of the requirement's cases, chosen by the seed.
func (r *Requirement) Sampled() bool { return r.Sweeps() && r.Cases != Faults }

// Exploration says which cases requirements try that have many. The zero value chooses some.
type Exploration struct {
	// Deep tries all cases: schedules also with two stops and on every kind of pair.
	Deep bool
	// Seed chooses the cases if not all are tried.
	Seed uint64
	// Replay is the only case that is tried; nil tries others.
	Replay *Token
	// Tell is told how far Deep has come, Stopped how far its requirements had come when a run is stopped;
	// nil tells nobody.
	Tell, Stopped func(text string)
}

// choose returns the cases that a run tries: the one of a token, all, or what some returns.
func choose[T any](explored *Exploration, all []T, code func(T) string, some func() []T) ([]T, error) {
	switch {
	case explored.Replay != nil:
		return pick(explored.Replay, all, code)
	case explored.Deep:
		return all, nil
	}
	return some(), nil
}

// rankBy sorts cases by their ranks, the lowest first; the seed decides among equals.
func rankBy[T any](all []T, seed uint64, rank func(T) int) {
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b T) int { return cmp.Compare(rank(a), rank(b)) })
}

// tellEvery is how often a deep run says how far it has come.
const tellEvery = 10 * time.Second

// tally counts the cases of a requirement.
type tally struct {
	mu sync.Mutex
	// strayed are schedules that the calls did not follow; later are settings that have not begun, whose schedules are
	// not counted yet.
	planned, tried, failed, strayed, later int

	begin, told time.Time
	what        string // schedules, power cuts
}

// newTally returns a tally of so many cases, which is the trial's.
func (t *trial) newTally(what string, planned int) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally = &tally{what: what, planned: planned, begin: time.Now(), told: time.Now()}
	return t.tally
}

// failures returns how many failed.
func (c *tally) failures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// plans adds cases that will be tried.
func (c *tally) plans(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.planned += n
}

// begins counts a setting that begins.
func (c *tally) begins() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.later--
}

// strays counts a schedule that the calls did not follow.
func (c *tally) strays() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strayed++
}

// tells counts a case, and says now and then how far a deep run has come.
func (c *tally) tells(t *trial, failed bool) {
	explored := &t.subject.lab.Exploration
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried++
	if failed {
		c.failed++
	}
	if !explored.Deep || explored.Tell == nil || time.Since(c.told) < tellEvery {
		return
	}
	c.told = time.Now()
	left := time.Since(c.begin) / time.Duration(c.tried) * time.Duration(max(0, c.planned-c.tried))
	text := fmt.Sprintf("%s: %s, about %s left", t.name(), c.sofar(), left.Round(time.Second))
	if c.later > 0 {
		text += fmt.Sprintf(", then %d more pairs and nodes", c.later)
	}
	explored.Tell(text)
}

// sofar says how many cases were tried. c.mu is held.
func (c *tally) sofar() string {
	return fmt.Sprintf("%d of %d %s, %d failed", c.tried, c.planned, c.what, c.failed)
}

// stops tells how far the trial had come when the run ended.
func (t *trial) stops() {
	explored := &t.subject.lab.Exploration
	t.mu.Lock()
	c := t.tally
	t.mu.Unlock()
	if c == nil || !explored.Deep || explored.Stopped == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf("%s was stopped after %s", t.name(), c.sofar())
	if c.later > 0 {
		text += fmt.Sprintf(", with %d more pairs and nodes to come", c.later)
	}
	explored.Stopped(text)
}

// name returns the requirement and the plugin.
func (t *trial) name() string { return t.requirement.ID + " of " + t.subject.Type }
