package schedules

import (
	"fmt"

	"github.com/cnitest/cnitest/e2e/fault"
)

// orders tells schedules apart by what matters of them: which of two points in conflict comes first.
type orders struct {
	points [2][]fault.Point
	// conflicts has the indices of points that have an object in common, one of each run.
	conflicts [][2]int
	// meets has the numbers of the points in conflict, of each run.
	meets [2]map[int]bool
	seen  map[string]bool
}

// newOrders knows the two orders in which one run follows the other.
func newOrders(points [2][]fault.Point) *orders {
	o := &orders{meets: [2]map[int]bool{{}, {}}, seen: map[string]bool{}}
	for run := range points {
		o.points[run] = asTheyEnded(points[run])
		if last := len(points[run]) - 1; last >= 0 {
			held := map[string]bool{}
			for _, p := range points[run][:last] {
				hold(held, p)
			}
			o.points[run][last] = givingBack(o.points[run][last], held)
		}
	}
	for i, p := range o.points[0] {
		for j, q := range o.points[1] {
			if _, ok := fault.Conflict(p, q); ok {
				o.conflicts = append(o.conflicts, [2]int{i, j})
				o.meets[0][p.Number], o.meets[1][q.Number] = true, true
			}
		}
	}
	for first := range points {
		o.fresh(fault.Schedule{First: first})
	}
	return o
}

// fresh reports whether no schedule before this one orders the points in conflict alike.
func (o *orders) fresh(s fault.Schedule) bool {
	at, refused := o.follow(s)
	order := make([]byte, len(o.conflicts))
	for n, c := range o.conflicts {
		if at[0][c[0]] < at[1][c[1]] {
			order[n] = 1
		}
	}
	key := fmt.Sprint(string(order), refused)
	defer func() { o.seen[key] = true }()
	return !o.seen[key]
}

// follow returns when each point is made under a schedule, if the runs make no other calls than those that are known. A
// run that asks for a lock of the other one hands over, as in fault.Interleave. Points that are never made, since both
// wait, come last. A run may also end if it is refused a lock, and not wait.
func (o *orders) follow(s fault.Schedule) (at [2][]int, refused []fault.Stop) {
	var next [2]int
	held := [2]map[string]bool{{}, {}}
	turn, stops := s.First, s.Stops
	ended := func(run int) bool { return next[run] == len(o.points[run]) }
	for run := range at {
		at[run] = make([]int, len(o.points[run]))
		for i := range at[run] {
			at[run][i] = len(o.points[0]) + len(o.points[1])
		}
	}
	for now := 0; !ended(0) || !ended(1); {
		if ended(turn) {
			clear(held[turn])
			turn = 1 - turn
			continue
		}
		p, other := o.points[turn][next[turn]], 1-turn
		if len(stops) > 0 && stops[0] == (fault.Stop{Run: turn, Point: p.Number}) {
			stops = stops[1:]
			if !ended(other) {
				turn = other
				continue
			}
		}
		if asksFor(p, held[other]) && !ended(other) {
			if asksFor(o.points[other][next[other]], held[turn]) {
				break // a deadlock
			}
			if p.Look == fault.LookTryLock {
				refused = append(refused, fault.Stop{Run: turn, Point: p.Number})
			}
			turn = other
			continue
		}
		hold(held[turn], p)
		at[turn][next[turn]] = now
		next[turn]++
		now++
	}
	return at, refused
}
