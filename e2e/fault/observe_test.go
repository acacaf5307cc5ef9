package fault_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

func TestObserve(t *testing.T) {
	files := []string{
		"openat create DIR/#", "write write DIR/#", "fsync sync DIR/#", "ftruncate truncate DIR/#",
		"fchmod chmod DIR/#",
		"renameat rename DIR/# → DIR/a", "linkat link DIR/a → DIR/ab", "symlinkat symlink DIR/ac → a",
		"mkdirat mkdir DIR/ad",
		"unlinkat unlink DIR/ad EISDIR", "unlinkat rmdir DIR/ad", "unlinkat unlink DIR/ac", "unlinkat unlink DIR/ab",
		"unlinkat unlink DIR/a",
	}
	var delegates []string
	for _, f := range files {
		delegates = append(delegates, "delegate: "+f)
	}
	for _, tt := range []struct {
		words string
		want  []string
		// last is the program that writes the answer, if not the plugin
		last string
	}{
		{words: "", want: nil},
		{words: "files", want: files},
		{words: "delegate", want: append([]string{"execve exec delegate ADD"}, delegates...)},
		{words: "replace", want: append([]string{"execve exec delegate DEL"}, delegates...), last: "delegate: "},
		{words: "link", want: []string{
			"sendto RTM_NEWLINK veth one peer other mtu 1400", "sendto RTM_NEWADDR 10.1.2.3/24 dev one",
			"sendto RTM_NEWLINK one up",
			"sendto RTM_NEWROUTE 10.9.0.0/16 via 10.1.2.4 dev one src 10.1.2.3 table 100",
			"sendto RTM_NEWNEIGH 10.1.2.9 dev one",
			"sendto RTM_NEWRULE priority 77 from 10.9.0.0/16 table 100",
			"sendto RTM_DELRULE priority 77 from 10.9.0.0/16 table 100",
			"sendto RTM_DELLINK one",
		}},
		{words: "unacked", want: []string{"sendto RTM_NEWLINK lo up"}},
		{words: "nft", want: []string{
			"sendmsg nft NEWTABLE inet one; nft NEWCHAIN inet one first; nft NEWRULE inet one first (2 times)",
			"sendmsg nft DELTABLE inet one",
		}},
		{words: "conntrack", want: []string{"sendto conntrack delete"}},
		{words: "sysctl", want: []string{"write write /proc/sys/net/ipv4/ip_forward = 1"}},
		{words: "ioctl", want: []string{"ioctl SIOCSIFFLAGS lo"}},
		{words: "mount umount", want: []string{"mount mount none on DIR type tmpfs", "umount2 umount DIR"}},
		{words: "unix", want: []string{"connect connect to DIR/daemon.sock", "write send to DIR/daemon.sock"}},
		{words: "disturbed", want: []string{"mknodat mknod DIR/fifo", "openat create DIR/fifo"}},
		{words: "signal", want: []string{"kill signal SIGUSR1"}},
	} {
		t.Run(tt.words, func(t *testing.T) {
			dir := directory(t)
			listen(t, dir)
			trace := observe(t, command(dir, tt.words))
			var got []string
			for i, p := range trace.Points {
				if p.Number != i+1 {
					t.Errorf("want the number %d, got %s", i+1, p)
				}
				what := strings.ReplaceAll(p.What, dir, "DIR")
				for _, word := range strings.Fields(what) {
					if strings.HasPrefix(word, "DIR/a-") {
						what = strings.ReplaceAll(what, word, "DIR/#")
					}
				}
				who := ""
				if p.Program != "plugin" {
					who = p.Program + ": "
				}
				got = append(got, strings.TrimSpace(who+p.Call+" "+what+" "+p.Error))
				// A kill where nothing changes is useless.
				if want := p.Error == "" && p.Call != "fsync"; p.Kill != want {
					t.Errorf("%s: got kill %t, want %t", p, p.Kill, want)
				}
			}
			if diff := cmp.Diff(got, append(tt.want, tt.last+"write write the answer")); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
			wantAlone(t)
		})
	}
}

// listen starts a daemon that accepts all input.
func listen(tb testing.TB, dir string) {
	tb.Helper()
	listener, err := net.Listen("unix", filepath.Join(dir, "daemon.sock"))
	check(tb, err)
	tb.Cleanup(func() { _ = listener.Close() })
}

// The trace contains the call that cni.Exec returns.
func TestObserve_call(t *testing.T) {
	dir := directory(t)
	for _, words := range []string{"files", "unknown", "die"} {
		t.Run(words, func(t *testing.T) {
			c := command(dir, words)
			trace, err := fault.Observe(ctx(t), c)
			check(t, err)
			want := cni.Exec(ctx(t), c.Path, c.Env, c.Stdin)
			if diff := cmp.Diff(trace.Call, want, cmpopts.IgnoreFields(cni.Call{}, "Duration")); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		trace, err := fault.Observe(ctx(t), fault.Command{Path: "/run/missing"})
		check(t, err)
		want := cni.Exec(ctx(t), "/run/missing", nil, nil)
		if diff := cmp.Diff(trace.Call, want, cmpopts.IgnoreFields(cni.Call{}, "Duration")); diff != "" {
			t.Errorf("got -, want +:\n%s", diff)
		}
	})
}

// No point is lost, whatever the threads do.
func TestObserve_threads(t *testing.T) {
	for range 20 {
		dir := directory(t)
		trace := observe(t, command(dir, "threads"))
		var got []string
		for _, p := range trace.Points {
			got = append(got, strings.ReplaceAll(p.What, dir, "DIR"))
		}
		var want []string
		for i := range 40 {
			want = append(want, fmt.Sprintf("create DIR/t%d", i), fmt.Sprintf("write DIR/t%d", i))
		}
		slices.Sort(got)
		want = append(want, "write the answer")
		slices.Sort(want)
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("got -, want +:\n%s", diff)
		}
	}
}

// A plugin may be a script; its shell forks as a Go program does not.
func TestObserve_script(t *testing.T) {
	dir := directory(t)
	script := filepath.Join(dir, "script")
	check(t, os.WriteFile(script, []byte("#!/bin/sh\n(echo a >$DIR/one); true\n"), 0o755))
	trace := observe(t, fault.Command{Path: script, Env: []string{"DIR=" + dir}})
	want := []string{"script: create DIR/one", "script: write DIR/one"}
	if diff := cmp.Diff(whats(trace.Points, dir, "DIR"), want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	wantAlone(t)
}

// A child of this process that ended earlier, on the thread of the tracer, is left to its owner.
func TestObserve_leaves_other_children(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(plugin("plugin"))
	check(t, cmd.Start())
	ended := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		check(t, err)
		return strings.Contains(string(stat), ") Z ")
	}
	for deadline := time.Now().Add(patience); !ended(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("want the child to end, got that it goes on")
		}
	}
	observe(t, command(directory(t), "delegate"))
	if err := cmd.Wait(); err != nil {
		t.Errorf("want the child's success, got %v", err)
	}
}

func TestObserve_names_what_is_left_running(t *testing.T) {
	trace := observe(t, command(directory(t), "leave", "files"))
	if diff := cmp.Diff(trace.Left, []string{"plugin"}); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	wantAlone(t)
}

// When the run is stopped, at any moment, no process continues.
func TestObserve_stopped(t *testing.T) {
	took := observe(t, command(directory(t), "delegate", "threads", "files")).Call.Duration
	stopped := 0
	for i := range 60 {
		c, stop := context.WithCancel(ctx(t))
		timer := time.AfterFunc(took*time.Duration(i)/50, stop)
		trace, err := fault.Observe(c, command(directory(t), "delegate", "threads", "files"))
		check(t, err)
		timer.Stop()
		stop()
		switch trace.Call.Failure {
		case "":
		case "killed: the run was stopped":
			stopped++
		default:
			t.Errorf("want it stopped or ended, got %q", trace.Call.Failure)
		}
		wantAlone(t)
	}
	if stopped == 0 {
		t.Error("want some of 60 runs to be stopped midway, got none")
	}
}
