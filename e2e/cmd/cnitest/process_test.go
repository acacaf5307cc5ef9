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

// waitTime limits every wait of a test.
const waitTime = 3 * time.Minute

// The conflists in a process's directory: that of the route plugin, and macvlan alone.
const (
	conflistName = "net.conflist"
	plainName    = "plain.conflist"
)

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// exeArgument stands for the path of a process's binary in its arguments; other programs with it are recognised as the
// process's own.
const exeArgument = "EXE"

// process is a running cnitest whose output is read line by line.
type process struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr bytes.Buffer
	exe    string // its own name of the binary, by which its processes are recognised
}

// start starts cnitest in a separate directory, as nobody if user is true.
func start(t *testing.T, user bool, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{exe: filepath.Join(dir, "cnitest")}
	original, err := exec.LookPath("cnitest")
	if err != nil {
		t.Fatal(err)
	}
	// It is linked and not copied: a file that a test has written cannot be executed while another test forks
	// (execve(2), ETXTBSY).
	if err := os.Link(original, p.exe); err != nil {
		t.Fatal(err)
	}
	copyFile(t, routeConflist(t), filepath.Join(dir, conflistName))
	copyFile(t, "testdata/"+plainName, filepath.Join(dir, plainName))
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

// until reads to the line that matches and returns all lines up to it.
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

// end returns the rest of the output, and the status as a shell has it.
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

// family returns the running processes of the binary, and those that have its path among their arguments.
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

// wantNoOrphans waits until everything that p started has ended.
func (p *process) wantNoOrphans(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(waitTime)
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
