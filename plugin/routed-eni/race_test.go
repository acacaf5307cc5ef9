package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
)

// together runs a call per pod, all at once.
func together(l *lab, pods []*pod, of func(p *pod) call) {
	l.t.Helper()
	var wg sync.WaitGroup
	for _, p := range pods {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := l.node.Do(func(ns.NetNS) error {
				var out strings.Builder
				cmd := of(p).Cmd(pluginName)
				cmd.Stdout = &out
				err := cmd.Run()
				p.result = out.String()
				return err
			})
			if err != nil {
				l.t.Errorf("%s: %v: %s", p.id, err, p.result)
			}
		}()
	}
	wg.Wait()
}

// D03, LIF-1: fifty pods at once get fifty addresses, and all are released.
func TestFifty_at_once(t *testing.T) {
	const pods = 50
	interfaces := enis()
	for i := range interfaces {
		interfaces[i].pods = nil
		for ip, n := interfaces[i].own.Next(), 0; n < pods/2; ip, n = ip.Next(), n+1 {
			interfaces[i].pods = append(interfaces[i].pods, ip.String())
		}
	}
	l := newLab(t, interfaces...)
	l.start()
	bare := l.state()
	var all []*pod
	for i := range pods {
		all = append(all, l.pod(fmt.Sprint("p", i)))
	}
	together(l, all, func(p *pod) call { return l.addCall(p, nil) })
	state := l.state()
	for word, want := range map[string]int{"512:\t": pods, "1536:\t": pods / 2, "link eni": pods} {
		distinct := map[string]bool{}
		for line := range strings.Lines(lines(state, word)) {
			distinct[line] = true
		}
		if len(distinct) != want {
			t.Errorf("%q: got %d, want %d", word, len(distinct), want)
		}
	}
	for _, p := range []*pod{all[0], all[pods-1]} {
		wantError(t, l.check(p, nil), "")
		ip := netip.MustParsePrefix(parse(t,
			p.result)["ips"].([]any)[0].(map[string]any)["address"].(string)).Addr().String()
		l.mustReach(l.node, p.ns, ip, "10.0.0.10")
		l.mustReach(p.ns, l.vpc, "10.0.0.1", ip)
	}
	together(l, all, func(p *pod) call { return call{Command: "DEL", ID: p.id, Stdin: l.conf(nil)} })
	if diff := cmp.Diff(bare, l.state()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := l.assigned(); got != 0 {
		t.Errorf("got %d addresses assigned, want 0", got)
	}
}

// killAfter runs a call and kills it after a while. It reports whether it killed the call before its end, and how long
// the call took.
func (l *lab) killAfter(c call, after time.Duration) (killed bool, took time.Duration) {
	l.t.Helper()
	cmd := c.Cmd(pluginName)
	start := time.Now()
	err := l.node.Do(func(ns.NetNS) error {
		if err := cmd.Start(); err != nil {
			return err
		}
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		return cmd.Wait()
	})
	var exit *exec.ExitError
	killed = errors.As(err, &exit) && exit.ExitCode() == -1
	if err != nil && !killed {
		l.t.Fatalf("%s: %v", c.Command, err)
	}
	return killed, time.Since(start)
}

// F03, J04: an ADD, and each third time a DEL or a GC too, is killed at a moment that varies from round to round. The
// next DEL, or GC without any DEL, leaves node, pod and ipamd as they were, and a killed holder of the lock keeps
// nobody waiting (H05).
func TestKilled(t *testing.T) {
	const rounds = 90
	l := newLab(t)
	l.start()
	first, p := l.pod("first"), l.pod("p")
	l.mustAdd(first) // so that the next one is on the second ENI
	bare := l.state() + lines(stateOf(t, p.ns), "link", "route", "neigh")
	del, gc := call{Command: "DEL", ID: p.id, Netns: p.ns.Path(), Stdin: l.conf(nil)},
		call{Command: "GC", Stdin: l.conf(map[string]any{
			"cni.dev/valid-attachments": []any{map[string]any{"containerID": "first", "ifname": "eth0"}},
		})}
	whole := time.Minute
	for range 3 {
		_, took := l.killAfter(l.addCall(p, nil), time.Minute)
		whole = min(whole, took)
		wantError(t, l.silent(del), "")
	}
	killed, states := 0, map[string]bool{}
	// On a busy machine most of a call's time is spent waiting, and one pass interrupts it at few different points.
	for round := 0; round < rounds || len(states) < 5 && round < 4*rounds; round++ {
		moment := whole * time.Duration(round%rounds) / rounds
		if hit, _ := l.killAfter(l.addCall(p, nil), moment); hit {
			killed++
			states[fmt.Sprint(l.assigned(), l.state(), stateOf(t, p.ns))] = true
		}
		last := []call{del, gc}[round%2]
		if round%3 == 0 {
			l.killAfter(last, moment)
		}
		wantError(t, l.silent(last), "")
		if diff := cmp.Diff(bare, l.state()+lines(stateOf(t, p.ns), "link", "route", "neigh")); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		if got := l.assigned(); got != 1 {
			t.Fatalf("round %d: got %d addresses assigned, want that of the other pod", round, got)
		}
	}
	t.Logf("killed %d ADDs, which left %d different states", killed, len(states))
	if len(states) < 5 {
		t.Errorf("want at least 5 states in the middle of ADD, got %d", len(states))
	}
	wantError(t, l.check(first, nil), "")
}
