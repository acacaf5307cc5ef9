package main

import "testing"

// Whatever is taken: the number is free, not below the first one, and is the first one or follows a taken one.
func TestFirstFree(t *testing.T) {
	for _, tt := range []struct {
		name  string
		taken func(int) bool
		want  int
		looks int
	}{
		{"nothing", func(int) bool { return false }, 256, 1},
		{"three", func(n int) bool { return n < 259 }, 259, 5},
		{"3,000", func(n int) bool { return n < 3256 }, 3256, 25},
		{"a hole", func(n int) bool { return n < 3256 && n != 256 }, 256, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			looks := 0
			got, err := firstFree(256, func(n int) (bool, error) {
				looks++
				return tt.taken(n), nil
			})
			if err != nil || got != tt.want || looks > tt.looks {
				t.Errorf("got %d after %d looks, %v, want %d after at most %d", got, looks, err, tt.want, tt.looks)
			}
		})
	}
}
