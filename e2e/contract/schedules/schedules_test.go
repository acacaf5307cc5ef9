package schedules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/fault"
)

// points makes points of texts: "r x" looks at x, "w x" changes it, "lock l", "try l" and "unlock l".
func points(texts ...string) (list []fault.Point) {
	for i, text := range texts {
		var verb, name string
		_, _ = fmt.Sscan(text, &verb, &name)
		touch := fault.Touch{Kind: "file", Name: name, Write: verb == "w"}
		p := fault.Point{Number: i + 1, What: text}
		if verb == "try" {
			p.What, p.Look = "lock "+name, fault.LookTryLock
		}
		if verb == "lock" || verb == "try" || verb == "unlock" {
			touch = fault.Touch{Kind: "lock", Name: name, Write: true}
		}
		p.Touches = []fault.Touch{touch}
		list = append(list, p)
	}
	return list
}

func TestStops(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mine, others []string
		want         string
	}{
		{"nothing in common", []string{"r a", "w a"}, []string{"r b", "w b"}, ""},
		{"only looks", []string{"r a", "r a"}, []string{"r a"}, ""},
		{"the first is one after the other", []string{"w b", "w a", "w c"}, []string{"r a"}, ""},
		{"look and use", []string{"r a", "w b", "w a"}, []string{"r a", "w a"}, "w a 0"},
		{"halfway", []string{"w a", "w a"}, []string{"r a"}, "w a 1"},
		{"after a look", []string{"r a", "w b", "r b"}, []string{"w a", "r b"}, "w b 2"},
		{"two locks", []string{"lock l", "lock k"}, []string{"lock k", "lock l"}, "lock k 0"},
		{"two locks in one order", []string{"lock l", "lock k", "r a"}, []string{"lock l", "lock k"}, "r a 3"},
		{
			"behind a lock",
			[]string{"lock l", "r a", "w a", "unlock l", "r c"},
			[]string{"lock l", "w a", "unlock l"},
			"unlock l 2",
		},
		{"a lock that the other one does not wait for", []string{"lock l", "unlock l"}, []string{"try l"}, "unlock l 3"},
		{
			"before a lock",
			[]string{"r a", "lock l", "w a", "unlock l"},
			[]string{"r a", "lock l", "w a", "unlock l"},
			"lock l 2, w a 0, unlock l 2",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, ranks := stops(points(tt.mine...), points(tt.others...))
			got := ""
			for i, p := range list {
				if i > 0 {
					got += ", "
				}
				got += fmt.Sprintf("%s %d", p.What, ranks[i])
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestOf_keeps checks that a stop counts that is not in the order of other calls, but within a lock.
func TestOf_keeps(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mine, others []string
		want         int
	}{
		{"a lock that is given back", []string{"lock l", "r a", "unlock l"}, []string{"try l"}, 1},
		{"a lock that is held until the end", []string{"lock l", "r a", "r b"}, []string{"try l"}, 1},
		{"one that waits for it", []string{"lock l", "r a", "r b"}, []string{"lock l"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Of([2][]fault.Point{points(tt.mine...), points(tt.others...)}, false, true); len(got) != tt.want {
				t.Errorf("got %v, want %d schedules", got, tt.want)
			}
		})
	}
}

func TestTwoStops(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mine, others []string
		want         string
	}{
		{"a window in both", []string{"w a", "r b"}, []string{"r a", "w b", "w b"}, "A2.B3"},
		{"the same with one stop", []string{"w a", "r b"}, []string{"w b", "r a", "w b"}, ""},
		{"nothing of the other before its stop", []string{"w a", "r b"}, []string{"r a", "w b"}, ""},
		{
			"before a lock",
			[]string{"w a", "lock l", "r b", "unlock l"},
			[]string{"r a", "w b", "w b", "lock l", "w b", "unlock l"},
			"A2.B3",
		},
		{
			"only behind a lock",
			[]string{"lock l", "w a", "r b", "unlock l"},
			[]string{"lock l", "r a", "w b", "w b", "unlock l"},
			"",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for _, c := range Of([2][]fault.Point{points(tt.mine...), points(tt.others...)}, false, true) {
				if len(c.Stops) == 2 {
					one, two := c.Stops[0], c.Stops[1]
					got += fmt.Sprintf(" %c%d.%c%d", 'A'+one.Run, one.Point, 'A'+two.Run, two.Point)
				}
			}
			if got = strings.TrimSpace(got); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
