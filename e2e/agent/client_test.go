package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
)

// hang returns a program that does not end by itself. Tests recognise their own by the number of seconds.
func hang(seconds string) agent.CommandArgs {
	return agent.CommandArgs{Argv: []string{"/bin/sleep", seconds}, Timeout: time.Hour}
}

func TestClient_hello(t *testing.T) {
	got, err := start(t).Hello(ctx(t))
	check(t, err)
	name, err := os.Hostname()
	check(t, err)
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	check(t, err)
	if diff := cmp.Diff(agent.Hello{PID: 1, Hostname: name, Kernel: strings.TrimSpace(string(release))},
		got); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
}

func TestClient_many_at_once(t *testing.T) {
	c := start(t)
	var group errgroup.Group
	for i := range 200 {
		group.Go(func() error {
			want := fmt.Sprint(i)
			reply, err := c.Command(ctx(t), agent.CommandArgs{Argv: []string{"/bin/echo", "-n", want}})
			if err == nil && reply.Output != want {
				err = fmt.Errorf("got %q, want %q", reply.Output, want)
			}
			return err
		})
	}
	check(t, group.Wait())
}

func TestClient_context_ends_while_the_agent_works(t *testing.T) {
	c := start(t)
	reason := errors.New("enough")
	waiting, cancel := context.WithCancelCause(t.Context())
	pending := make(chan error, 1)
	go func() {
		_, err := c.Command(waiting, hang("1007"))
		pending <- err
	}()
	running(t, "sleep 1007")
	cancel(reason)
	// The program goes on: only the context ends the call.
	err := <-pending
	wantError(t, err, "node/a: enough")
	if !errors.Is(err, reason) {
		t.Errorf("got %v, want the reason", err)
	}
	killAll(t, "sleep 1007")
	// The agent still answers.
	_, err = c.Hello(ctx(t))
	check(t, err)
}

func TestClient_agent_ends(t *testing.T) {
	for _, tt := range []struct {
		name, seconds string
		end           func(c *agent.Client, end func())
	}{
		{"by itself", "1008", func(_ *agent.Client, end func()) { end() }},
		{"by Close", "1009", func(c *agent.Client, _ func()) { check(t, c.Close()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, end := serve(t, agent.Options{})
			_, err := c.Hello(ctx(t))
			check(t, err)
			pending := make(chan error, 1)
			go func() {
				_, err := c.Command(ctx(t), hang(tt.seconds))
				pending <- err
			}()
			running(t, "sleep "+tt.seconds)
			tt.end(c, end)
			err = <-pending
			wantError(t, err, "node/a: the agent has ended")
			_, err = c.Hello(ctx(t))
			wantError(t, err, "node/a: the agent has ended")
			if !errors.Is(err, agent.ErrEnded) {
				t.Errorf("got %v, want ErrEnded", err)
			}
			killAll(t, "sleep "+tt.seconds)
		})
	}
}

func TestClient_unknown_namespace(t *testing.T) {
	c := start(t)
	const want = `node/a: unknown FS magic on "/run/netns/none": `
	for name, call := range map[string]func(path string) error{
		"links": func(path string) error { _, err := c.Links(ctx(t), path); return err },
		"route": func(path string) error { _, err := c.Route(ctx(t), path, "10.0.0.1"); return err },
		"sysctl": func(path string) error {
			return c.SetSysctls(ctx(t), path, map[string]string{"net.ipv4.ip_forward": "1"})
		},
		"command": func(path string) error { return commandIn(ctx(t), c, path) },
	} {
		t.Run(name, func(t *testing.T) {
			err := call("/run/netns/none")
			wantError(t, err, `node/a: failed to Statfs "/run/netns/none": no such file or directory`)
			if err := call("/etc/passwd"); err == nil ||
				!strings.HasPrefix(err.Error(), strings.Replace(want, "/run/netns/none", "/etc/passwd", 1)) {
				t.Errorf("got %v, want that a file is no namespace", err)
			}
		})
	}
}

func commandIn(ctx context.Context, c *agent.Client, netns string) error {
	_, err := c.Command(ctx, agent.CommandArgs{Argv: []string{"/bin/true"}, Netns: netns})
	return err
}

func TestClient_nothing_of_that_number(t *testing.T) {
	c := start(t)
	_, err := c.StopFlow(ctx(t), 7)
	wantError(t, err, "node/a: flow 7: not running")
	_, err = c.StopCapture(ctx(t), 7)
	wantError(t, err, "node/a: capture 7: not running")
}
