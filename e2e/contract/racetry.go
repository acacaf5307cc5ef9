package contract

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

const (
	// schedulesTried is the number of schedules that a run tries for each setting, unless it is deep.
	schedulesTried = 6
	// tellEvery is how often a deep run says how far it has come.
	tellEvery = 10 * time.Second
)

// tally counts the schedules or disks of a requirement.
type tally struct {
	mu                              sync.Mutex
	planned, tried, failed, strayed int
	unfit                           []string
	begin, told                     time.Time
	what                            string // schedules, power cuts
}

// failures returns how many failed.
func (c *tally) failures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// race tries schedules of two verbs.
func (t *trial) race(ctx context.Context, verbs [2]cni.Verb) error {
	races := &t.subject.lab.Races
	if races.Replay != nil && races.Replay.Plugin() != t.subject.Type {
		return notApplicable("the schedule is one of %s", races.Replay.Plugin())
	}
	settings := races.settings(verbs)
	count := &tally{begin: time.Now(), told: time.Now(), what: "schedules"}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(t.subject.lab.limit(2))
	for _, s := range settings {
		group.Go(func() error {
			err := t.raceIn(ctx, s, count)
			var unfit unfitError
			if errors.As(err, &unfit) {
				count.mu.Lock()
				defer count.mu.Unlock()
				count.unfit = append(count.unfit, fmt.Sprintf("%s: %v", s.describe(), unfit))
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(count.unfit) > 0 && len(count.unfit) == len(settings) {
		return errors.New(count.unfit[0])
	}
	for _, reason := range count.unfit {
		t.note("%s", reason)
	}
	if races.Replay == nil {
		t.note("%d of %d schedules tried, seed %d", count.tried, count.planned, races.Seed)
	}
	return nil
}

// raceIn tries schedules in one setting.
func (t *trial) raceIn(ctx context.Context, s setting, count *tally) error {
	races := &t.subject.lab.Races
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
	chosen := []candidate{}
	if races.Replay != nil {
		chosen = append(chosen, candidate{Schedule: races.Replay.schedule})
	} else {
		all := candidates(l.points, s.verbs[0] == s.verbs[1] && s.pairs == twoPods, races.Deep)
		most := schedulesTried
		if races.Deep {
			most = len(all)
		}
		chosen = sample(all, most, races.Seed)
		count.mu.Lock()
		count.planned += len(all)
		count.mu.Unlock()
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
			return fmt.Errorf("%s: %w", &Token{plugin: t.subject.Type, setting: s, schedule: c.Schedule}, err)
		}
		count.tells(races, t, l.followed(e), len(e.wrongs) > 0)
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

// tells counts a schedule or disk, and says now and then how far a deep run has come.
func (c *tally) tells(races *Races, t *trial, followed, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried++
	if !followed {
		c.strayed++
	}
	if failed {
		c.failed++
	}
	if !races.Deep || races.Tell == nil || time.Since(c.told) < tellEvery {
		return
	}
	c.told = time.Now()
	left := time.Since(c.begin) / time.Duration(c.tried) * time.Duration(max(0, c.planned-c.tried))
	races.Tell(fmt.Sprintf("%s of %s: %d of %d %s, %d failed, about %s left", t.requirement.ID, t.subject.Type,
		c.tried, c.planned, c.what, c.failed, left.Round(time.Second)))
}
