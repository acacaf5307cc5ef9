package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Schedule says how two runs take turns. One runs at a time: First until it comes to the point of the first stop, then
// the other one until it comes to the point of the next stop, and so on. Whoever ends or waits for the other one hands
// over, too.
type Schedule struct {
	// First is the run that begins, 0 or 1.
	First int `json:"first"`
	// Stops are made in their order, each before the call of its point. One that a run does not come to is not made,
	// and neither are those after it.
	Stops []Stop `json:"stops,omitempty"`
}

// Stop is the place at which a run is stopped.
type Stop struct {
	// Run is 0 or 1, Point the number of one of its points.
	Run   int `json:"run"`
	Point int `json:"point"`
}

// Interleaving is what two runs did under a schedule.
type Interleaving struct {
	// Runs are the two runs. Their points include reads and locks, and have their Touches.
	Runs [2]Trace `json:"runs"`
	// Events are what happened, in its order.
	Events []Event `json:"events"`
	// Deadlock means that each waited for a lock of the other one. Both were ended by SIGQUIT, on which programs in Go
	// print their stacks.
	Deadlock bool `json:"deadlock,omitempty"`
}

// Event is one step of an interleaving.
type Event struct {
	Run  int       `json:"run"`
	Kind EventKind `json:"kind"`
	// Point is the number of the run's point; 0 for the end of a run.
	Point int `json:"point,omitempty"`
}

// EventKind is the kind of an event.
type EventKind string

// These are the kinds of events.
const (
	// Made is a call at a point that was let go.
	Made EventKind = "made"
	// Stopped is a stop of the schedule before a point.
	Stopped EventKind = "stopped"
	// Waits is a call of a point that does not return, or fails again and again, until the other run goes on.
	Waits EventKind = "waits"
	// Ended is the end of a run.
	Ended EventKind = "ended"
)

func (s Schedule) validate() error {
	if s.First != 0 && s.First != 1 {
		return fmt.Errorf("fault: want a run 0 or 1 to begin, got %d", s.First)
	}
	for _, stop := range s.Stops {
		if stop.Run != 0 && stop.Run != 1 || stop.Point < 1 {
			return fmt.Errorf("fault: want a stop of run 0 or 1 at a point from 1 on, got %d at %d", stop.Run,
				stop.Point)
		}
	}
	return nil
}

// Interleave runs two plugins at the same time under a schedule. Besides the points of Observe there are points at
// which a program looks at what others may change: netlink requests that only read, files that it opens, reads, lists
// or examines, and locks. Other errors are those of Observe.
//
// A run waits if its call for a lock of a file (flock, fcntl) sleeps, if it gets the same error at the same point
// again and again, or if for some seconds all of its threads sleep in other calls. It then hands over, and goes on when
// the other one ends or waits.
func Interleave(ctx context.Context, commands [2]Command, schedule Schedule) (Interleaving, error) {
	var result Interleaving
	if err := schedule.validate(); err != nil {
		return result, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := newGate(ctx, schedule)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		g.watch()
	}()
	var errs [2]error
	var both sync.WaitGroup
	for n := range commands {
		both.Go(func() {
			defer g.end(n)
			seat := &player{gate: g, run: n}
			result.Runs[n], errs[n] = run(ctx, commands[n], task{player: seat})
			if errs[n] != nil {
				cancel()
			}
		})
	}
	both.Wait()
	g.close()
	<-watched
	result.Events, result.Deadlock = g.events, g.deadlock
	return result, errors.Join(errs[:]...)
}
