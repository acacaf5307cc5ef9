package runner

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/lab/event"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestEvents compares the events of scenarios with those that the lab can make happen.
func TestEvents(t *testing.T) {
	var names []string
	for _, k := range scenario.Events() {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, event.Names()); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}
