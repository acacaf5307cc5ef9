package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/google/go-cmp/cmp"
)

// hostState contains what a run could leave on this machine. Other programs change the list of processes, so processes
// are recognised by their binary.
type hostState struct{ Links, Mounts, Namespaces, CNI, Temporary []string }

func readHostState(t *testing.T) hostState {
	t.Helper()
	var s hostState
	links, err := netlinksafe.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		s.Links = append(s.Links, l.Attrs().Name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	s.Mounts = strings.Split(string(mounts), "\n")
	for dir, names := range map[string]*[]string{"/run/netns": &s.Namespaces, "/var/lib/cni": &s.CNI} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			*names = append(*names, e.Name())
		}
	}
	slices.Sort(s.Links)
	// Tests make directories with other names there.
	if s.Temporary, err = filepath.Glob(filepath.Join(os.TempDir(), "cnitest-repeat-*")); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKill kills cnitest at moments distributed over a run: its nodes end with it, and nothing of them is left on this
// machine.
func TestKill(t *testing.T) {
	t.Parallel()
	bin := plugins(t)
	run := []string{"run", "--bin-dir", bin, "--scenario=[d-h]*", conflistName}
	for _, tt := range []struct {
		name  string
		args  []string
		until string        // a line of its output; empty means at once
		after time.Duration // after that line, or after the start
	}{
		{name: "at once", args: run},
		{name: "first cluster", args: run, until: " scenarios"},
		{name: "first attachments", args: run, until: " scenarios", after: 100 * time.Millisecond},
		{name: "scenarios", args: run, until: " scenarios", after: 700 * time.Millisecond},
		{name: "results", args: append([]string{"run", "--workers=1"}, run[1:]...), until: "^pass"},
		{name: "soak", args: []string{"run", "--bin-dir", bin, "--soak=1m", conflistName}, until: "a soak", after: 1500 * time.Millisecond},
		{name: "repeated run", args: []string{"run", "--bin-dir", bin, "--repeat=2", conflistName}, after: time.Second},
		{name: "benchmark", args: []string{"bench", "--bin-dir", bin, conflistName}, after: 3 * time.Second},
		{name: "lab", args: []string{"lab", "--bin-dir", bin, conflistName, "--", "sh", "-c", "echo here; sleep 100; : " + exeArgument}, until: "^here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, user bool) {
				before := readHostState(t)
				p := start(t, user, tt.args...)
				if tt.until != "" {
					p.until(t, tt.until)
				}
				// It waits for no event, since the moment is what varies.
				time.Sleep(tt.after)
				if err := p.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				// Check before its output is read to the end, which would only come when an orphan ends too.
				p.wantNoOrphans(t)
				if out, status := p.end(); status != 137 {
					t.Errorf("got status %d, want 137; output:\n%s%s", status, out, &p.stderr)
				}
				if diff := cmp.Diff(before, readHostState(t)); diff != "" {
					t.Errorf("left on this machine (-before +after):\n%s", diff)
				}
			})
		})
	}
}
