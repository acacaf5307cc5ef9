package netns_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// machineState returns the state of the tests' machine. Processes that lost their parent are children of this process,
// which is process 1.
func machineState(ctx context.Context) (snapshot.State, error) {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid == 0 {
			break
		}
	}
	return snapshot.Take(ctx, snapshot.Options{Files: []snapshot.FileTree{
		{Name: "/run", FS: os.DirFS("/run")}, {Name: "/var/lib", FS: os.DirFS("/var/lib")}, {Name: "/opt", FS: os.DirFS("/opt")},
	}})
}

// unchanged waits until the machine is as it was before. The test must have no other child process meanwhile.
func unchanged(tb testing.TB, before snapshot.State) {
	tb.Helper()
	eventually(tb, func() error {
		now, err := machineState(tb.Context())
		if err != nil {
			return err
		}
		if left := snapshot.Diff(before, now); len(left) > 0 {
			return fmt.Errorf("want the machine as before, got %v", left)
		}
		return nil
	})
}

func stateBefore(tb testing.TB) snapshot.State {
	tb.Helper()
	state, err := machineState(tb.Context())
	check(tb, err)
	return state
}

// slack returns a time limit for runs with the race detector, which makes everything slower.
func slack(d time.Duration) time.Duration {
	if raceDetector {
		return 10 * d
	}
	return d
}

func TestStart_takes_less_than_100_ms(t *testing.T) {
	var times []time.Duration
	whole := machinetime.Start()
	for range 10 {
		begin := machinetime.Start()
		c, err := backend().Start(ctx(t), request(t, macvlanConflist, 2))
		times = append(times, begin.Given())
		check(t, err)
		// The end of a cluster keeps the kernel busy for a while: close all of them at the end.
		defer c.Close()
	}
	slices.Sort(times)
	t.Logf("median %s, slowest %s", times[5], times[9])
	wantWithin(t, whole, times[5], slack(100*time.Millisecond))
}

// wantWithin checks that something took less than a limit of the time that the machine gave. If other programs wanted
// its processors meanwhile, the test is skipped, since the time then means nothing. These tests themselves want at most
// two threads per processor.
func wantWithin(t *testing.T, whole machinetime.Interval, took, limit time.Duration) {
	t.Helper()
	switch load := whole.Load(); {
	case took <= limit:
	case load > 2:
		t.Skipf("got %s, want less than %s, on a machine of which %.1f threads wanted each processor", took, limit,
			load)
	default:
		t.Errorf("got %s, want less than %s", took, limit)
	}
}

func BenchmarkStart(b *testing.B) {
	req := request(b, macvlanConflist, 2)
	for b.Loop() {
		c, err := backend().Start(b.Context(), req)
		check(b, err)
		b.StopTimer()
		check(b, c.Close())
		b.StartTimer()
	}
}

func TestStart_ten_nodes_and_500_pods(t *testing.T) {
	begin := machinetime.Start()
	c := start(t, request(t, macvlanConflist, 10))
	t.Logf("10 nodes after %s", begin.Wall())
	pods := make([]cluster.Place, 500)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range pods {
		group.Go(func() (err error) {
			pods[i], err = tryAttach(ctx(t), c.Nodes()[i%10], fmt.Sprintf("pod-%d", i))
			return err
		})
	}
	check(t, group.Wait())
	took := begin.Given()
	t.Logf("500 pods after %s", took)
	// wantWithin may skip the test only at the end: the rest must hold on any machine.
	defer wantWithin(t, begin, took, slack(30*time.Second))
	seen := map[string]bool{}
	for _, pod := range pods {
		seen[addressOf(t, pod, true)] = true
	}
	if got, want := len(seen), 500; got != want {
		t.Errorf("got %d addresses, want %d", got, want)
	}
	last := pods[499]
	ask(t, c.Hosts()["lan"], last.Agent, last.Netns, addressOf(t, last, true))
}

func TestStart_error(t *testing.T) {
	failing := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	for _, tt := range []struct {
		name    string
		command []string
		change  func(*cluster.Request)
		want    string
	}{
		{
			name: "command not found", command: []string{"/does/not/exist"},
			want: "fabric: start agent: fork/exec /does/not/exist: no such file or directory",
		},
		{
			name: "agent ends", command: failing("echo no luck >&2; exit 3"),
			want: "fabric: the agent has ended: no luck",
		},
		{
			name: "agent answers nonsense", command: failing("echo said so >&2; echo nonsense; read line"),
			want: "fabric: invalid character 'o' in literal null (expecting 'u'): said so",
		},
		{
			name: "uplink kind", change: func(r *cluster.Request) { r.UplinkKind = "carrier-pigeon" },
			want: `uplink kind "carrier-pigeon": want one of veth, bridge, dummy, vlan`,
		},
		{
			name: "no plugin directory", change: func(r *cluster.Request) { r.BinDir = "/does/not/exist" },
			want: "plugin binaries: lstat /does: no such file or directory",
		},
		{
			name: "sysctl", change: func(r *cluster.Request) {
				r.Nodes[0].Sysctl = map[string]string{"net.ipv4.luck": "1"}
			},
			want: "node/a: sysctl net.ipv4.luck=1: open /proc/sys/net/ipv4/luck: no such file or directory",
		},
		{
			name: "plan", change: func(r *cluster.Request) { r.Nodes = nil },
			want: "test.conflist: plan has no nodes; want at least 1",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := stateBefore(t)
			b := backend()
			if tt.command != nil {
				b.Command = tt.command
			}
			req := request(t, macvlanConflist, 2)
			if tt.change != nil {
				tt.change(&req)
			}
			c, err := b.Start(ctx(t), req)
			if c != nil || err == nil || err.Error() != tt.want {
				t.Errorf("got %v, %v, want the error %s", c, err, tt.want)
			}
			unchanged(t, before)
		})
	}
}

func TestStart_canceled(t *testing.T) {
	before := stateBefore(t)
	reason := errors.New("enough")
	for _, after := range []time.Duration{
		0, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if after == 0 {
			cancel(reason)
		} else {
			time.AfterFunc(after, func() { cancel(reason) })
		}
		c, err := backend().Start(ctx, request(t, macvlanConflist, 2))
		switch {
		case err == nil && after > 0:
			// The call was faster than the cancellation.
			check(t, c.Close())
		case !errors.Is(err, reason):
			t.Errorf("canceled after %s: got %v, want the reason %v", after, err, reason)
		}
		cancel(nil)
	}
	unchanged(t, before)
}

func TestClose_twice(t *testing.T) {
	before := stateBefore(t)
	c, err := backend().Start(ctx(t), request(t, macvlanConflist, 1))
	check(t, err)
	check(t, c.Close())
	check(t, c.Close())
	_, err = c.Nodes()[0].Agent.Hello(ctx(t))
	if got, want := fmt.Sprint(err), "node/a: the agent has ended"; got != want || !errors.Is(err, agent.ErrEnded) {
		t.Errorf("got %s, want %s", got, want)
	}
	unchanged(t, before)
}

func TestStart_in_parallel(t *testing.T) {
	before := stateBefore(t)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			c, err := backend().Start(ctx(t), request(t, macvlanConflist, 2))
			if err != nil {
				return err
			}
			_, err = tryAttach(ctx(t), c.Nodes()[1], "pod")
			return errors.Join(err, c.Close())
		})
	}
	check(t, group.Wait())
	unchanged(t, before)
}

func TestStart_plugins_behind_a_symbolic_link(t *testing.T) {
	// The node's own /tmp has no such link.
	link := filepath.Join(t.TempDir(), "bin")
	check(t, os.Symlink(os.Getenv(pluginsEnv), link))
	req := request(t, macvlanConflist, 1)
	req.BinDir = link
	c := start(t, req)
	got := strings.Fields(output(t, c.Nodes()[0].Agent, "ls "+netns.BinDir))
	if diff := cmp.Diff([]string{"bridge", "host-local", "macvlan"}, got); diff != "" {
		t.Errorf("plugins on the node (-want +got):\n%s", diff)
	}
}

// Clusters of one node without hosts, as requirements have them, several at a time.
func BenchmarkStart_alone(b *testing.B) {
	backend, req := backend(), request(b, macvlanConflist, 1)
	req.Alone = true
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := backend.Start(b.Context(), req)
			check(b, err)
			check(b, c.Close())
		}
	})
}
