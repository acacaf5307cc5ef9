package share

import (
	"fmt"
	"slices"
	"testing"
)

// TestOf checks that all shares together have each case once, and that a short list is not always in the first.
func TestOf(t *testing.T) {
	first := map[int]bool{}
	for n := range 10 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			var dealt []int
			for k := 1; k <= 7; k++ {
				part := Of(t, fmt.Sprintf("%d/7", k), all)
				if len(part) > 0 && part[0] == 0 {
					first[k] = true
				}
				dealt = append(dealt, part...)
			}
			slices.Sort(dealt)
			if !slices.Equal(dealt, all) {
				t.Errorf("got %v in all shares, want %v", dealt, all)
			}
		})
	}
	if len(first) < 2 {
		t.Errorf("got the first case of each test in the shares %v, want it in different ones", first)
	}
}

func TestDefault(t *testing.T) {
	for variable, want := range map[string]string{"": "1/1", "3/7": "3/7"} {
		t.Setenv("CNITEST_SHARE", variable)
		if got := Default(); got != want {
			t.Errorf("%q: got %s, want %s", variable, got, want)
		}
	}
}
