// Package schedules says which schedules of two runs matter: those that differ in which of two calls comes first that
// have an object in common. It knows nothing of plugins but the points that they came to.
//
// Run its tests: go test ./e2e/contract/schedules
package schedules

import (
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/fault"
)

// Candidate is a schedule that may be tried. The lower the rank, the more it promises.
type Candidate struct {
	fault.Schedule
	Rank int
}

// These are the ranks.
const (
	// useAfterLook stops between a look at something that the other one changes and the change of it, or between two
	// locks that the other one takes in another order.
	useAfterLook = iota
	// halfChanged stops between two changes of something that the other one looks at.
	halfChanged
	// afterLook stops after a look at something that the other one changes.
	afterLook
	// elsewhere stops at another place at which the order matters.
	elsewhere
)

// stops returns the points of one run before which a stop for the other one gives an order of calls that is not that of
// another stop, each with its rank. Two points whose objects are different can change places, so that a stop matters
// only before a point that has an object in common with one of the other run, and not before the first of them: that is
// one run after the other. While a run holds a lock, the other one comes no further than its own lock.
func stops(mine, others []fault.Point) (list []fault.Point, ranks []int) {
	mine, others = asTheyEnded(mine), asTheyEnded(others)
	var looked, changed []fault.Touch // what the other one changes, and what this one has changed
	held := map[string]bool{}
	first := true
	for i, p := range mine {
		if i == len(mine)-1 {
			p = givingBack(p, held)
		}
		reached := others[:untilLock(others, held)]
		rank, matters := elsewhere, false
		for _, q := range reached {
			touch, ok := fault.Conflict(p, q)
			if !ok {
				continue
			}
			matters = true
			if len(looked) > 0 {
				rank = min(rank, afterLook)
			}
			switch {
			case touch.Kind == "lock" && len(held) > 0 && !held[touch.Name] && strings.HasPrefix(p.What, "lock"):
				rank = useAfterLook
			case !Writes(p, touch):
			case slices.ContainsFunc(looked, touch.Same):
				rank = useAfterLook
			case slices.ContainsFunc(changed, touch.Same):
				rank = min(rank, halfChanged)
			}
		}
		if matters && !first {
			list, ranks = append(list, p), append(ranks, rank)
		}
		first = first && !matters
		for _, touch := range p.Touches {
			changes := func(q fault.Point) bool { return Writes(q, touch) }
			if touch.Kind != "lock" && slices.ContainsFunc(others, changes) {
				looked = append(looked, touch)
			}
			if touch.Write && touch.Kind != "lock" {
				changed = append(changed, touch)
			}
		}
		hold(held, p)
	}
	return list, ranks
}

// asTheyEnded returns points without the changes that failed: these only looked.
func asTheyEnded(points []fault.Point) []fault.Point {
	points = slices.Clone(points)
	for i, p := range points {
		if p.Error == "" {
			continue
		}
		points[i].Touches = slices.Clone(p.Touches)
		for j := range p.Touches {
			points[i].Touches[j].Write = p.Touches[j].Kind == "lock"
		}
	}
	return points
}

// hold notes that a point takes a lock or gives it back.
func hold(held map[string]bool, p fault.Point) {
	for _, touch := range p.Touches {
		switch {
		case touch.Kind != "lock" || p.Error != "":
		case strings.HasPrefix(p.What, "unlock"):
			delete(held, touch.Name)
		case !strings.HasPrefix(p.What, "lock shared"):
			held[touch.Name] = true
		}
	}
}

// givingBack returns the last point of a run, whose end gives all locks back.
func givingBack(last fault.Point, held map[string]bool) fault.Point {
	last.Touches = slices.Clone(last.Touches)
	for name := range held {
		last.Touches = append(last.Touches, fault.Touch{Kind: "lock", Name: name, Write: true})
	}
	return last
}

// untilLock returns the number of points up to the first one at which a run asks for a lock that is held.
func untilLock(points []fault.Point, held map[string]bool) int {
	i := slices.IndexFunc(points, func(p fault.Point) bool { return asksFor(p, held) })
	if i < 0 {
		return len(points)
	}
	return i + 1
}

// asksFor reports whether a point asks for a lock that is held. One that does not wait is tried again by most programs.
func asksFor(p fault.Point, held map[string]bool) bool {
	return strings.HasPrefix(p.What, "lock") && slices.ContainsFunc(p.Touches, func(t fault.Touch) bool {
		return t.Kind == "lock" && held[t.Name]
	})
}

// Writes reports whether a point changes an object.
func Writes(p fault.Point, touch fault.Touch) bool {
	return slices.ContainsFunc(p.Touches, func(t fault.Touch) bool { return t.Write && t.Same(touch) })
}

// Of returns the schedules with one stop, and those with two if deep, for the points of both runs, without those that
// order the calls as another one does. Two calls that are alike need only one to be stopped.
func Of(points [2][]fault.Point, alike, deep bool) (list []Candidate) {
	seen := newOrders(points)
	add := func(rank int, stops ...fault.Stop) {
		if one := (fault.Schedule{First: stops[0].Run, Stops: stops}); seen.fresh(one) {
			list = append(list, Candidate{one, rank})
		}
	}
	var mine [2][]fault.Point
	for run := range points {
		if run == 1 && alike {
			continue
		}
		var ranks []int
		mine[run], ranks = stops(points[run], points[1-run])
		for i, p := range mine[run] {
			add(ranks[i], fault.Stop{Run: run, Point: p.Number})
		}
	}
	if !deep {
		return list
	}
	for run := range mine {
		for _, p := range mine[run] {
			for _, q := range points[1-run] {
				if seen.meets[1-run][q.Number] {
					add(elsewhere+1, fault.Stop{Run: run, Point: p.Number}, fault.Stop{Run: 1 - run, Point: q.Number})
				}
			}
		}
	}
	return list
}
