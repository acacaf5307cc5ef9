package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
)

// H01: many first ADDs at once on a node without the child.
func TestColdStart(t *testing.T) {
	const pods = 50
	l := newLab(t)
	var all []*pod
	for i := range pods {
		all = append(all, l.pod(fmt.Sprintf("p%d", i), fmt.Sprintf("192.168.1.%d/16", i+2),
			fmt.Sprintf("fd00:20::1:%d/64", i+2)))
	}
	bare := l.state()
	for i, err := range together(l, all, func(p *pod) call {
		return call{Command: "ADD", ID: p.id, Netns: p.ns.Path(), Stdin: conf(map[string]any{"prevResult": p.prev()})}
	}) {
		if err != nil {
			t.Errorf("ADD %d: %v", i, err)
		}
	}
	state := l.state()
	for word, want := range map[string]int{
		"link eno1.host macvlan": 1, "route 192.168.1.": pods, "route fd00:20::1:": pods, "neigh": 2 * pods,
	} {
		if got := strings.Count(lines(state, word), "\n"); got != want {
			t.Errorf("%s: got %d, want %d", word, got, want)
		}
	}
	for _, p := range all[:5] {
		l.mustReach(l.node, p.ns, strings.TrimSuffix(p.ips[0], "/16"), "192.168.0.5")
	}
	for i, err := range together(l, all, func(p *pod) call {
		return call{Command: "DEL", ID: p.id, Stdin: conf(nil)}
	}) {
		if err != nil {
			t.Errorf("DEL %d: %v", i, err)
		}
	}
	if diff := cmp.Diff(bare, dropLines(l.state(), []string{"link eno1.host"})); diff != "" {
		t.Errorf("state after all DELs (-want +got):\n%s", diff)
	}
}

// together runs a call per pod, all at once.
func together(l *lab, pods []*pod, of func(p *pod) call) []error {
	results := make([]error, len(pods))
	var wg sync.WaitGroup
	for i, p := range pods {
		wg.Add(1)
		go func() {
			defer wg.Done()
			results[i] = l.node.Do(func(ns.NetNS) error {
				out, err := of(p).Cmd(pluginName).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
		}()
	}
	wg.Wait()
	return results
}

// H02: an ADD at the moment in which DEL or GC removes the last attachment.
func TestAdd_while_the_last_attachment_goes(t *testing.T) {
	l := newLab(t)
	last, first := l.pod("last", "192.168.1.2/16"), l.pod("first", "192.168.1.3/16")
	second := map[string]any{"name": "second"}
	for round := range 40 {
		if err := l.add(last, second); err != nil {
			t.Fatal(err)
		}
		calls := map[*pod]call{
			first: {
				Command: "ADD", ID: "first", Netns: first.ns.Path(),
				Stdin: conf(map[string]any{"prevResult": first.prev()}),
			},
			last: {Command: "GC", Stdin: conf(second)},
		}
		if round%2 == 0 {
			calls[last] = call{Command: "DEL", ID: "last", Stdin: conf(second)}
		}
		for _, err := range together(l, []*pod{first, last}, func(p *pod) call { return calls[p] }) {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		want := "link eno1.host macvlan mtu 1500 mode bridge address " + childMAC + " up\n" +
			"neigh 192.168.1.3 dev eno1.host lladdr " + podMAC("first", "eth0").String() +
			"\nroute 192.168.1.3/32 dev eno1.host src 192.168.0.5\n"
		if diff := cmp.Diff(want, lines(l.state(), "link eno1.host", "neigh", "route 192.168.1")); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		l.mustDel("first", nil)
		if err := l.gc(); err != nil {
			t.Fatal(err)
		}
		if got := lines(l.state(), "link eno1.host", "file"); got != "" {
			t.Fatalf("round %d: got %s, want nothing", round, got)
		}
	}
}

// F03: the runtime kills the plugin in the middle of ADD, and later in the middle of DEL. The next DEL cleans up, and a
// killed holder of the lock keeps nobody waiting (H05).
func TestKilled(t *testing.T) {
	const rounds = 80
	l := newLab(t)
	l.nic("eth9", "10.9.0.7/24")
	p := l.pod("a", "192.168.1.2/16", "fd00:20::102/64")
	other := l.pod("b", "192.168.1.3/16")
	bare := l.state()
	add := call{Command: "ADD", ID: "a", Netns: p.ns.Path(), Stdin: conf(map[string]any{"prevResult": p.prev()})}
	del := call{Command: "DEL", ID: "a", Netns: p.ns.Path(), Stdin: conf(nil)}
	whole := l.kill(add, time.Minute).took
	l.mustDel("a", nil)
	killed, states := 0, map[string]bool{}
	// On a busy machine most of a call's time is spent waiting, and one pass interrupts it at few different points.
	for round := 0; round < rounds || len(states) < 3 && round < 4*rounds; round++ {
		moment := whole * time.Duration(round%rounds) / (rounds * 3 / 4)
		if round%4 == 0 {
			if err := l.gc(); err != nil { // every fourth ADD makes the child
				t.Fatal(err)
			}
		}
		if l.kill(add, moment).killed {
			killed++
			states[dropLines(l.state(), []string{"link"})] = true
		}
		if round%3 == 0 {
			l.kill(del, moment)
		}
		if round%5 == 0 { // in between, other pods come and go
			l.mustAdd(other)
			l.mustDel("b", nil)
		}
		if _, err := l.run(del); err != nil {
			t.Fatalf("round %d: DEL: %s", round, err)
		}
		if diff := cmp.Diff(bare, dropLines(l.state(), []string{"link eno1.host"})); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		if got := hostRoutesOf(l, p); got != "" {
			t.Fatalf("round %d: in the pod got %s, want nothing", round, got)
		}
	}
	t.Logf("killed %d ADDs, which left %d different states", killed, len(states))
	if len(states) < 3 {
		t.Errorf("want at least 3 states in the middle of ADD, got %d", len(states))
	}
	if err := l.gc(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("state after GC (-want +got):\n%s", diff)
	}
}

type outcome struct {
	killed bool
	took   time.Duration
}

// kill runs a call and kills it after a while.
func (l *lab) kill(c call, after time.Duration) outcome {
	l.t.Helper()
	var o outcome
	l.inNode(func() error {
		cmd := c.Cmd(pluginName)
		start := time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		o.took = time.Since(start)
		timer.Stop()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == -1 {
			o.killed = true
			return nil
		}
		return err
	})
	return o
}
