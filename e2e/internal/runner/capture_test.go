package runner

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
)

// TestCapture_judge checks that a capture which lost packets shows no absence of them.
func TestCapture_judge(t *testing.T) {
	packet := probe.Packet{Interface: "eth0", Source: "10.0.0.1", Destination: "10.96.0.1"}
	for _, tt := range []struct {
		name          string
		reply         agent.CaptureReply
		wrong, unsure bool
	}{
		{name: "nothing"},
		{name: "as many as it may see", reply: agent.CaptureReply{Packets: []probe.Packet{packet}}},
		{name: "too many", reply: agent.CaptureReply{Packets: []probe.Packet{packet, packet}}, wrong: true},
		{name: "lost some", reply: agent.CaptureReply{Unseen: 3}, unsure: true},
		{
			name:  "too many, and lost some",
			reply: agent.CaptureReply{Packets: []probe.Packet{packet, packet}, Unseen: 3}, wrong: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := capture{place: &cluster.Place{Name: "host/router"}, what: "service/web"}
			wrong, unsure := c.judge(tt.reply, 1)
			if (wrong != nil) != tt.wrong || (unsure != nil) != tt.unsure {
				t.Errorf("got %v and %v, want an error: %t and %t", wrong, unsure, tt.wrong, tt.unsure)
			}
		})
	}
}
