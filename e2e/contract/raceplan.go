package contract

import (
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/fault"
)

// candidate is a schedule that may be tried. The lower the rank, the more it promises.
type candidate struct {
	fault.Schedule
	rank int
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
			case !writes(p, touch):
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
			changes := func(q fault.Point) bool { return writes(q, touch) }
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
	i := slices.IndexFunc(points, func(p fault.Point) bool {
		return strings.HasPrefix(p.What, "lock") && slices.ContainsFunc(p.Touches, func(t fault.Touch) bool {
			return t.Kind == "lock" && held[t.Name]
		})
	})
	if i < 0 {
		return len(points)
	}
	return i + 1
}

// writes reports whether a point changes an object.
func writes(p fault.Point, touch fault.Touch) bool {
	return slices.ContainsFunc(p.Touches, func(t fault.Touch) bool { return t.Write && t.Same(touch) })
}

// candidates returns the schedules with one stop, and those with two if deep, for the points of both runs. Two calls
// that are alike need only one to be stopped.
func candidates(points [2][]fault.Point, alike, deep bool) []candidate {
	var list []candidate
	for run := range points {
		if run == 1 && alike {
			continue
		}
		mine, ranks := stops(points[run], points[1-run])
		for i, p := range mine {
			one := fault.Schedule{First: run, Stops: []fault.Stop{{Run: run, Point: p.Number}}}
			list = append(list, candidate{one, ranks[i]})
		}
		if deep {
			list = append(list, twoStops(points, run, mine)...)
		}
	}
	return list
}

// twoStops returns the schedules with two stops: one run up to a point of mine, the other one up to a point, the first
// to its end, the other one to its end. A schedule is left out if it is another one, since what lies before a stop has
// nothing in common with what it would have to change places with. So is one whose other run waits for a lock before
// its stop.
func twoStops(points [2][]fault.Point, run int, mine []fault.Point) (list []candidate) {
	ones, others := asTheyEnded(points[run]), asTheyEnded(points[1-run])
	// meets[i][j] is the number of conflicts among the first i and the first j points.
	meets := make([][]int, len(ones)+1)
	meets[0] = make([]int, len(others)+1)
	for i, p := range ones {
		meets[i+1] = make([]int, len(others)+1)
		for j, q := range others {
			meets[i+1][j+1] = meets[i][j+1] + meets[i+1][j] - meets[i][j]
			if _, ok := fault.Conflict(p, q); ok {
				meets[i+1][j+1]++
			}
		}
	}
	held, past := map[string]bool{}, 0
	for _, p := range mine {
		k := p.Number - 1
		for ; past < k; past++ {
			hold(held, ones[past])
		}
		for m := range untilLock(others, held) {
			later := func(j int) int { return meets[len(ones)][j] - meets[k][j] }
			if meets[k][m] == 0 || later(m) == 0 || later(m+1) == later(m) {
				continue
			}
			list = append(list, candidate{fault.Schedule{First: run, Stops: []fault.Stop{
				{Run: run, Point: p.Number}, {Run: 1 - run, Point: m + 1},
			}}, elsewhere + 1})
		}
	}
	return list
}

// sample returns at most as many candidates, those with the lowest ranks; the seed decides among equals.
func sample(all []candidate, most int, seed uint64) []candidate {
	rankBy(all, seed, func(c candidate) int { return c.rank })
	return all[:min(most, len(all))]
}
