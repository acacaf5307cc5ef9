package e2e_test

import "testing"

// upstream are conflists of plugins as they are, and all that scenarios say of them.
func upstream() []control { return nil }

func TestUpstream(t *testing.T) {
	runControls(t, upstream())
}
