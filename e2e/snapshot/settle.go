package snapshot

import (
	"context"
	"slices"
	"time"
)

const (
	// Quiet is how long a difference must stay the same to count as the last word: the kernel and dying processes need a moment to clean up.
	Quiet = 250 * time.Millisecond
	// poll is how long Settle waits between two looks.
	poll = 20 * time.Millisecond
)

// Settle compares with before what take sees, again and again, until nothing differs, or nothing has changed for the time Quiet, or ctx ends; the
// last difference is returned. Of each difference only what beyond leaves of it counts, all of it if beyond is nil. The end of ctx is an error only when there is
// no difference to return yet.
func Settle(
	ctx context.Context, take func(context.Context) (State, error), before State, beyond func([]Change) []Change,
) (changes []Change, err error) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var since time.Time
	for {
		after, err := take(ctx)
		switch {
		case err != nil && ctx.Err() != nil && !since.IsZero():
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
		if since.IsZero() || !slices.Equal(latest, changes) {
			changes, since = latest, time.Now()
		}
		if time.Since(since) >= Quiet {
			return changes, nil
		}
		select {
		case <-ctx.Done():
			return changes, nil
		case <-ticker.C:
		}
	}
}
