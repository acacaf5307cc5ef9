package fault_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/fault"
)

func TestCount(t *testing.T) {
	dir := directory(t)
	count := func(words ...string) fault.Costs {
		costs, err := fault.Count(ctx(t), command(dir, words...))
		check(t, err)
		if costs.Call.ExitCode != 0 || costs.Call.Failure != "" {
			t.Fatalf("want success, got %s %s %s", costs.Call, costs.Call.Failure, costs.Call.Stdout)
		}
		return costs
	}
	// least is the count with the fewest system calls: the runtime of Go makes some more from time to time, up to ten.
	least := func(words ...string) fault.Costs {
		best := count(words...)
		for range 4 {
			if again := count(words...); again.SystemCalls < best.SystemCalls {
				best = again
			}
		}
		return best
	}
	nothing, files := least("read"), least("read", "files", "files", "files", "files")
	link, dump := count("read", "link"), count("read", "dump")
	if nothing.SystemCalls < 20 || files.SystemCalls < nothing.SystemCalls+4*14/2 {
		t.Errorf("got %d system calls, and %d with work on files, want more", nothing.SystemCalls, files.SystemCalls)
	}
	if nothing.NetlinkSent != 0 || nothing.DumpBytes != 0 || nothing.Programs != 1 {
		t.Errorf("got %+v, want no netlink and one program", nothing)
	}
	// What it changes is in TestObserve; it also looks for its links.
	if link.NetlinkSent < 8 || link.DumpBytes != 0 {
		t.Errorf("got %d messages and %d bytes, want 8 or more and none", link.NetlinkSent, link.DumpBytes)
	}
	// There is lo at least.
	if dump.NetlinkSent != 1 || dump.DumpBytes < 500 || dump.DumpBytes > 100e3 {
		t.Errorf("got %d messages and %d bytes, want one and some thousands", dump.NetlinkSent, dump.DumpBytes)
	}
	if got := least("read", "delegate"); got.Programs != 2 || got.SystemCalls < 3*nothing.SystemCalls/2 {
		t.Errorf("got %d programs and %d system calls, want 2 programs", got.Programs, got.SystemCalls)
	}
	if nothing.PeakBytes < 1<<20 || nothing.PeakBytes > 100<<20 {
		t.Errorf("got %d bytes of memory, want some MB", nothing.PeakBytes)
	}
	wantAlone(t)
}

// TestClock checks that each kind of work is attributed correctly, for most of the time that it takes.
func TestClock(t *testing.T) {
	const held, most = 500 * time.Millisecond, 100 * time.Millisecond
	for name, tt := range map[string]struct {
		words []string
		want  fault.Work
	}{
		"a lock": {[]string{"read", "lock"}, fault.WorkLock}, "a timer": {[]string{"read", "sleep"}, fault.WorkWait},
		"computing":                          {[]string{"read", "spin"}, fault.WorkOwn},
		"computing before the configuration": {[]string{"spin"}, fault.WorkStart},
		"a delegate that computes":           {[]string{"read", "delegate", "spin"}, fault.WorkOwn},
	} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t)
			if tt.want == fault.WorkLock {
				f, err := os.Create(filepath.Join(dir, "lock"))
				check(t, err)
				check(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
				time.AfterFunc(held, func() { _ = f.Close() })
			}
			costs, err := fault.Clock(ctx(t), command(dir, tt.words...))
			check(t, err)
			if costs.Call.ExitCode != 0 {
				t.Fatalf("want success, got %s %s", costs.Call, costs.Call.Stdout)
			}
			var sum time.Duration
			for _, took := range costs.Times {
				sum += took
			}
			if costs.Times[tt.want] < most || sum > costs.Call.Duration {
				t.Errorf("got %v of %s, want %s or more of it %q", costs.Times, costs.Call.Duration, most, tt.want)
			}
		})
	}
}

func TestClock_netlink(t *testing.T) {
	costs, err := fault.Clock(ctx(t), command(directory(t), "read", "link"))
	check(t, err)
	netlink := costs.Times[fault.WorkNetlink] + costs.Times[fault.WorkAsleep]
	if netlink <= 0 || costs.Times[fault.WorkStart] <= 0 || costs.Times[fault.WorkProcess] <= 0 {
		t.Errorf("got %v, want some of it netlink, start and process", costs.Times)
	}
	known := map[fault.Work]bool{}
	for _, work := range fault.Works() {
		known[work] = true
	}
	for work := range maps.Keys(costs.Times) {
		if !known[work] {
			t.Errorf("got work %q, which is not in Works", work)
		}
	}
}
