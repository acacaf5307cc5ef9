package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

const (
	// Quiet is how long a difference must stay the same to count as final: the kernel and dying processes need a moment
	// to clean up. It is time that the machine gave.
	Quiet = 250 * time.Millisecond
	// poll is how long Settle waits after the first snapshot. It waits twice as long after each other one with the same
	// difference: what dies is mostly gone at the second look, and what stays need not be looked at a dozen times.
	poll = 20 * time.Millisecond
)

// Settle repeatedly compares what take returns with before, until there is no difference, until the difference has not
// changed for the time Quiet, or until ctx ends. It returns the last difference. If beyond is not nil, only the part of
// a difference that it returns counts. The end of ctx is an error only if there is no difference to return yet.
func Settle(
	ctx context.Context, take func(context.Context) (State, error), before State, beyond func([]Change) []Change,
) ([]Change, error) {
	wait := poll
	var since machinetime.Interval
	var changes []Change
	looked := false
	for {
		after, err := take(ctx)
		switch {
		case err != nil && ctx.Err() != nil && looked:
			return changes, nil
		case err != nil:
			return nil, err
		}
		latest := Diff(before, after)
		if beyond != nil {
			latest = beyond(latest)
		}
		if len(latest) == 0 {
			return nil, nil
		}
		if !looked || !slices.Equal(latest, changes) {
			changes, since, looked, wait = latest, machinetime.Start(), true, poll
		}
		if since.Given() >= Quiet {
			return changes, nil
		}
		select {
		case <-ctx.Done():
			return changes, nil
		case <-time.After(wait):
		}
		wait = min(2*wait, Quiet/2)
	}
}
