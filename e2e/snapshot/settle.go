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
	// poll is how long Settle waits between two snapshots.
	poll = 20 * time.Millisecond
)

// Settle repeatedly compares what take returns with before, until there is no difference, until the difference has not
// changed for the time Quiet, or until ctx ends. It returns the last difference. If beyond is not nil, only the part of
// a difference that it returns counts. The end of ctx is an error only if there is no difference to return yet.
func Settle(
	ctx context.Context, take func(context.Context) (State, error), before State, beyond func([]Change) []Change,
) ([]Change, error) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
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
			changes, since, looked = latest, machinetime.Start(), true
		}
		if since.Given() >= Quiet {
			return changes, nil
		}
		select {
		case <-ctx.Done():
			return changes, nil
		case <-ticker.C:
		}
	}
}
