package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/fault"
)

// points makes points of texts: "r x" looks at x, "w x" changes it, "lock l" and "unlock l".
func points(texts ...string) (list []fault.Point) {
	for i, text := range texts {
		var verb, name string
		_, _ = fmt.Sscan(text, &verb, &name)
		touch := fault.Touch{Kind: "file", Name: name, Write: verb == "w"}
		if verb == "lock" || verb == "unlock" {
			touch = fault.Touch{Kind: "lock", Name: name, Write: true}
		}
		list = append(list, fault.Point{Number: i + 1, What: text, Touches: []fault.Touch{touch}})
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

func TestTwoStops(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mine, others []string
		want         string
	}{
		{"a window in both", []string{"w a", "r b"}, []string{"w b", "r a", "w b"}, "A2.B3"},
		{"nothing of the other before its stop", []string{"w a", "r b"}, []string{"r a", "w b"}, ""},
		{
			"behind a lock",
			[]string{"w a", "lock l", "r b", "unlock l"},
			[]string{"w b", "r a", "lock l", "w b", "unlock l"},
			"A2.B3 A2.B4 A2.B5 A3.B3",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both := [2][]fault.Point{points(tt.mine...), points(tt.others...)}
			mine, _ := stops(both[0], both[1])
			got := ""
			for _, c := range twoStops(both, 0, mine) {
				got += fmt.Sprintf(" A%d.B%d", c.Stops[0].Point, c.Stops[1].Point)
			}
			if got = strings.TrimSpace(got); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
