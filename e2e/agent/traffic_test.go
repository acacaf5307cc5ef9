package agent_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/probe"
)

func TestTraffic(t *testing.T) {
	c := start(t)
	one, other := namespace(t, c, "one"), namespace(t, c, "other")
	lay(t, one, other, "10.0.0.1/24", "10.0.0.2/24")
	for _, protocol := range []probe.Protocol{probe.TCP, probe.UDP} {
		check(t, c.Listen(ctx(t), other, probe.ListenSpec{Protocol: protocol, Port: 8080, Name: "server"}))
	}
	capture, err := c.StartCapture(ctx(t), other, probe.Match{Hosts: []string{"10.0.0.1"}, Ports: []uint16{8080}})
	check(t, err)
	result, err := c.Probe(ctx(t), one, probe.Spec{Protocol: probe.TCP, To: "10.0.0.2", Port: 8080})
	check(t, err)
	want := probe.Result{
		OK: true, Server: "server", PeerSeen: "10.0.0.1", ServerAddress: "10.0.0.2", Local: "10.0.0.1",
		Sent: 1, Received: 1,
	}
	if diff := cmp.Diff(want, result, cmpopts.IgnoreFields(probe.Result{}, "Worst", "Attempts", "FirstReply",
		"Duration")); diff != "" {
		t.Errorf("probe (-want +got):\n%s", diff)
	}
	// The link has its carrier by now, so nothing is lost.
	flow, err := c.StartFlow(ctx(t), one, probe.FlowSpec{Protocol: probe.UDP, To: "10.0.0.2", Port: 8080})
	check(t, err)
	links, err := c.Links(ctx(t), other)
	check(t, err)
	entry, err := c.Neighbour(ctx(t), agent.NeighbourArgs{Netns: one, Interface: "eth0", Address: "10.0.0.2"})
	check(t, err)
	if !entry.Found || entry.Entry.MAC != links[1].MAC {
		t.Errorf("got the neighbour %+v, want %s", entry, links[1].MAC)
	}
	entry, err = c.Neighbour(ctx(t), agent.NeighbourArgs{Netns: one, Interface: "eth0", Address: "10.0.0.9"})
	check(t, err)
	if diff := cmp.Diff(agent.NeighbourReply{}, entry); diff != "" {
		t.Errorf("neighbour of nobody (-want +got):\n%s", diff)
	}

	flowed, err := c.StopFlow(ctx(t), flow)
	check(t, err)
	if flowed.Sent == 0 || flowed.Lost != 0 || flowed.Received != flowed.Sent {
		t.Errorf("got the flow %+v, want every request answered", flowed)
	}
	captured, err := c.StopCapture(ctx(t), capture)
	check(t, err)
	if !slices.ContainsFunc(captured.Packets, func(p probe.Packet) bool {
		return p.Source == "10.0.0.1" && p.Destination == "10.0.0.2"
	}) {
		t.Errorf("want a packet from 10.0.0.1 to 10.0.0.2, got %v", captured)
	}
	_, err = c.StopFlow(ctx(t), flow)
	wantError(t, err, "node/a: flow 2: not running")
	_, err = c.StopCapture(ctx(t), capture)
	wantError(t, err, "node/a: capture 1: not running")
	err = c.Advertise(ctx(t), agent.AdvertiseArgs{Netns: one, Interface: "pigeon"})
	if err == nil {
		t.Error("advertise from no interface: want an error, got none")
	}
}
