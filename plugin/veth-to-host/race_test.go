package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// together makes one call for each pod, all at the same time.
func together(t *testing.T, n *labNode, pods []*pod, of func(p *pod) call) {
	t.Helper()
	var wg sync.WaitGroup
	for _, p := range pods {
		wg.Add(1)
		go func() {
			defer wg.Done()
			cmd := of(p).Cmd(pluginName)
			out := &output{}
			cmd.Stdout, cmd.Stderr = out, out
			err := n.start(cmd)
			if err == nil {
				err = cmd.Wait()
			}
			if err != nil {
				t.Errorf("%s: %v: %s", p.id, err, out)
			}
		}()
	}
	wg.Wait()
}

type output struct{ text []byte }

func (o *output) Write(b []byte) (int, error) {
	o.text = append(o.text, b...)
	return len(b), nil
}

func (o *output) String() string { return string(o.text) }

// H01, H04: a hundred first ADDs at the same time get a hundred tables, and only elements are added to the node's
// table.
func TestAdd_hundred_at_once(t *testing.T) {
	t.Parallel() // the kernel makes all of them wait when a link is deleted
	const pods = 100
	l := newLab(t)
	var all []*pod
	for i := range pods {
		all = append(all, l.pod(l.node1, fmt.Sprintf("p%d", i), 20+i, bridgeMode))
	}
	bare := l.node1.state(t)
	together(t, l.node1, all, func(p *pod) call { return p.call("ADD") })
	state := l.node1.state(t)
	tables := map[string]bool{}
	rules := regexp.MustCompile(`rule 1024 false iif "veth[0-9a-f]{8}" mark 0x0 lookup (\d+)`)
	for _, match := range rules.FindAllStringSubmatch(state, -1) {
		tables[match[1]] = true
	}
	if len(tables) != pods {
		t.Errorf("got %d tables, want %d", len(tables), pods)
	}
	if got := len(regexp.MustCompile(`(?m)^nft `+nodeTableName+` 7 `).FindAllString(state, -1)); got != 20 {
		t.Errorf("got %d rules in the node's table, want 20", got)
	}
	for _, p := range []*pod{all[0], all[pods-1]} {
		serve(t, p.ns, p.id)
		got, want := ask(l.node1.ns, "tcp", p.addr().String(), endpointPort), p.id+" sees 10.10.20.152"
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if _, err := l.node1.run(t, p.call("CHECK")); err != nil {
			t.Error(err)
		}
	}
	together(t, l.node1, all, func(p *pod) call {
		return call{Command: "DEL", ID: p.id, Netns: p.ns.Path(), Stdin: conf()}
	})
	if diff := cmp.Diff(bare, l.node1.state(t)); diff != "" {
		t.Errorf("state after all DELs (-want +got):\n%s", diff)
	}
}

// kill starts a call and kills it after a time. It reports whether the call was still running, and how long it took.
func (n *labNode) kill(c call, after time.Duration) (killed bool, took time.Duration, err error) {
	cmd := c.Cmd(pluginName)
	start := time.Now()
	if err := n.start(cmd); err != nil {
		return false, 0, err
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 {
		return true, time.Since(start), nil
	}
	return false, time.Since(start), err
}

// F03: an ADD, and each third time a DEL too, is killed at a moment that advances from one to the next. The next DEL
// leaves node and pod as they were, and a killed process that held the lock blocks nobody (H05).
func TestKilled(t *testing.T) {
	t.Parallel() // the kernel makes all of them wait when a link is deleted
	const rounds = 60
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	bare, barePod := l.node1.state(t), state(t, p.ns)
	whole := time.Minute
	for range 3 {
		_, took, err := l.node1.kill(p.call("ADD"), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		whole = min(whole, took)
		l.node1.mustDel(t, p.call("DEL"))
	}
	killed, states := 0, map[string]bool{}
	// On a busy machine a call spends most of its time waiting, so one pass covers few of its moments.
	for round := 0; round < rounds || len(states) < 5 && round < 4*rounds; round++ {
		moment := whole * time.Duration(round%rounds) / rounds
		hit, _, err := l.node1.kill(p.call("ADD"), moment)
		if err != nil {
			t.Fatal(err)
		}
		if hit {
			killed++
			states[withoutHandles(l.node1.state(t)+state(t, p.ns))] = true
		}
		if round%3 == 0 {
			if _, _, err := l.node1.kill(p.call("DEL"), moment); err != nil {
				t.Fatal(err)
			}
		}
		c := p.call("DEL")
		if round%2 == 0 {
			c.Stdin = conf()
		}
		l.node1.mustDel(t, c)
		if diff := cmp.Diff([]string{bare, barePod}, []string{l.node1.state(t), state(t, p.ns)}); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
	}
	t.Logf("killed %d ADDs, which left %d different states", killed, len(states))
	if len(states) < 5 {
		t.Errorf("want at least 5 states in the middle of ADD, got %d", len(states))
	}
}

// Five hundred pods come and go; a third of the ADDs are killed and then deleted. Only the one setting that the first
// of them made stays.
func TestChurn(t *testing.T) {
	t.Parallel() // the kernel makes all of them wait when a link is deleted
	const cycles, workers = 500, 4
	l := newLab(t)
	var pods []*pod
	for i := range workers {
		pods = append(pods, l.pod(l.node1, fmt.Sprintf("p%d", i), 50+i, bridgeMode))
	}
	l.node1.in(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/conf/"+uplink+"/src_valid_mark", []byte("1"), 0)
	})
	bare := []string{l.node1.state(t)}
	for _, p := range pods {
		bare = append(bare, state(t, p.ns))
	}
	var wg sync.WaitGroup
	for w, p := range pods {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range cycles / workers {
				after := time.Minute
				if i%3 == 0 {
					after = time.Duration(i%40) * time.Millisecond
				}
				add := p.call("ADD")
				add.ID = fmt.Sprintf("w%d-%d", w, i)
				if _, _, err := l.node1.kill(add, after); err != nil {
					t.Errorf("%s: ADD: %v", add.ID, err)
				}
				del := call{Command: "DEL", ID: add.ID, Netns: p.ns.Path(), Stdin: conf()}
				if _, _, err := l.node1.kill(del, time.Minute); err != nil {
					t.Errorf("%s: DEL: %v", add.ID, err)
				}
			}
		}()
	}
	wg.Wait()
	got := []string{l.node1.state(t)}
	for _, p := range pods {
		got = append(got, state(t, p.ns))
	}
	if diff := cmp.Diff(bare, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
