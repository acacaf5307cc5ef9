package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// processes returns the IDs of the processes with a command line.
func processes(line string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(bytes.ReplaceAll(data, []byte{0}, []byte{' '}))) != line {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func running(tb testing.TB, line string) {
	tb.Helper()
	eventually(tb, func() error {
		if len(processes("/bin/"+line)) == 0 && len(processes(line)) == 0 {
			return fmt.Errorf("want %q to run, got nothing of it", line)
		}
		return nil
	})
}

func killAll(tb testing.TB, line string) {
	tb.Helper()
	for _, pid := range append(processes("/bin/"+line), processes(line)...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			check(tb, err)
		}
	}
	eventually(tb, func() error {
		if left := append(processes("/bin/"+line), processes(line)...); len(left) > 0 {
			return fmt.Errorf("%s: %v still runs", line, left)
		}
		return nil
	})
}

func TestCommand(t *testing.T) {
	c := start(t)
	for _, tt := range []struct {
		name    string
		args    agent.CommandArgs
		want    agent.CommandReply
		wantErr string
	}{
		{
			name: "both outputs", args: agent.CommandArgs{Argv: []string{"/bin/sh", "-c", "echo out; echo err >&2"}},
			want: agent.CommandReply{Output: "out\nerr\n"},
		},
		{
			name: "environment", args: agent.CommandArgs{
				Argv: []string{"/bin/sh", "-c", "echo $WORD"}, Env: []string{"WORD=word"},
			},
			want: agent.CommandReply{Output: "word\n"},
		},
		{
			name: "exit status", args: agent.CommandArgs{Argv: []string{"/bin/sh", "-c", "echo why; exit 3"}},
			want: agent.CommandReply{Output: "why\n", ExitCode: 3},
		},
		{
			name: "signal", args: agent.CommandArgs{Argv: []string{"/bin/sh", "-c", "kill -9 $$"}},
			want: agent.CommandReply{ExitCode: -1},
		},
		{
			name: "leaves a daemon that holds its output", args: agent.CommandArgs{
				Argv: []string{"/bin/sh", "-c", "sleep 1001 & echo done"},
			},
			want: agent.CommandReply{Output: "done\n"},
		},
		{
			name: "time is over", args: agent.CommandArgs{
				Argv: []string{"/bin/sh", "-c", "echo so far; sleep 1002"}, Timeout: time.Second,
			},
			wantErr: "node/a: command /bin/sh: killed after 1s: so far\n",
		},
		{name: "nothing", wantErr: "node/a: command: want a program, got none"},
		{
			name: "not there", args: agent.CommandArgs{Argv: []string{"/does/not/exist"}},
			wantErr: "node/a: fork/exec /does/not/exist: no such file or directory",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Command(ctx(t), tt.args)
			wantError(t, err, tt.wantErr)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
	killAll(t, "sleep 1001")
	if left := processes("sleep 1002"); len(left) > 0 {
		t.Errorf("got %v, want nothing left of the group that was killed", left)
	}
}

// Process 1 becomes the parent of orphans. Those that end do not stay as zombies.
func TestSnapshot_has_no_orphans_that_ended(t *testing.T) {
	c := start(t)
	kinds := agent.SnapshotArgs{Kinds: []string{snapshot.Process}}
	before, err := c.Snapshot(ctx(t), kinds)
	check(t, err)
	const rounds = 20
	for range rounds {
		_, err := c.Command(ctx(t), agent.CommandArgs{
			Argv: []string{"/bin/sh", "-c", "(sleep 0 & sleep 0 &) >/dev/null 2>&1"},
		})
		check(t, err)
	}
	eventually(t, func() error {
		now, err := c.Snapshot(ctx(t), kinds)
		if diff := snapshot.Diff(before, now); err != nil || len(diff) > 0 {
			return fmt.Errorf("want no processes, got %v, %w", diff, err)
		}
		return nil
	})
}

// Whatever waits for orphans must leave the children of os/exec to os/exec.
func TestSnapshot_takes_no_children_from_others(t *testing.T) {
	c := start(t)
	stop := make(chan struct{})
	var snapshots, commands errgroup.Group
	for range 2 {
		snapshots.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				if _, err := c.Snapshot(ctx(t), agent.SnapshotArgs{Kinds: []string{snapshot.Process}}); err != nil {
					return err
				}
			}
		})
	}
	for range 4 {
		commands.Go(func() error {
			for range 50 {
				reply, err := c.Command(ctx(t), agent.CommandArgs{
					Argv: []string{"/bin/sh", "-c", "(sleep 0 &) >/dev/null 2>&1; exit 7"},
				})
				if err != nil || reply.ExitCode != 7 {
					return fmt.Errorf("got exit status %d, %w, want 7", reply.ExitCode, err)
				}
			}
			return nil
		})
	}
	check(t, commands.Wait())
	close(stop)
	check(t, snapshots.Wait())
}
