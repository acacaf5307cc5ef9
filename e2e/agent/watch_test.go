package agent_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
	"github.com/cnitest/cnitest/e2e/witness"
)

func TestWatch(t *testing.T) {
	c := start(t)
	one, other := namespace(t, c, "one"), namespace(t, c, "other")
	lay(t, one, other, "10.0.0.1/24", "10.0.0.2/24")
	args := agent.WatchArgs{Netns: other, Match: probe.Match{Hosts: []string{"10.0.0.2"}}}
	first, err := c.StartWatch(ctx(t), args)
	check(t, err)
	// Only one watch at a time can see netfilter; packets and counters can have several.
	second, err := c.StartWatch(ctx(t), args)
	check(t, err)
	result, err := c.Probe(ctx(t), one, probe.Spec{Protocol: probe.UDP, To: "10.0.0.2", Port: 53, Attempts: 1})
	check(t, err)
	if result.OK {
		t.Errorf("got %+v, want no answer: nobody listens", result)
	}
	for _, tt := range []struct {
		id   int
		want agent.Watched
	}{
		{first, agent.Watched{Counters: map[string]uint64{"Udp.NoPorts": 1}}},
		{second, agent.Watched{Counters: map[string]uint64{"Udp.NoPorts": 1}, Unwatched: `trace: network namespace "` +
			other + `": make table cnitest-trace: ` +
			"netlink receive: operation not permitted"}},
	} {
		got, err := c.StopWatch(ctx(t), tt.id)
		check(t, err)
		if !slices.ContainsFunc(got.Packets, func(p probe.Packet) bool {
			return p.Protocol == "UDP" && p.Destination == "10.0.0.2"
		}) {
			t.Errorf("want a packet of UDP to 10.0.0.2, got %v", got.Packets)
		}
		got.Packets = nil
		// Neighbour discovery of a new link has its own misses.
		delete(got.Counters, "Ip6InNoRoutes")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("watched (-want +got):\n%s", diff)
		}
	}
	_, err = c.StopWatch(ctx(t), first)
	wantError(t, err, "node/a: watch 1: not running")
	_, err = c.StartWatch(ctx(t), agent.WatchArgs{Netns: other, Match: probe.Match{Hosts: []string{"pod"}}})
	wantError(t, err, `node/a: ParseAddr("pod"): unable to parse IP`)
	// Nothing of the watches is left.
	state, err := c.Snapshot(ctx(t), agent.SnapshotArgs{
		Kinds: []string{snapshot.Nftables}, Namespaces: map[string]string{"pod/other": other},
	})
	check(t, err)
	state.Items = slices.DeleteFunc(state.Items, func(i snapshot.Item) bool { return i.Kind != snapshot.Nftables })
	if diff := cmp.Diff([]snapshot.Item{}, state.Items); diff != "" {
		t.Errorf("nftables (-want +got):\n%s", diff)
	}
	way, err := c.Lookup(ctx(t), one, witness.Question{Destination: "10.0.0.2"})
	check(t, err)
	want := witness.Way{Device: "eth0", Source: "10.0.0.1", Route: "10.0.0.0/24 dev eth0 src 10.0.0.1 table main"}
	if diff := cmp.Diff(want, way); diff != "" {
		t.Errorf("way (-want +got):\n%s", diff)
	}
}
