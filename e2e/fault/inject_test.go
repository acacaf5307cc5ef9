package fault_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// command returns a call of the test plugin with words that say what it does.
func command(dir string, words ...string) fault.Command {
	return fault.Command{
		Path: plugin("plugin"), Stdin: []byte("in"), Timeout: patience,
		Env: []string{"CNI_COMMAND=ADD", "CNI_ARGS=" + strings.Join(words, " "), "DIR=" + dir},
	}
}

// observe returns an undisturbed run that succeeds.
func observe(tb testing.TB, command fault.Command) fault.Trace {
	tb.Helper()
	trace, err := fault.Observe(ctx(tb), command)
	check(tb, err)
	if trace.Call.ExitCode != 0 || trace.Call.Failure != "" {
		tb.Fatalf("want success, got %s %s %s", trace.Call, trace.Call.Failure, trace.Call.Stdout)
	}
	return trace
}

func TestInject_kills_at_every_point(t *testing.T) {
	dir := directory(t)
	seen := observe(t, command(dir, "delegate"))
	// The files that exist after each point: the delegate works on one file.
	have := []string{
		"", "a-#", "a-#", "a-#", "a-#", "a-#", "a", "a ab", "a ab ac", "a ab ac ad", "a ab ac ad",
		"a ab ac", "a ab", "a", "", "",
	}
	if len(seen.Points) != len(have) {
		t.Fatalf("want %d points, got:\n%s", len(have), fault.Summary(seen.Points))
	}
	for i, p := range seen.Points {
		for _, when := range []fault.When{fault.Before, fault.After} {
			if !p.Kill {
				continue
			}
			dir := directory(t)
			trace, err := fault.Inject(ctx(t), command(dir, "delegate"), fault.Injection{Point: p, When: when})
			check(t, err)
			want := ""
			switch {
			case when == fault.After:
				want = have[i]
			case i > 0:
				want = have[i-1]
			}
			if got := names(t, dir); got != want {
				t.Errorf("%s %s: got the files %q, want %q", when, p, got, want)
			}
			if want := fmt.Sprintf("killed %s %s", when, trace.Hit); trace.Call.Failure != want || trace.Diverged ||
				!trace.Hit.Like(p) {
				t.Errorf("got %q, diverged %t, want %q", trace.Call.Failure, trace.Diverged, want)
			}
			answer := ""
			if when == fault.After && i == len(have)-1 {
				answer = "done in\n"
			}
			if trace.Call.Stdout != answer {
				t.Errorf("%s %s: got the answer %q, want %q", when, p, trace.Call.Stdout, answer)
			}
			wantAlone(t)
		}
	}
}

// names returns the files of a directory in one line.
func names(tb testing.TB, dir string) string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	check(tb, err)
	var list []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "a-") {
			name = "a-#"
		}
		list = append(list, name)
	}
	return strings.Join(list, " ")
}

func TestInject_fails(t *testing.T) {
	for _, tt := range []struct {
		words, what string
		errno       syscall.Errno
		want        string
		left        string
	}{
		{words: "files", what: "create ", errno: unix.ENOSPC, want: "files: open DIR/a-#: no space left on device\n"},
		{words: "files", what: "sync ", errno: unix.ENOSPC, want: "files: sync DIR/a-#: no space left on device\n"},
		{words: "link", what: "RTM_NEWLINK veth", errno: unix.EBUSY, want: "link: device or resource busy\n"},
		{words: "link", what: "RTM_NEWADDR", errno: unix.ENOMEM, want: "link: cannot allocate memory\n", left: "link one, link other"},
		{words: "unacked", what: "RTM_NEWLINK", errno: unix.ENODEV, want: "unacked: answer type 2 seq 7 error -19 about type 16, sent type 16\n"},
		// The other messages of the batch fail in the kernel, since the table does not exist.
		{words: "nft", what: "NEWTABLE", errno: unix.ENOMEM, want: "nft: conn.Receive: netlink receive: cannot " +
			"allocate memory\n" + strings.Repeat("netlink receive: no such file or directory\n", 3)},
		{words: "nft", what: "DELTABLE", errno: unix.EBUSY, want: "nft: conn.Receive: netlink receive: device or resource busy\n", left: "table one"},
		{words: "conntrack", what: "delete", errno: unix.ENOMEM, want: "conntrack: cannot allocate memory\n"},
		{words: "sysctl", what: "write /proc", errno: unix.ENODEV, want: "sysctl: write /proc/sys/net/ipv4/ip_forward: no such device\n"},
		{words: "ioctl", what: "SIOCSIFFLAGS", errno: unix.ENODEV, want: "ioctl: no such device\n"},
		{words: "mount", what: "mount", errno: unix.ENOMEM, want: "mount: cannot allocate memory\n"},
		{words: "unix", what: "connect", errno: unix.ENOENT, want: "unix: dial unix DIR/daemon.sock: connect: no such file or directory\n"},
		{words: "delegate", what: "exec", errno: unix.ENOMEM, want: "delegate: fork/exec BIN/delegate: cannot allocate memory\n"},
	} {
		t.Run(tt.words+" "+strings.TrimSpace(tt.what)+" "+unix.ErrnoName(tt.errno), func(t *testing.T) {
			dir := directory(t)
			listen(t, dir)
			seen := observe(t, command(dir, append([]string{tt.words}, map[string][]string{
				"mount": {"umount"},
			}[tt.words]...)...))
			i := slices.IndexFunc(seen.Points, func(p fault.Point) bool { return strings.Contains(p.What, tt.what) })
			trace, err := fault.Inject(ctx(t), command(dir, tt.words), fault.Injection{
				Point: seen.Points[i], When: fault.Fail, Errno: tt.errno,
			})
			check(t, err)
			got := strings.NewReplacer(dir, "DIR", os.Getenv(binEnv), "BIN").Replace(trace.Call.Stdout)
			if _, name, ok := strings.Cut(trace.Hit.What, "/a-"); ok {
				got = strings.ReplaceAll(got, "a-"+name, "a-#")
			}
			if got != tt.want || trace.Call.ExitCode != 1 || !trace.Told || trace.Diverged {
				t.Errorf("got %q, exit %d, told %t, diverged %t, want %q, exit 1, told", got, trace.Call.ExitCode,
					trace.Told, trace.Diverged, tt.want)
			}
			if got := sweep(t); got != tt.left {
				t.Errorf("got the leftovers %q, want %q", got, tt.left)
			}
			wantAlone(t)
		})
	}
}

// sweep removes the links and tables of the test plugin and returns their names.
func sweep(tb testing.TB) string {
	tb.Helper()
	var found []string
	links, err := netlinksafe.LinkList()
	check(tb, err)
	for _, l := range links {
		if name := l.Attrs().Name; name == "one" || name == "other" {
			found = append(found, "link "+name)
			_ = netlink.LinkDel(l) // the other end is removed with it
		}
	}
	conn, err := nftables.New()
	check(tb, err)
	tables, err := conn.ListTables()
	check(tb, err)
	for _, table := range tables {
		found = append(found, "table "+table.Name)
		conn.DelTable(table)
	}
	check(tb, conn.Flush())
	slices.Sort(found)
	return strings.Join(found, ", ")
}

func TestInject_another_way(t *testing.T) {
	dir := directory(t)
	points := observe(t, command(dir, "files")).Points
	t.Run("ended before", func(t *testing.T) {
		trace, err := fault.Inject(ctx(t), command(dir, "sysctl"), fault.Injection{
			Point: points[4], When: fault.Before,
		})
		check(t, err)
		if trace.Hit != nil || trace.Call.ExitCode != 0 || len(trace.Points) != 2 {
			t.Errorf("want no hit and success after 2 points, got %v, exit %d, points:\n%s", trace.Hit,
				trace.Call.ExitCode, fault.Summary(trace.Points))
		}
	})
	t.Run("another point", func(t *testing.T) {
		trace, err := fault.Inject(ctx(t), command(dir, "sysctl"), fault.Injection{
			Point: points[0], When: fault.Before,
		})
		check(t, err)
		want := "killed before 1 plugin write: write /proc/sys/net/ipv4/ip_forward = 1"
		if trace.Call.Failure != want || !trace.Diverged {
			t.Errorf("got %q, diverged %t, want %q, diverged", trace.Call.Failure, trace.Diverged, want)
		}
	})
}

func TestInject_refuses(t *testing.T) {
	point := fault.Point{Number: 3, Program: "p", Call: "fsync", What: "sync /x", Fail: true}
	for _, tt := range []struct {
		name string
		in   fault.Injection
		want string
	}{
		{name: "no time", in: fault.Injection{Point: point}, want: `fault: want "before", "after" or "fail", got ""`},
		{name: "kill with errno", in: fault.Injection{Point: point, When: fault.After, Errno: unix.EBUSY}, want: "fault: after takes no errno, got EBUSY"},
		{name: "fail without errno", in: fault.Injection{Point: point, When: fault.Fail}, want: "fault: want an errno from 1 to 4095, got 0"},
		{name: "errno too big", in: fault.Injection{Point: point, When: fault.Fail, Errno: 4096}, want: "fault: want an errno from 1 to 4095, got 4096"},
		{name: "no point", in: fault.Injection{When: fault.Before}, want: "fault: want a point from 1 on, got 0"},
		{name: "only to fail", in: fault.Injection{Point: point, When: fault.Before}, want: `fault: point 3 p fsync: sync /x is none for "before"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := fault.Inject(ctx(t), command(""), tt.in)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestPoint_Like(t *testing.T) {
	point := func(program, call, what string) fault.Point {
		return fault.Point{Program: program, Call: call, What: what}
	}
	for _, tt := range []struct {
		name string
		p, q fault.Point
		want bool
	}{
		{name: "another address", p: point("a", "c", "RTM_NEWADDR 10.0.0.2/16 dev eth0"), q: point("a", "c", "RTM_NEWADDR 10.0.0.3/16 dev eth0"), want: true},
		{name: "another temporary name", p: point("a", "c", "write /run/x/a-123"), q: point("a", "c", "write /run/x/a-98"), want: true},
		{name: "letters alone", p: point("a", "c", "RTM_SETLINK vethdeadbeef name eth0"), q: point("a", "c", "RTM_SETLINK vethcafebabe name eth0"), want: true},
		{name: "another file", p: point("a", "c", "write /run/x/lock"), q: point("a", "c", "write /run/x/last")},
		{name: "another program", p: point("a", "c", "write /run/x"), q: point("b", "c", "write /run/x")},
		{name: "another call", p: point("a", "c", "write /run/x"), q: point("a", "d", "write /run/x")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.Like(tt.q); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestHang(t *testing.T) {
	for _, words := range []string{"hang", "hangs", "files hangs"} {
		t.Run(words, func(t *testing.T) {
			c := command(directory(t), words)
			c.Timeout = 100 * time.Millisecond
			trace, err := fault.Observe(ctx(t), c)
			check(t, err)
			// On a busy machine more text may follow.
			want := regexp.MustCompile(`^killed after \S+ without an answer`)
			if !trace.Hung || !want.MatchString(trace.Call.Failure) || trace.Call.ExitCode != -1 {
				t.Errorf("got %q, hung %t, exit %d, want %q, hung, exit -1", trace.Call.Failure, trace.Hung,
					trace.Call.ExitCode, want)
			}
			wantAlone(t)
		})
	}
}

// At the same time runs are killed, an agent runs plugins and reaps orphans, and package os waits for its children:
// none gets another's.
func TestInject_beside_others(t *testing.T) {
	requests, answers := net.Pipe()
	go func() { _ = agent.Serve(requests, agent.Options{}) }()
	client := agent.NewClient("node/a", answers)
	defer client.Close()
	points := observe(t, command(directory(t), "delegate")).Points

	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for _, p := range slices.Concat(points, points, points) {
				own := fmt.Sprintf("/run/t%d", worker)
				err := errors.Join(os.RemoveAll(own), os.Mkdir(own, 0o755))
				if err == nil && p.Kill {
					_, err = killed(t, command(own, "delegate"), p)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 50 {
			call, err := client.Plugin(ctx(t), agent.PluginArgs{
				Plugin: "plugin", BinDirs: []string{os.Getenv(binEnv)}, Env: []string{"CNI_COMMAND=ADD"},
			})
			if err != nil || call.Failure != "" || call.ExitCode != 0 || call.Stdout != "done \n" {
				t.Errorf("want an undisturbed plugin, got %v %s", err, call)
			}
		}
	})
	group.Go(func() {
		for range 50 {
			call := cni.Exec(ctx(t), plugin("plugin"), nil, nil)
			if call.Failure != "" || call.ExitCode != 0 || call.Stdout != "done \n" {
				t.Errorf("want an undisturbed plugin, got %s %s", call, call.Failure)
			}
		}
	})
	group.Wait()
	wantAlone(t)
}

// killed returns a run that is killed after a point.
func killed(tb testing.TB, command fault.Command, point fault.Point) (fault.Trace, error) {
	tb.Helper()
	trace, err := fault.Inject(ctx(tb), command, fault.Injection{Point: point, When: fault.After})
	if err == nil && (trace.Diverged || trace.Call.Failure != fmt.Sprintf("killed after %s", trace.Hit)) {
		err = fmt.Errorf("want it killed after %s, got %q, diverged %t", point, trace.Call.Failure, trace.Diverged)
	}
	return trace, err
}
