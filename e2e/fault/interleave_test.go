package fault_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/fault"
)

// interleave runs two plugins under a schedule.
func interleave(t *testing.T, dir string, words [2]string, schedule fault.Schedule) fault.Interleaving {
	t.Helper()
	got, err := fault.Interleave(ctx(t), [2]fault.Command{command(dir, words[0]), command(dir, words[1])}, schedule)
	check(t, err)
	wantAlone(t)
	return got
}

// number returns the number of the last point of a run that is described like that.
func number(t *testing.T, run fault.Trace, what string) int {
	t.Helper()
	for _, p := range slices.Backward(run.Points) {
		if strings.HasPrefix(p.What, what) {
			return p.Number
		}
	}
	t.Fatalf("want a point %q in\n%s", what, fault.Summary(run.Points))
	return 0
}

// order returns the events in short: who was stopped, waited and ended.
func order(got fault.Interleaving) string {
	var words []string
	for _, e := range got.Events {
		if e.Kind != fault.Made {
			words = append(words, string("AB"[e.Run])+" "+string(e.Kind))
		}
	}
	return strings.Join(words, ", ")
}

// A stop in the window between look and use loses one of two counts, and every other stop loses none.
func TestInterleave_window(t *testing.T) {
	dir := directory(t)
	count := filepath.Join(dir, "count")
	words := [2]string{"count", "count"}
	serial := interleave(t, dir, words, fault.Schedule{})
	lost := map[string]bool{}
	for _, p := range serial.Runs[0].Points {
		check(t, os.Remove(count))
		got := interleave(t, dir, words, fault.Schedule{Stops: []fault.Stop{{Point: p.Number}}})
		if want := "A stopped, B ended, A ended"; order(got) != want {
			t.Errorf("%s: got %s, want %s", p, order(got), want)
		}
		text, err := os.ReadFile(count)
		check(t, err)
		if string(text) != "2" {
			lost[strings.ReplaceAll(p.What, dir, "DIR")] = true
		}
	}
	// Before the write the file is empty.
	want := map[string]bool{"create DIR/count": true, "write DIR/count": true}
	if diff := cmp.Diff(want, lost); diff != "" {
		t.Errorf("stops that lose a count (-want +got):\n%s", diff)
	}
}

// Replayed, a schedule gives the same order of calls.
func TestInterleave_repeats(t *testing.T) {
	dir := directory(t)
	words := [2]string{"hold-one count", "hold-one count"}
	serial := interleave(t, dir, words, fault.Schedule{First: 1})
	schedule := fault.Schedule{First: 1, Stops: []fault.Stop{{Run: 1, Point: number(t, serial.Runs[1], "open")}}}
	for range 20 {
		got := interleave(t, dir, words, schedule)
		if want := "B stopped, A waits, B ended, A ended"; order(got) != want {
			t.Fatalf("got %s, want %s", order(got), want)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "count"))
	check(t, err)
	if want := "42"; string(text) != want {
		t.Errorf("got %s counts, want %s", text, want)
	}
}

func TestInterleave_waits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		words [2]string
		want  string
	}{
		{"for a lock", [2]string{"hold-one count", "hold-one count"}, "A stopped, B waits, A ended, B ended"},
		{"again and again", [2]string{"hold-one count", "poll-one count"}, "A stopped, B waits, A ended, B ended"},
		{"not for another lock", [2]string{"hold-one count", "hold-two"}, "A stopped, B ended, A ended"},
		{
			"for each other",
			[2]string{"hold-one count hold-two", "hold-two hold-one"},
			"A stopped, B waits, A waits, B ended, A ended",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := directory(t)
			serial := interleave(t, dir, tt.words, fault.Schedule{})
			at := number(t, serial.Runs[0], "create "+dir+"/count")
			got := interleave(t, dir, tt.words, fault.Schedule{Stops: []fault.Stop{{Point: at}}})
			if deadlock := tt.name == "for each other"; got.Deadlock != deadlock {
				t.Errorf("got deadlock %t, want %t", got.Deadlock, deadlock)
			}
			have := order(got)
			if got.Deadlock {
				have = strings.Replace(have, "A ended, B ended", "B ended, A ended", 1)
				for _, run := range got.Runs {
					if !strings.Contains(run.Call.Stderr, "main.turns") {
						t.Errorf("want the stack, got %s", run.Call.Stderr)
					}
				}
			}
			if have != tt.want {
				t.Errorf("got %s, want %s", have, tt.want)
			}
		})
	}
}

func TestConflict(t *testing.T) {
	dir := directory(t)
	points := func(words string) []fault.Point {
		return interleave(t, dir, [2]string{words, ""}, fault.Schedule{}).Runs[0].Points
	}
	find := func(points []fault.Point, what string) fault.Point {
		t.Helper()
		i := slices.IndexFunc(points, func(p fault.Point) bool { return strings.HasPrefix(p.What, what) })
		if i < 0 {
			t.Fatalf("want a point %q in\n%s", what, fault.Summary(points))
		}
		return points[i]
	}
	links, dump := points("link"), points("dump")
	counts, sysctl := points("count"), points("sysctl")
	for _, tt := range []struct {
		p, q fault.Point
		want string
	}{
		{find(dump, "RTM_GETLINK"), find(links, "RTM_NEWLINK veth one"), "all of link"},
		{find(links, "RTM_NEWADDR"), find(links, "RTM_DELLINK one"), "addr 10.1.2.3/24 dev one"},
		{find(links, "RTM_NEWROUTE"), find(links, "RTM_DELLINK one"), "route in table 100"},
		{find(links, "RTM_NEWRULE"), find(links, "RTM_NEWROUTE"), ""},
		{find(links, "RTM_NEWLINK one up"), find(links, "RTM_GETLINK one"), "link one"},
		{find(dump, "RTM_GETLINK"), find(dump, "RTM_GETLINK"), ""},
		{find(counts, "create"), find(counts, "open"), "file " + dir + "/count"},
		{find(counts, "open"), find(counts, "open"), ""},
		{find(counts, "create"), find(sysctl, "open"), ""},
	} {
		touch, ok := fault.Conflict(tt.p, tt.q)
		got := ""
		if ok {
			got = touch.String()
		}
		if got != tt.want {
			t.Errorf("%s and %s: got %q, want %q (touches %v and %v)", tt.p, tt.q, got, tt.want, tt.p.Touches,
				tt.q.Touches)
		}
	}
}
