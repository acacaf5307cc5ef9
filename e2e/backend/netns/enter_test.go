package netns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
)

func listen(port uint16) probe.ListenSpec { return probe.ListenSpec{Protocol: probe.TCP, Port: port} }

func remove(tb testing.TB, dir string) {
	tb.Helper()
	check(tb, os.RemoveAll(dir))
}

// nodeEnv is the environment of programs on a node.
var nodeEnv = []string{"PATH=" + netns.BinDir + ":/usr/bin:/bin"}

// enter runs a script in a place and returns what it prints.
func enter(tb testing.TB, c cluster.Cluster, place *cluster.Place, argv ...string) (string, error) {
	tb.Helper()
	var out bytes.Buffer
	err := c.(netns.Enterer).Enter(ctx(tb), place, netns.Program{
		Argv: argv, Env: nodeEnv, Stdin: strings.NewReader("input\n"), Stdout: &out, Stderr: &out,
	})
	return out.String(), err
}

func TestEnter(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 2))
	pod := attach(t, c.Nodes()[1], "pod")
	// Repeat it more often than there are threads, so that every thread of this process could be used.
	for round := range 20 {
		for _, tt := range []struct {
			place *cluster.Place
			want  string
		}{
			{&c.Nodes()[0].Place, "a eno1 input"},
			{&c.Nodes()[1].Place, "b eno1 input"},
			{&pod, "b eth0 input"},
			{c.Hosts()["lan"], "fabric eth0 input"},
			{c.Hosts()["router"], "fabric eth0 eth1 input"},
		} {
			// /sys shows the links of the namespace in which it was mounted.
			got, err := enter(t, c, tt.place, "/bin/sh", "-c",
				`read line; echo $(uname -n) $(sed -n 's/^ *\(e[^:]*\):.*/\1/p' /proc/net/dev | sort) $line`)
			check(t, err)
			if got != tt.want+"\n" {
				t.Fatalf("round %d: %s: got %q, want %q", round, tt.place.Name, got, tt.want)
			}
		}
	}
	if name, err := os.Hostname(); name != "machine" {
		t.Errorf("got the name %q, %v, want this process where it was", name, err)
	}
	got, err := os.ReadFile("/opt/cni/" + hostFile)
	if diff := cmp.Diff("/opt/cni\n", string(got)); diff != "" {
		t.Errorf("this process' root (-want +got, %v):\n%s", err, diff)
	}
}

func TestEnter_finds_programs_on_the_node(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 1))
	// A plugin without CNI_COMMAND prints its name.
	got, err := enter(t, c, &c.Nodes()[0].Place, "macvlan")
	check(t, err)
	if !strings.HasPrefix(got, "CNI macvlan plugin") {
		t.Errorf("got %q, want the plugin to introduce itself", got)
	}
}

func TestEnter_error(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 1))
	place := &c.Nodes()[0].Place
	for _, tt := range []struct {
		name string
		argv []string
		want string
	}{
		{"nothing", nil, "enter node/a: want a program, got none"},
		{"not there", []string{"carrier-pigeon"}, `carrier-pigeon: executable file not found in $PATH: PATH is "/opt/cni/bin:/usr/bin:/bin"`},
		{"status", []string{"/bin/sh", "-c", "exit 3"}, "exit status 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := enter(t, c, place, tt.argv...); fmt.Sprint(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := &closer{after: "ready\n", do: cancel}
		err := c.(netns.Enterer).Enter(ctx, place, netns.Program{
			Argv: []string{"/bin/sh", "-c", "echo ready; exec sleep 1000"}, Env: nodeEnv, Stdout: out,
		})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Error() != "signal: terminated" {
			t.Errorf("got %v, want signal: terminated", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		check(t, c.Close())
		_, err := enter(t, c, place, "/bin/sh", "-c", "true")
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v, want that the node is no more", err)
		}
	})
}

// closer calls do after a write.
type closer struct {
	after string
	do    func()
	seen  strings.Builder
}

func (c *closer) Write(p []byte) (int, error) {
	if c.seen.Write(p); strings.Contains(c.seen.String(), c.after) {
		c.do()
	}
	return len(p), nil
}

func TestWayIn(t *testing.T) {
	c := start(t, request(t, macvlanConflist, 1))
	node := c.Nodes()[0]
	pod := attach(t, node, "pod")
	user := ""
	if os.Getenv(userEnv) != "" {
		user = "--user --preserve-credentials "
	}
	for _, tt := range []struct {
		place *cluster.Place
		want  string
		link  string
	}{
		{&node.Place, "nsenter --target PID " + user + "--mount --uts --ipc --pid --net", "eno1"},
		{&pod, "nsenter --target PID " + user + "--mount --uts --ipc --pid --net=/proc/PID/root/run/netns/pod", "eth0"},
		{c.Hosts()["lan"], "nsenter --target PID " + user + "--mount --uts --ipc --pid --net=/proc/PID/root/run/netns/lan", "eth0"},
	} {
		t.Run(tt.place.Name, func(t *testing.T) {
			line := c.(netns.Enterer).WayIn(tt.place)
			got := regexp.MustCompile(`(--target |/proc/)\d+`).ReplaceAllString(line, "${1}PID")
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if _, err := exec.LookPath("nsenter"); err != nil {
				t.Skip("no nsenter to try it with")
			}
			if user != "" {
				// The prefix is for the user's own namespace; this test is already inside.
				line = strings.Replace(line, user, "", 1)
			}
			argv := append(strings.Fields(line), "cat", "/proc/net/dev")
			out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.link+":") {
				t.Errorf("%s: want the link %s, got %v, %s", line, tt.link, err, out)
			}
		})
	}
}
