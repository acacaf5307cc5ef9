package contract

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/contract/schedules"
	"github.com/cnitest/cnitest/e2e/fault"
)

// schedulesTried is the number of schedules that a run tries for each setting, unless it is deep.
const schedulesTried = 6

// race tries schedules of two verbs.
func (t *trial) race(ctx context.Context, verbs [2]cni.Verb) error {
	explored := &t.subject.lab.Exploration
	all := settings(verbs, explored.Deep)
	var replayed []schedules.Candidate
	if explored.Replay != nil {
		s, schedule, err := parseSchedule(t.requirement.ID, explored.Replay.one)
		if err != nil {
			return err
		}
		all, replayed = []setting{s}, []schedules.Candidate{{Schedule: schedule}}
	}
	count := t.newTally("schedules", 0)
	count.later = len(all)
	var mu sync.Mutex
	var reasons []string // why a setting is not fit
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(t.subject.lab.limit(2))
	for _, s := range all {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			count.begins()
			err := t.raceIn(ctx, s, replayed, count)
			var unfit unfitError
			if errors.As(err, &unfit) {
				mu.Lock()
				defer mu.Unlock()
				reasons = append(reasons, fmt.Sprintf("%s: %v", s.describe(), unfit))
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(reasons) > 0 && len(reasons) == len(all) {
		return errors.New(reasons[0])
	}
	for _, reason := range reasons {
		t.note("%s", reason)
	}
	if explored.Replay == nil {
		t.note("%d of %d schedules tried, %d of them not followed, seed %d", count.tried, count.planned, count.strayed,
			explored.Seed)
	}
	return nil
}

// raceIn tries schedules in one setting: those that are replayed, or some or all.
func (t *trial) raceIn(ctx context.Context, s setting, chosen []schedules.Candidate, count *tally) error {
	explored := &t.subject.lab.Exploration
	l, err := t.raceLane(ctx, s)
	if err != nil {
		return err
	}
	if e, err := l.agree(ctx); err != nil || e != nil {
		if e != nil {
			l.report(e)
		}
		return err
	}
	if chosen == nil {
		all := schedules.Of(l.points, s.verbs[0] == s.verbs[1] && s.pairs == twoPods, explored.Deep)
		rankBy(all, explored.Seed, func(c schedules.Candidate) int { return c.Rank })
		chosen = all
		if !explored.Deep {
			chosen = all[:min(schedulesTried, len(all))]
		}
		count.plans(len(all))
	}
	failed := 0
	for _, c := range chosen {
		if l == nil {
			if l, err = t.raceLane(ctx, s); err != nil {
				return err
			}
		}
		e, err := l.follow(ctx, c.Schedule)
		if err != nil {
			return fmt.Errorf("%s: %w", t.token(s.code(c.Schedule)), err)
		}
		if !l.followed(e) {
			count.strays()
			if explored.Replay != nil && len(e.wrongs) == 0 {
				return explored.Replay.lost()
			}
		}
		count.tells(t, len(e.wrongs) > 0)
		if len(e.wrongs) == 0 {
			continue
		}
		l.report(e)
		if failed++; failed >= evidenceShown {
			break
		}
		_ = l.cluster.Close()
		l = nil
	}
	return nil
}

// follow tries a schedule, again if the calls took another way: a call that talks to a daemon does not always make the
// same calls.
func (l *raceLane) follow(ctx context.Context, schedule fault.Schedule) (e *encounter, err error) {
	for range 3 {
		if e, err = l.try(ctx, schedule); err != nil || len(e.wrongs) > 0 || l.followed(e) {
			break
		}
	}
	return e, err
}
