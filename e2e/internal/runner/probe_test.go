package runner

import (
	"errors"
	"sync/atomic"
	"testing"
)

func TestUntilFailure(t *testing.T) {
	const all = 5 * probesAtOnce
	for _, tt := range []struct {
		name    string
		failing int // the number of the probe from which on all fail
		// least and most say how many begin.
		least, most int
	}{
		{"none fails", all, all, all},
		{"all fail", 0, 1, probesAtOnce},
		{"a later one fails", 2 * probesAtOnce, 1, 3 * probesAtOnce},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var begun atomic.Int32
			errs := untilFailure(all, func(i int) error {
				begun.Add(1)
				if i >= tt.failing {
					return errors.New("no reply")
				}
				return nil
			})
			n := int(begun.Load())
			if n < tt.least || n > tt.most {
				t.Errorf("got %d probes, want %d to %d", n, tt.least, tt.most)
			}
			if failed := mostTelling(errs) != nil; len(errs) != n || failed != (tt.failing < all) {
				t.Errorf("got %d results of %d probes, a failure: %t", len(errs), n, failed)
			}
		})
	}
}
