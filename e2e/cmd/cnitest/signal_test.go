package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/report"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	bin := plugins(t)
	for _, tt := range []struct {
		name    string
		args    []string
		until   string        // a line of its output; empty means none
		after   time.Duration // after that line, or after the start
		signal  syscall.Signal
		want    int
		wantErr string // of everything on stderr
		// wantNote is a part of the notes in the report of a run that the signal ended.
		wantNote string
	}{
		{
			// The longest comes first, and Ginkgo then waits for another.
			name: "interrupt of a run", args: []string{
				"run", "--bin-dir", bin, "--workers=1", "--scenario=c[ao]*", "--report-dir=out", conflistName,
			},
			until: "^pass ", signal: syscall.SIGINT, want: 130,
			wantErr:  `^cnitest: interrupted by SIGINT\n$`,
			wantNote: `^interrupted by SIGINT after [1-9]\d* of \d+ scenarios and requirements$`,
		},
		{
			name: "termination of a run at its start", args: []string{
				"run", "--bin-dir", bin, "--report-dir=out", conflistName,
			},
			until: "scenarios, ", signal: syscall.SIGTERM, want: 143,
			wantErr:  `^cnitest: interrupted by SIGTERM\n$`,
			wantNote: `^interrupted by SIGTERM after \d+ of \d+ scenarios and requirements$`,
		},
		{
			name: "interrupt of a soak", args: []string{
				"run", "--bin-dir", bin, "--soak=1m", "--report-dir=out", conflistName,
			},
			until: "a soak", signal: syscall.SIGINT, want: 130,
			wantErr:  `^cnitest: interrupted by SIGINT\n$`,
			wantNote: `^interrupted by SIGINT after 0 of 1 scenarios and requirements$`,
		},
		{
			name: "termination of a repeated run", args: []string{
				"run", "--bin-dir", bin, "--repeat=3", "--scenario=cache-cleanup", conflistName,
			},
			until: "^run 1 of 3", signal: syscall.SIGTERM, want: 143,
			// The run itself may have had time to print something.
			wantErr: `cnitest: interrupted by SIGTERM in run 2 of 3\n$`,
		},
		{
			// It prints tables when it ends.
			name: "interrupt of a benchmark", args: []string{"bench", "--bin-dir", bin, "--out=out", conflistName},
			after: 4 * time.Second, signal: syscall.SIGINT, want: 130,
			wantErr: `cnitest: bench: interrupted by SIGINT\n$`,
		},
		{
			name: "interrupt of a lab's command", args: []string{
				"lab", "--bin-dir", bin, conflistName, "--", "sh", "-c", "echo here; sleep 100",
			},
			until: "^here$", signal: syscall.SIGINT, want: 130,
			wantErr: `^cnitest: lab: interrupted by SIGINT\n$`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, user bool) {
				p := start(t, user, tt.args...)
				if tt.until != "" {
					p.until(t, tt.until)
				}
				time.Sleep(tt.after)
				if err := p.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
				start := machinetime.Start()
				rest, got := p.end()
				if took := start.Given(); took > 5*time.Second {
					t.Errorf("got an end after %s, want one soon", took)
				}
				if got != tt.want {
					t.Errorf("got status %d, want %d; output:\n%s%s", got, tt.want, rest, &p.stderr)
				}
				if !regexp.MustCompile(tt.wantErr).MatchString(p.stderr.String()) {
					t.Errorf("got stderr %q, want %q", &p.stderr, tt.wantErr)
				}
				if strings.Contains(rest, "fail") {
					t.Errorf("got failures after the signal:\n%s", rest)
				}
				if tt.wantNote != "" {
					wantPartial(t, filepath.Join(p.Dir, "out"), tt.wantNote)
					if !strings.Contains(rest, "verdict: partial ") {
						t.Errorf("got no summary after the signal:\n%s", rest)
					}
				}
				p.wantNoOrphans(t)
			})
		})
	}
}

// wantPartial checks the documents of a run that a signal ended.
func wantPartial(t *testing.T, dir, note string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Verdict != report.Partial {
		t.Errorf("got verdict %s, want partial", r.Verdict)
	}
	if !slices.ContainsFunc(r.Notes, regexp.MustCompile(note).MatchString) {
		t.Errorf("got notes %q, want %s", r.Notes, note)
	}
	states := junitStates(t, filepath.Join(dir, "junit.xml"))
	for _, result := range r.Results {
		switch {
		case result.Result == report.Fail:
			t.Errorf("got fail of %s: %s", result.ID, result.Reason)
		case result.Result == report.Pass && result.Kind == "scenario" && states[result.ID] != "passed":
			t.Errorf("junit.xml: got %s %q, want passed as in the report", result.ID, states[result.ID])
		}
	}
}

// junitStates returns the states of specs by their name.
func junitStates(t *testing.T, path string) map[string]string {
	t.Helper()
	var document struct {
		Suites []struct {
			Cases []struct {
				Name  string `xml:"name,attr"`
				State string `xml:"status,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = xml.Unmarshal(data, &document)
	}
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, suite := range document.Suites {
		for _, c := range suite.Cases {
			// "[It] default del-twice [core, CleanUp]"
			if words := strings.Fields(c.Name); len(words) > 2 {
				states[words[2]] = c.State
			}
		}
	}
	return states
}

func TestKeepOnFailure(t *testing.T) {
	t.Parallel()
	bin := plugins(t)
	eachUser(t, func(t *testing.T, user bool) {
		p := start(t, user, "run", "--bin-dir", bin, "--scenario", "host-to-pod", "--keep-on-failure",
			"--report-dir=out", plainName)
		seen := strings.Join(p.until(t, `^Ctrl-C ends it\.$`), "\n")
		if !strings.Contains(seen, "fail            host-to-pod") ||
			!strings.Contains(seen, "the lab of host-to-pod is open; enter it from another terminal, as") {
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
		// At least itself, a node and the fabric; otherwise a search for orphans could never find one.
		if got := len(p.family()); got < 3 {
			t.Errorf("got %d processes, want 3 or more", got)
		}
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		rest, got := p.end()
		if got != 130 || p.stderr.String() != "cnitest: interrupted by SIGINT\n" {
			t.Errorf("got status %d and %q, want 130 and one line", got, &p.stderr)
		}
		for _, want := range []string{
			"verdict: not-conformant ",
			"note: interrupted by SIGINT after 1 of 1 scenarios and requirements\n", "failed: host-to-pod\n",
		} {
			if !strings.Contains(rest, want) {
				t.Errorf("got\n%s\nwant %q", rest, want)
			}
		}
		// Failures before the signal are reported as usual.
		if _, err := os.Stat(filepath.Join(p.Dir, "out/evidence/host-to-pod.txt")); err != nil {
			t.Error(err)
		}
		p.wantNoOrphans(t)
	})
}

// wantInterface enters a place with a command and checks its interfaces.
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
	p.until(t, "^run 1 of 3: conformant, 3 pass")
	// From now on route is a plugin that does nothing and reports it.
	fake := filepath.Join(t.TempDir(), "route")
	if err := os.WriteFile(fake,
		[]byte("#!/bin/sh\necho '{\"cniVersion\":\"0.4.0\",\"code\":50,\"msg\":\"broken\"}'\nexit 1\n"),
		0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fake, filepath.Join(bin, "route")); err != nil {
		t.Fatal(err)
	}
	rest, got := p.end()
	if got != exitNotConformant || !strings.Contains(rest, "run 2 of 3: not-conformant") ||
		strings.Contains(rest, "run 3") {
		t.Errorf("got status %d and\n%s\nwant 1 after the second run", got, rest)
	}
	for _, want := range []string{
		"cnitest: run 2 differs from the first:\n",
		"cnitest: want cache-cleanup (chain): pass\n", "cnitest: got  first-attachment (route): fail\n",
		"cnitest: run 2 had another binary of route (",
	} {
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
