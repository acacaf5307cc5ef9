package agent_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// script returns a daemon's command.
func script(text string) []string { return []string{"/bin/sh", "-c", text} }

func TestDaemon_lives_until_it_is_told_to_end(t *testing.T) {
	c := start(t)
	ready := filepath.Join(t.TempDir(), "ready")
	args := agent.DaemonArgs{
		Name: "d", Command: script(`echo start $WORD; trap 'echo end; exit 0' TERM; touch ` + ready +
			`; while :; do sleep 0.01; done`),
		Env: []string{"WORD=word"}, File: ready, Within: patience,
	}
	wantError(t, c.StopDaemon(ctx(t), "d"), "node/a: daemon d: it was never started")
	check(t, c.StartDaemon(ctx(t), args))
	wantError(t, c.StartDaemon(ctx(t), args), "node/a: daemon d: it already runs")
	wantDaemon(t, c, agent.DaemonState{Running: true, Output: "start word\n"})
	check(t, c.StopDaemon(ctx(t), "d"))
	wantDaemon(t, c, agent.DaemonState{Output: "start word\nend\n"})
	check(t, c.StopDaemon(ctx(t), "d"))
	check(t, c.StartDaemon(ctx(t), args))
	check(t, c.KillDaemon(ctx(t), "d"))
	wantDaemon(t, c, agent.DaemonState{Output: "start word\nend\nstart word\n"})
}

func TestDaemon_frozen(t *testing.T) {
	c := start(t)
	ready := filepath.Join(t.TempDir(), "ready")
	check(t, c.StartDaemon(ctx(t), agent.DaemonArgs{
		Name: "d", Command: script("touch " + ready + "; exec sleep 1006"), File: ready, Within: patience,
	}))
	running(t, "sleep 1006")
	for _, tt := range []struct {
		thaw  bool
		state string // proc_pid_stat(5)
	}{{false, "T"}, {true, "S"}} {
		check(t, c.FreezeDaemon(ctx(t), agent.FreezeArgs{Name: "d", Thaw: tt.thaw}))
		eventually(t, func() error {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", processes("sleep 1006")[0]))
			if fields := strings.Fields(string(stat)); err != nil || fields[2] != tt.state {
				return fmt.Errorf("thaw %t: got %q, %w, want the state %s", tt.thaw, stat, err, tt.state)
			}
			return nil
		})
	}
	check(t, c.FreezeDaemon(ctx(t), agent.FreezeArgs{Name: "d"}))
	check(t, c.KillDaemon(ctx(t), "d"))
	wantError(t, c.FreezeDaemon(ctx(t), agent.FreezeArgs{Name: "d"}), "node/a: daemon d: it does not run")
}

func TestDaemon_doomed(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	socket, state := filepath.Join(dir, "socket"), filepath.Join(dir, "state")
	self, err := os.Executable()
	check(t, err)
	args := agent.DaemonArgs{
		Name: "d", Command: []string{self}, Env: []string{echoEnv + "=" + dir}, Socket: socket, Within: patience,
		Owns: []string{dir},
	}
	ask := func(question string) string {
		t.Helper()
		return askWithin(t, patience, socket, question)
	}
	check(t, c.StartDaemon(ctx(t), args))
	check(t, c.DoomDaemon(ctx(t), "d"))
	if got := ask("look\n"); got != "look\n" {
		t.Errorf("a question that changes nothing: got the answer %q, want %q", got, "look\n")
	}
	wantError(t, c.StartDaemon(ctx(t), args), "node/a: daemon d: it still runs: no request made it change a "+
		"file of its own")
	if got := ask("write\n"); got != "" {
		t.Errorf("a question that changes a file: got the answer %q, want none", got)
	}
	check(t, c.StartDaemon(ctx(t), args))
	if got := ask("write\n"); got != "write\n" {
		t.Errorf("after a new start: got the answer %q, want %q", got, "write\n")
	}
	if written, err := os.ReadFile(state); err != nil || string(written) != "write\nwrite\n" {
		t.Errorf("got %q, %v in the daemon's file, want both requests that change it", written, err)
	}
	// A daemon that was spared goes on as before.
	check(t, c.DoomDaemon(ctx(t), "d"))
	check(t, c.StopDaemon(ctx(t), "d"))
	check(t, c.StartDaemon(ctx(t), args))
	if got := ask("write\n"); got != "write\n" {
		t.Errorf("after a stop and a start: got the answer %q, want %q", got, "write\n")
	}
	wantError(t, c.DoomDaemon(ctx(t), "e"), "node/a: daemon e: it was never started")
}

// askWithin asks a daemon and returns its answer, or nothing after some time.
func askWithin(t *testing.T, within time.Duration, socket, question string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(within)))
	_, err = io.WriteString(conn, question)
	check(t, err)
	answer := make([]byte, 100)
	n, _ := conn.Read(answer)
	return string(answer[:n])
}

func TestDaemon_delayed(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	socket, state := filepath.Join(dir, "socket"), filepath.Join(dir, "state")
	self, err := os.Executable()
	check(t, err)
	args := agent.DaemonArgs{
		Name: "d", Command: []string{self}, Env: []string{echoEnv + "=" + dir}, Socket: socket, Within: patience,
		Owns: []string{dir},
	}
	check(t, c.StartDaemon(ctx(t), args))
	wantError(t, c.DeliverDaemon(ctx(t), "d"), "node/a: daemon d: no request is delayed")
	check(t, c.DelayDaemon(ctx(t), "d"))
	wantError(t, c.DelayDaemon(ctx(t), "d"), "node/a: daemon d: it is doomed, or a request to it is delayed already")
	if got := askWithin(t, 50*time.Millisecond, socket, "write\n"); got != "" {
		t.Errorf("a request that is held back: got the answer %q, want none", got)
	}
	if got := askWithin(t, patience, socket, "look\n"); got != "look\n" {
		t.Errorf("a request that overtakes it: got the answer %q, want %q", got, "look\n")
	}
	if written, err := os.ReadFile(state); err != nil || len(written) > 0 {
		t.Errorf("got %q, %v in the daemon's file before the request is delivered, want nothing", written, err)
	}
	check(t, c.DeliverDaemon(ctx(t), "d"))
	if written, err := os.ReadFile(state); err != nil || string(written) != "write\n" {
		t.Errorf("got %q, %v in the daemon's file, want the request that came late", written, err)
	}
	if got := askWithin(t, patience, socket, "write\n"); got != "write\n" {
		t.Errorf("afterwards: got the answer %q, want %q", got, "write\n")
	}
	// A daemon that ends meanwhile never gets it.
	check(t, c.DelayDaemon(ctx(t), "d"))
	check(t, c.StopDaemon(ctx(t), "d"))
	check(t, c.StartDaemon(ctx(t), args))
	wantError(t, c.DeliverDaemon(ctx(t), "d"), "node/a: daemon d: no request is delayed")
}

// echoEnv makes this binary run as a daemon in a directory.
const echoEnv = "CNITEST_TEST_ECHO"

// echo answers each line at a socket with the same line. It first writes lines that are "write" to a file.
func echo(dir string) error {
	_ = os.Remove(filepath.Join(dir, "socket"))
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return err
	}
	state, err := os.OpenFile(filepath.Join(dir, "state"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if lines.Text() == "write" {
					_, _ = fmt.Fprintln(state, lines.Text())
				}
				_, _ = fmt.Fprintln(conn, lines.Text())
			}
		}()
	}
}

func wantDaemon(tb testing.TB, c *agent.Client, want agent.DaemonState) {
	tb.Helper()
	got, err := c.Daemon(ctx(tb), "d")
	check(tb, err)
	if got != want {
		tb.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDaemon_that_does_not_do_its_part(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	for name, tt := range map[string]struct {
		args    agent.DaemonArgs
		wantErr string
	}{
		"no program": {agent.DaemonArgs{File: ready}, "node/a: daemon no program: want a program, got none"},
		"not there": {
			agent.DaemonArgs{Command: []string{"no-such-daemon"}, BinDirs: []string{dir}, File: ready},
			`node/a: daemon not there: exec: "no-such-daemon": executable file not found in $PATH, nor in ` + dir,
		},
		"ends at once": {
			agent.DaemonArgs{Command: script("echo why >&2; exit 3"), File: ready},
			"node/a: daemon ends at once: it ended before it was ready: exit status 3: why",
		},
		"never ready": {agent.DaemonArgs{
			Command: script("echo so far; sleep 1003"), File: ready, Within: time.Second,
		}, "node/a: daemon never ready: not ready after 1s: stat " + ready + ": no such file or directory: so far"},
		"stale sign": {agent.DaemonArgs{
			Command: script("sleep 1003"), File: filepath.Join(dir, "stale"),
			Within: 100 * time.Millisecond,
		}, "node/a: daemon stale sign: not ready after 100ms: stat " +
			filepath.Join(dir, "stale") + ": no such file or directory: "},
		"stays forever": {
			agent.DaemonArgs{
				Command: script("trap '' TERM; touch " + ready + "; sleep 1003; sleep 1003"),
				File:    ready, Within: 2 * time.Second,
			},
			"node/a: daemon stays forever: it did not end within 2s of SIGTERM and was killed: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, os.WriteFile(filepath.Join(dir, "stale"), nil, 0o644))
			tt.args.Name = name
			if tt.args.Within == 0 {
				tt.args.Within = patience
			}
			err := c.StartDaemon(ctx(t), tt.args)
			if err == nil {
				err = c.StopDaemon(ctx(t), name)
			}
			wantError(t, err, tt.wantErr)
			if left := processes("sleep 1003"); len(left) > 0 {
				t.Errorf("got %v, want nothing left of the group that was killed", left)
			}
		})
	}
}

func TestDaemon_ends_with_its_agent(t *testing.T) {
	c, end := serve(t, agent.Options{})
	ready := filepath.Join(t.TempDir(), "ready")
	check(t, c.StartDaemon(ctx(t), agent.DaemonArgs{
		Name: "d", Command: script("touch " + ready + "; sleep 1004; true"), File: ready, Within: patience,
	}))
	running(t, "sleep 1004")
	end()
	eventually(t, func() error {
		if left := processes("sleep 1004"); len(left) > 0 {
			return fmt.Errorf("got %v, want it to end", left)
		}
		return nil
	})
}

func TestDaemon_keeps_its_files_out_of_snapshots(t *testing.T) {
	tree := snapshot.FileTree{Name: "/var", FS: fstest.MapFS{
		"lib/d/state": {}, "lib/daemon": {}, "lib/other": {},
	}}
	c, _ := serve(t, agent.Options{Files: []snapshot.FileTree{tree}})
	ready := filepath.Join(t.TempDir(), "ready")
	check(t, c.StartDaemon(ctx(t), agent.DaemonArgs{
		Name: "d", Command: script("touch " + ready + "; sleep 1005"), File: ready, Within: patience,
		Owns: []string{"/var/lib/d"},
	}))
	defer func() { check(t, c.KillDaemon(ctx(t), "d")) }()
	state, err := c.Snapshot(ctx(t), agent.SnapshotArgs{Kinds: []string{snapshot.File}})
	check(t, err)
	var names []string
	for _, i := range state.Items {
		names = append(names, i.Name)
	}
	if got, want := strings.Join(names, " "), "/var /var/lib /var/lib/daemon /var/lib/other"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestServeMetadata(t *testing.T) {
	c := start(t)
	args := agent.MetadataArgs{Instance: metadata.Instance{ID: "i-1", Zone: "eu-central-1a"}}
	wantError(t, c.ServeMetadata(ctx(t), args), "node/a: metadata service: listen tcp4 169.254.169.254:80: bind: "+
		"cannot assign requested address")
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	addr := &netlink.Addr{IPNet: netlink.NewIPNet(netip.MustParseAddr(metadata.Address).AsSlice())}
	check(t, netlink.AddrAdd(lo, addr))
	defer func() { check(t, netlink.AddrDel(lo, addr)) }()
	for _, id := range []string{"i-1", "i-2"} {
		args.Instance.ID = id
		check(t, c.ServeMetadata(ctx(t), args))
		reply, err := http.Get("http://" + metadata.Address + "/latest/meta-data/instance-id")
		check(t, err)
		text, err := io.ReadAll(reply.Body)
		check(t, err)
		check(t, reply.Body.Close())
		if string(text) != id {
			t.Errorf("got %q, want %q", text, id)
		}
	}
}
