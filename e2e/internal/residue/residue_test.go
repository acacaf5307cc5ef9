package residue

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

func added(kind, name, text string) snapshot.Change {
	return snapshot.Change{Op: snapshot.Added, Item: snapshot.Item{Kind: kind, Name: name, Text: text}}
}

func changed(kind, name, before, text string) snapshot.Change {
	return snapshot.Change{
		Op:     snapshot.Changed,
		Before: before,
		Item:   snapshot.Item{Kind: kind, Name: name, Text: text},
	}
}

func TestCanStay(t *testing.T) {
	for _, tt := range []struct {
		change snapshot.Change
		want   bool
	}{
		{added(snapshot.Link, "cni0", "bridge"), true},
		{snapshot.Change{Op: snapshot.Removed, Item: snapshot.Item{Kind: snapshot.Link, Name: "eno1"}}, false},
		{changed(snapshot.Sysctl, "net.ipv4.ip_forward", "0", "1"), true},
		{changed(snapshot.Link, "eno1", "mtu 1500", "mtu 1500 promiscuity 1"), true},
		{changed(snapshot.Link, "eno1", "mtu 1500", "mtu 1400"), false},
		{changed(snapshot.File, "/var/lib/cni/networks/net/last_reserved_ip.0", "a", "b"), true},
		{changed(snapshot.File, "/etc/hosts", "a", "b"), false},
	} {
		if got := canStay(tt.change); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.change, got, tt.want)
		}
	}
}

func TestItemName(t *testing.T) {
	for _, tt := range []struct {
		change snapshot.Change
		want   string
	}{
		{added(snapshot.Link, "cni0", "bridge"), "link cni0"},
		{changed(snapshot.File, "/var/lib/cni/x", "a", "b"), "file /var/lib/cni/x: other content"},
		{changed(snapshot.Sysctl, "net.ipv4.ip_forward", "0", "1"), "sysctl net.ipv4.ip_forward: 0 -> 1"},
		{changed(snapshot.Link, "eno1", "mtu 1500 up", "mtu 1500 up promiscuity 1"), "link eno1:  -> promiscuity 1"},
	} {
		if got := itemName(tt.change); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.change, got, tt.want)
		}
	}
}

// TestResidue_add has two nodes: what only a first pod leaves is residue, once for both; what each pod leaves grows and
// is not residue.
func TestResidue_add(t *testing.T) {
	bridge, lock, rule := added(
		snapshot.Link,
		"cni0",
		"bridge",
	), added(
		snapshot.File,
		"/run/lock",
		"",
	), added(
		snapshot.Rule,
		"inet 100",
		"from all",
	)
	found := &residue{makers: map[string]string{}}
	for range 2 {
		state := &environment.NodeState{}
		state.Learn("bridge", []snapshot.Change{bridge})
		state.Learn("leaky", []snapshot.Change{rule})
		found.add(state, []snapshot.Change{bridge, lock, rule}, []snapshot.Change{rule})
	}
	if diff := cmp.Diff(found.list, []report.Residue{
		{Plugin: "bridge", Item: "link cni0", Change: bridge.String()},
		{Plugin: report.Chain, Item: "file /run/lock", Change: lock.String()},
	}); diff != "" {
		t.Errorf("residue, got, want:\n%s", diff)
	}
	if diff := cmp.Diff(found.beyond([]snapshot.Change{bridge, rule, lock, lock}),
		[]snapshot.Change{rule, lock}); diff != "" {
		t.Errorf("beyond the residue, got, want:\n%s", diff)
	}
	if got := found.maker(rule) + " " + found.maker(lock); got != "leaky chain" {
		t.Errorf("makers: got %s, want leaky and chain", got)
	}
}

func TestTracker_Results(t *testing.T) {
	like := report.Result{ID: "LEFT", Kind: "requirement"}
	outcomes := func(tracker *Tracker) []string {
		var got []string
		for _, r := range tracker.Results(like, []string{"route", "bridge"}) {
			got = append(got, r.ID+" "+r.Plugin+" "+string(r.Result)+": "+r.Reason)
		}
		return got
	}
	tracker := New(Config{})
	for _, tt := range []struct {
		name string
		do   func()
		want []string
	}{
		{"no scenario", func() {}, []string{
			"LEFT bridge skipped: no scenario ran to its end", "LEFT route skipped: no scenario ran to its end",
		}},
		{"nothing left", func() { tracker.keepLeftovers("cache-cleanup", nil) }, []string{"LEFT bridge pass: ", "LEFT route pass: "}},
		{"a node that could not be compared, and something left", func() {
			tracker.keepUncompared("reboot", errors.New("node/a: the agent has ended"))
			added := func(kind, name string) snapshot.Change {
				return snapshot.Change{Op: snapshot.Added, Item: snapshot.Item{Kind: kind, Name: name}}
			}
			tracker.keepLeftovers("del-twice", []leftover{
				{"del-twice", "node/b", "tuning", added(snapshot.Sysctl, "x")},
				{"reboot", "node/a", "route", added(snapshot.Address, "of y")},
				{"reboot", "node/a", "route", added(snapshot.Link, "y")},
			})
		}, []string{
			"LEFT bridge skipped: nodes could not be compared with their earlier state: reboot: node/a: the agent has ended",
			"LEFT route fail: 2 objects stayed behind after everything was deleted twice; first in reboot on node/a: + link y",
			"LEFT tuning fail: 1 objects stayed behind after everything was deleted twice; first in del-twice on node/b: + sysctl x",
		}},
	} {
		tt.do()
		if diff := cmp.Diff(outcomes(tracker), tt.want); diff != "" {
			t.Errorf("%s, got, want:\n%s", tt.name, diff)
		}
	}
	if got, want := tracker.Left("reboot"), "node/a route + address of y\nnode/a route + link y\nnode/a: the agent has ended"; got != want {
		t.Errorf("left by reboot: got %q, want %q", got, want)
	}
	if got := tracker.Left("cache-cleanup"); got != "" {
		t.Errorf("left by cache-cleanup: got %q, want nothing", got)
	}
}
