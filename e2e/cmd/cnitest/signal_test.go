package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waitTime bounds whatever a test waits for.
const waitTime = 30 * time.Second

// The conflists in a process's directory: that of the route plugin, and macvlan alone.
const (
	conflistName = "net.conflist"
	plainName    = "plain.conflist"
)

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// exeArgument stands for the path of a process's binary in its arguments: so marked, other programs are known as its own.
const exeArgument = "EXE"

// process is a running cnitest whose output is read line by line.
type process struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr bytes.Buffer
	exe    string // its own copy of the binary, which tells its processes from others
}

// start starts cnitest in a directory of its own, as nobody where user is true.
func start(t *testing.T, user bool, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{exe: filepath.Join(dir, "cnitest")}
	original, err := exec.LookPath("cnitest")
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, original, p.exe, 0o755)
	copyFile(t, routeConflist(t), filepath.Join(dir, conflistName), 0o644)
	copyFile(t, "testdata/"+plainName, filepath.Join(dir, plainName), 0o644)
	p.Cmd = exec.Command(p.exe)
	for _, arg := range args {
		p.Args = append(p.Args, strings.ReplaceAll(arg, exeArgument, p.exe))
	}
	if user {
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	p.Dir = dir
	p.Stderr = &p.stderr
	// A process that outlives its parent must not keep Wait waiting.
	p.WaitDelay = time.Second
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(waitTime, func() { _ = p.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

// until reads to the line that matches and returns all up to it.
func (p *process) until(t *testing.T, pattern string) []string {
	t.Helper()
	var seen []string
	re := regexp.MustCompile(pattern)
	for p.lines.Scan() {
		seen = append(seen, p.lines.Text())
		if re.MatchString(p.lines.Text()) {
			return seen
		}
	}
	t.Fatalf("no line %q; got:\n%s\n%s", pattern, strings.Join(seen, "\n"), &p.stderr)
	return nil
}

// end is the rest of the output, and the status as a shell has it.
func (p *process) end() (string, int) {
	var rest strings.Builder
	for p.lines.Scan() {
		fmt.Fprintln(&rest, p.lines.Text())
	}
	_ = p.Wait()
	w := p.ProcessState.Sys().(syscall.WaitStatus)
	if w.Signaled() {
		return rest.String(), signalStatus + int(w.Signal())
	}
	return rest.String(), w.ExitStatus()
}

// family are the running processes of the binary, and those that bear its path among their arguments.
func (p *process) family() []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		// Both fail for a process that has just ended.
		exe, _ := os.Readlink(dir + "/exe")
		args, _ := os.ReadFile(dir + "/cmdline")
		if exe == p.exe || strings.Contains(string(args), p.exe) {
			found = append(found, dir)
		}
	}
	return found
}

// wantNoOrphans waits for the end of everything that p started.
func (p *process) wantNoOrphans(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := p.family()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got processes %v, want none", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// eachUser runs a test as root in the tests, and as nobody, who needs a user namespace.
func eachUser(t *testing.T, do func(t *testing.T, user bool)) {
	for _, tt := range []struct {
		name string
		user bool
	}{{"as this user", false}, {"as nobody", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.user && os.Geteuid() != 0 {
				t.Skip("want root, to become nobody")
			}
			do(t, tt.user)
		})
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	bin := plugins(t)
	for _, tt := range []struct {
		name    string
		args    []string
		until   string // a line of its output
		signal  syscall.Signal
		want    int
		wantErr string // of all that stands on stderr
	}{
		{
			name: "interrupt of a run", args: []string{"run", "--bin-dir", bin, "--report-dir", "out", conflistName},
			until: "^pass ", signal: syscall.SIGINT, want: 130,
			wantErr: `^cnitest: interrupted after \d+ of \d+ scenarios and \d+\.\ds: .*\d+ pass.*; half a run has no verdict and no report\n$`,
		},
		{
			name: "termination of a run at its start", args: []string{"run", "--bin-dir", bin, conflistName},
			until: "scenarios$", signal: syscall.SIGTERM, want: 143,
			wantErr: `^cnitest: terminated after \d+ of \d+ scenarios and \d+\.\ds: .*; half a run has no verdict and no report\n$`,
		},
		{
			name: "termination of a repeated run", args: []string{"run", "--bin-dir", bin, "--repeat=3", "--scenario=cache-cleanup", conflistName},
			until: "^run 1 of 3", signal: syscall.SIGTERM, want: 143,
			// The run itself may have had the time to say something.
			wantErr: `cnitest: terminated in run 2 of 3\n$`,
		},
		{
			name: "interrupt of a lab's command", args: []string{"lab", "--bin-dir", bin, conflistName, "--", "sh", "-c", "echo here; sleep 100"},
			until: "^here$", signal: syscall.SIGINT, want: 130,
			wantErr: `^cnitest: lab: interrupted\n$`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, user bool) {
				p := start(t, user, tt.args...)
				p.until(t, tt.until)
				if err := p.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
				rest, got := p.end()
				if got != tt.want {
					t.Errorf("got status %d, want %d; output:\n%s%s", got, tt.want, rest, &p.stderr)
				}
				if !regexp.MustCompile(tt.wantErr).MatchString(p.stderr.String()) {
					t.Errorf("got stderr %q, want %q", &p.stderr, tt.wantErr)
				}
				if strings.Contains(rest, "fail") || strings.Contains(rest, "verdict") {
					t.Errorf("got results after the signal:\n%s", rest)
				}
				if _, err := os.Stat(filepath.Join(p.Dir, "out/report.json")); err == nil {
					t.Error("got a report of half a run, want none")
				}
				p.wantNoOrphans(t)
			})
		})
	}
}

func TestKeepOnFailure(t *testing.T) {
	t.Parallel()
	bin := plugins(t)
	eachUser(t, func(t *testing.T, user bool) {
		p := start(t, user, "run", "--bin-dir", bin, "--scenario", "host-to-pod", "--keep-on-failure", plainName)
		seen := strings.Join(p.until(t, `^Ctrl-C ends it\.$`), "\n")
		if !strings.Contains(seen, "fail            host-to-pod") || !strings.Contains(seen, "the lab of host-to-pod is open; enter it from another terminal, as") {
			t.Errorf("got:\n%s", seen)
		}
		ways := regexp.MustCompile(`(?m)^  (\S+) +(nsenter .*)$`).FindAllStringSubmatch(seen, -1)
		wantIn := map[string]string{"node/a": "eth0", "pod/server@a": "eth0", "host/lan": "eth0", "host/router": "eth1"}
		for _, way := range ways {
			if _, ok := wantIn[way[1]]; ok {
				wantInterface(t, user, way[2], wantIn[way[1]])
				delete(wantIn, way[1])
			}
		}
		if len(wantIn) > 0 {
			t.Errorf("got no way into %v:\n%s", wantIn, seen)
		}
		// Itself, a node and the fabric at least; otherwise a search for orphans finds nothing ever.
		if got := len(p.family()); got < 3 {
			t.Errorf("got %d processes, want 3 or more", got)
		}
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if rest, got := p.end(); got != 130 || rest != "" {
			t.Errorf("got status %d and %q, want 130 and no output", got, rest)
		}
		want := `^cnitest: interrupted after 1 of 1 scenarios and \d+\.\ds: 1 fail; half a run has no verdict and no report\n$`
		if !regexp.MustCompile(want).MatchString(p.stderr.String()) {
			t.Errorf("got stderr %q, want %q", &p.stderr, want)
		}
		p.wantNoOrphans(t)
	})
}

// wantInterface goes a way into a place and looks around there.
func wantInterface(t *testing.T, user bool, way, name string) {
	t.Helper()
	argv := append(strings.Fields(way), "cat", "/proc/net/dev")
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Logf("%s is not tried: %v", way, err)
		return
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	if user {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), name+":") {
		t.Errorf("%s: %v: got\n%s\nwant an interface %s", way, err, out, name)
	}
}

func TestRepeatFindsDifference(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for _, name := range []string{"macvlan", "host-local", "route"} {
		if err := os.Link(filepath.Join(plugins(t), name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, false, "run", "--bin-dir", bin, "--repeat=3", "--scenario=cache-cleanup", conflistName)
	p.until(t, "^run 1 of 3: conformant, 4 pass")
	// From now on route is a plugin that does nothing and says so.
	fake := filepath.Join(t.TempDir(), "route")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho '{\"cniVersion\":\"0.4.0\",\"code\":50,\"msg\":\"broken\"}'\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fake, filepath.Join(bin, "route")); err != nil {
		t.Fatal(err)
	}
	rest, got := p.end()
	if got != exitNotConformant || !strings.Contains(rest, "run 2 of 3: not-conformant") || strings.Contains(rest, "run 3") {
		t.Errorf("got status %d and\n%s\nwant 1 after the second run", got, rest)
	}
	for _, want := range []string{"cnitest: run 2 differs from the first:\n", "cnitest: want cache-cleanup (chain): pass\n", "cnitest: got  cache-cleanup (route): fail\n"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("got stderr\n%s\nwant %q", &p.stderr, want)
		}
	}
}

func TestBrokenPipe(t *testing.T) {
	cnitest, err := exec.LookPath("cnitest")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer w.Close()
	var stderr bytes.Buffer
	cmd := exec.Command(cnitest, "list", "scenarios")
	cmd.Stdout, cmd.Stderr = w, &stderr
	_ = cmd.Run()
	if got := cmd.ProcessState.String(); got != "signal: broken pipe" || stderr.Len() > 0 {
		t.Errorf("got %s and %q, want a broken pipe and no words", got, &stderr)
	}
}
