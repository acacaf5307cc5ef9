package contract

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// oneAfterTheOther calls the two in both orders, and records what is then the case.
func (l *raceLane) oneAfterTheOther(ctx context.Context) error {
	for first := range l.verbs {
		e, err := l.meet(ctx, fault.Schedule{First: first})
		if err != nil {
			return err
		}
		l.points[first] = e.got.Runs[first].Points
		now, err := l.state(ctx, l.everybody()...)
		if err != nil {
			return err
		}
		l.whole[first] = l.certain(l.news(snapshot.Diff(l.clean, now)))
		if err := errors.Join(l.lookAround(ctx, e, first), l.release(ctx, e)); err != nil {
			return err
		}
		if len(e.wrongs) == 0 {
			continue
		}
		return unfitError("one after the other: " + e.wrongs[0])
	}
	return nil
}

// lookAround finds out what works after one call and then the other.
func (l *raceLane) lookAround(ctx context.Context, e *encounter, first int) (err error) {
	if l.failed[first], err = l.check(ctx, e); err != nil {
		return err
	}
	l.shares = l.shares || shared(e.attached) != ""
	var all []reach
	for _, to := range e.attached {
		all = append(all, reach{nil, to})
		for _, from := range e.attached {
			if from.netns != to.netns {
				all = append(all, reach{from, to})
			}
		}
	}
	silent, err := l.ask(ctx, all, false)
	for _, r := range all {
		if !slices.Contains(silent, r) && !slices.Contains(l.reached, r) {
			l.reached = append(l.reached, r)
		}
	}
	return err
}

// checks reports whether CHECK passes after some order.
func (l *raceLane) checks() bool { return l.failed[0] == "" || l.failed[1] == "" }

// agree compares the two orders: what one of them leaves, the other one must leave, too. It returns an order that lacks
// something; nil if neither does.
func (l *raceLane) agree(ctx context.Context) (*encounter, error) {
	for first := range l.verbs {
		missing := l.inAnyOrder(lacking(l.whole[1-first], l.whole[first]))
		if len(missing) == 0 && (l.failed[first] == "" || !l.checks()) {
			continue
		}
		e, err := l.meet(ctx, fault.Schedule{First: first})
		if err != nil {
			return nil, err
		}
		err = l.compare(ctx, e, l.whole[1-first])
		if err == nil && l.checks() {
			var failed string
			if failed, err = l.check(ctx, e); failed != "" {
				e.wrong("%s", failed)
			}
		}
		if err := errors.Join(err, l.release(ctx, e)); err != nil || len(e.wrongs) > 0 {
			return e, err
		}
	}
	return nil, nil
}

// inAnyOrder returns the changes that must be there after either order. Routes of a pod with two interfaces are none of
// them: which interface they prefer depends on which came first.
func (l *raceLane) inAnyOrder(changes []snapshot.Change) []snapshot.Change {
	return slices.DeleteFunc(changes, func(c snapshot.Change) bool {
		return l.pairs == twoInterfaces && c.Item.Kind == snapshot.Route && c.Item.Scope == l.pods[0].name
	})
}

// shared returns an address that two pods have; empty if there is none.
func shared(pods []*pod) string {
	owners := map[netip.Addr]*pod{}
	for _, p := range pods {
		for _, addr := range addresses(p) {
			if other := owners[addr]; other != nil && other != p {
				return addr.String()
			}
			owners[addr] = p
		}
	}
	return ""
}

// check calls CHECK of all that are attached, and returns what the first that fails says; empty if all pass.
func (l *raceLane) check(ctx context.Context, e *encounter) (string, error) {
	if !atLeast(l.version, "0.4.0") {
		return "", nil
	}
	for _, p := range e.attached {
		on := l.bench
		if p == l.pods[1] {
			on = l.on[1]
		}
		call, err := on.call(ctx, cni.Check, p)
		if err != nil {
			return "", err
		}
		e.later = append(e.later, call)
		if call.ExitCode != 0 {
			return fmt.Sprintf("CHECK of %s %s: %s", p.name, p.ifName, summary(call)), nil
		}
	}
	return "", nil
}

// release deletes what is attached, except for the third pod, and compares the node with what it was.
func (l *raceLane) release(ctx context.Context, e *encounter) (err error) {
	for i, verb := range l.verbs {
		if verb == cni.Status || verb == cni.Del && e.got.Runs[i].Call.ExitCode == 0 {
			continue
		}
		call, err := l.on[i].call(ctx, cni.Del, l.pods[i])
		if err != nil {
			return err
		}
		e.later = append(e.later, call)
		if call.ExitCode != 0 {
			e.wrong("then DEL of %s %s: want success, got %s", l.pods[i].name, l.pods[i].ifName, summary(call))
		}
	}
	ctx, cancel := machinetime.WithTimeout(ctx, restless)
	defer cancel()
	e.left, err = snapshot.Settle(ctx, func(ctx context.Context) (snapshot.State, error) {
		return l.state(ctx, l.everybody()...)
	}, l.clean, l.news)
	if err == nil && len(e.left) > 0 {
		e.wrong("in the end something is left: %s", first(e.left))
	}
	return err
}

// inspect compares what is the case after a schedule with what is after one call and then the other.
func (l *raceLane) inspect(ctx context.Context, e *encounter) error {
	switch {
	case e.got.Deadlock:
		e.wrong("each waits for a lock that the other one holds")
		return nil
	case e.got.Runs[0].Hung || e.got.Runs[1].Hung:
		e.wrong("they do not come to an end")
		return nil
	case len(e.wrongs) > 0:
		return nil // what failed has its own words for it
	}
	if err := l.compare(ctx, e, l.whole[0], l.whole[1]); err != nil {
		return err
	}
	if addr := shared(e.attached); addr != "" && !l.shares && l.pairs != twoNetworks {
		e.wrong("two pods have the address %s", addr)
	}
	if l.checks() {
		failed, err := l.check(ctx, e)
		if err != nil {
			return err
		}
		if failed != "" {
			e.wrong("%s", failed)
		}
	}
	if l.pairs == twoNetworks && shared(e.attached) != "" {
		return nil // each network gives its addresses as it likes
	}
	silent, err := l.ask(ctx, l.reached, true)
	if len(silent) > 0 {
		e.wrong("no answer from %s, which there is after one call and then the other", silent[0])
	}
	return err
}

// certain returns the changes that do not depend on which address a pod gets. With a daemon, that decides about rules
// and routes.
func (b *bench) certain(changes []snapshot.Change) []snapshot.Change {
	if b.subject.lab.Request.Target.GivenDaemon() == nil {
		return changes
	}
	return slices.DeleteFunc(slices.Clone(changes), func(c snapshot.Change) bool {
		return c.Item.Kind != snapshot.Link
	})
}

// compare looks for what is missing after each of the orders. Some things come only a moment after a call.
func (l *raceLane) compare(ctx context.Context, e *encounter, orders ...[]snapshot.Change) error {
	for interval := machinetime.Start(); ; {
		now, err := l.state(ctx, l.everybody()...)
		if err != nil {
			return err
		}
		e.changes = l.certain(l.news(snapshot.Diff(l.clean, now)))
		missing := lacking(orders[0], e.changes)
		for _, whole := range orders[1:] {
			if other := lacking(whole, e.changes); len(other) < len(missing) {
				missing = other
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if interval.Given() > 2*snapshot.Quiet {
			item := missing[0].Item
			e.wrong("%s %s is missing%s, which is there after one call and then the other", item.Kind, item.Name,
				place(missing[0]))
			return nil
		}
		if err := timing.Sleep(ctx, snapshot.Quiet/5); err != nil {
			return err
		}
	}
}

// try tries one schedule. The lane is not fit for another one if something is wrong.
func (l *raceLane) try(ctx context.Context, schedule fault.Schedule) (*encounter, error) {
	e, err := l.meet(ctx, schedule)
	if err != nil {
		return nil, err
	}
	return e, errors.Join(l.inspect(ctx, e), l.release(ctx, e))
}

// followed reports whether the stops of a schedule were made where they were planned.
func (l *raceLane) followed(e *encounter) bool {
	made := 0
	for _, event := range e.got.Events {
		if event.Kind != fault.Stopped {
			continue
		}
		planned, got := l.points[event.Run], e.got.Runs[event.Run].Points
		if made == 0 && (event.Point > len(planned) || !planned[event.Point-1].Like(got[event.Point-1])) {
			return false
		}
		made++
	}
	return made == len(e.Stops)
}
