package packetpath

import (
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/snapshot"
	"github.com/cnitest/cnitest/e2e/witness"
)

// arriving returns the places that a request of the lab passes to the server.
func arriving() []string { return []string{"pod/client eth0 out", "pod/server eth0 in"} }

// question returns a question for a MAC.
func question(asker, address string) packet {
	return packet{source: asker, destination: address, info: "ARP who has " + address + " tell " + asker}
}

// TestWatch_explanation has a recording for each stop, and for each cause in the order in which causes are checked.
func TestWatch_explanation(t *testing.T) {
	const never, noReply = "the request never left pod/client",
		"the request was last seen entering eth0 of pod/server, and no reply left pod/server"
	for _, tt := range []struct {
		name   string
		record func(*testing.T, *lab)
		want   string
	}{
		{"repeated with success", func(_ *testing.T, l *lab) { l.result.OK = true }, "the same probe succeeded when it was repeated with captures on"},
		{"nothing seen", func(*testing.T, *lab) {}, never},
		{"request on its way", func(t *testing.T, l *lab) {
			l.sight(t, syn(), "pod/client eth0 out", "node/a eno1 out")
		}, "the request was last seen leaving eno1 of node/a"},
		{"request flooded by the fabric", func(t *testing.T, l *lab) {
			l.sight(t, syn(), "pod/client eth0 out", "fabric port out", "node/b eno1 passing")
		}, "the request was last seen leaving eth0 of pod/client"},
		{"reply on its way", func(t *testing.T, l *lab) {
			l.sight(t, syn(), arriving()...)
			l.sight(t, synAck(), "pod/server eth0 out", "node/b eno1 out")
		}, "the request was last seen entering eth0 of pod/server, a reply was last seen leaving eno1 of node/b"},
		{"packets of a size, and smaller ones that arrive", func(t *testing.T, l *lab) {
			l.spec.Size = 1500
			l.sight(t, syn(), arriving()...)
		}, "the request of 1500 bytes never left pod/client"},
		{"dropped by a rule", func(t *testing.T, l *lab) {
			l.sight(t, syn(), arriving()...)
			l.watched["pod/server"] = agent.Watched{Verdicts: []witness.Verdict{
				{Action: witness.Dropped, Chain: "ip filter INPUT", Rule: "drop", Source: clientIP, Destination: serverIP},
			}}
		}, noReply + `; pod/server dropped the request: rule "drop" of the nftables chain "ip filter INPUT"`},
		{"dropped by a policy on the way back", func(t *testing.T, l *lab) {
			l.sight(t, syn(), arriving()...)
			l.sight(t, synAck(), "pod/server eth0 out", "node/a eno1 in")
			l.watched["node/a"] = agent.Watched{Verdicts: []witness.Verdict{
				{Action: witness.Dropped, Chain: "ip filter FORWARD", Source: serverIP, Destination: clientIP},
			}}
		}, "the request was last seen entering eth0 of pod/server, a reply was last seen entering eno1 of node/a; " +
			`node/a dropped the reply: the nftables chain "ip filter FORWARD" drops what none of its rules accepts`},
		{"too large for what was learned", func(_ *testing.T, l *lab) {
			l.result.Error = "sendmsg: message too long"
			l.kernels["pod/client"].ways[serverIP] = witness.Way{Device: "eth0", MTU: 1400}
		}, never + "; pod/client has learned that on its way to 10.0.1.2, by eth0, packets of more than 1400 bytes " +
			"do not pass"},
		{"no route", func(_ *testing.T, l *lab) {
			l.kernels["pod/client"].ways[serverIP] = witness.Way{Refusal: "network is unreachable"}
		}, never + "; pod/client has no route to 10.0.1.2: none of its routes matches (network is unreachable)"},
		{"refused by a rule", func(_ *testing.T, l *lab) {
			l.kernels["pod/client"].ways[serverIP] = witness.Way{
				Refusal: "invalid argument", Rule: "100: from all blackhole",
			}
		}, never + `; pod/client has no route to 10.0.1.2: policy rule "100: from all blackhole" decides`},
		{"refused by the reverse path filter", func(t *testing.T, l *lab) {
			l.sight(t, syn(), arriving()...)
			l.kernels["pod/server"].ways["eth0 "+serverIP] = witness.Way{
				Refusal: "invalid cross-device link", ReversePath: true, Filter: 1,
			}
			l.kernels["pod/server"].ways[clientIP] = witness.Way{Device: "net1", Route: "default dev net1"}
		}, noReply + `; the reverse path filter of pod/server (rp_filter 1 on eth0) dropped it: its own way to ` +
			`10.0.0.2 is route "default dev net1"`},
		{"a question for a MAC that did not arrive", func(t *testing.T, l *lab) {
			l.kernels["pod/client"].ways[serverIP] = witness.Way{Device: "eth0"}
			l.sight(t, question(clientIP, serverIP), "pod/client eth0 out")
		}, never + "; pod/client sends to 10.0.1.2 by eth0 and asked there for the MAC of 10.0.1.2, which nobody " +
			"answered; " +
			"the question did not reach pod/server, which has that address"},
		{"a question for a MAC that is ignored", func(t *testing.T, l *lab) {
			l.kernels["pod/client"].ways[serverIP] = witness.Way{Device: "eth0"}
			l.kernels["pod/server"].ways["eth0 "+serverIP] = witness.Way{Device: "lo", Local: true, IgnoresARP: 8}
			l.sight(t, question(clientIP, serverIP), "pod/client eth0 out", "pod/server eth0 in")
		}, never + "; pod/client sends to 10.0.1.2 by eth0 and asked there for the MAC of 10.0.1.2, which nobody " +
			"answered; " +
			"the question was last seen entering eth0 of pod/server, which has that address and does not answer, as " +
			"its setting arp_ignore 8 says"},
		{"a neighbour that failed before", func(_ *testing.T, l *lab) {
			l.kernels["pod/client"].ways[serverIP] = witness.Way{Device: "eth0", Gateway: "10.0.0.254"}
			l.kernels["pod/client"].neighbours["10.0.0.254"] = "FAILED"
		}, never + "; pod/client sends to 10.0.1.2 by eth0 and asked there for the MAC of 10.0.0.254, which nobody " +
			"answered"},
		{
			"a reply from another address", func(t *testing.T, l *lab) {
				l.sight(t, syn(), arriving()...)
				reply := synAck()
				reply.source = "10.0.1.1"
				l.sight(t, reply, "pod/server eth0 out", "pod/client eth0 in")
			},
			"the request was last seen entering eth0 of pod/server, a reply was last seen entering eth0 of " +
				"pod/client; " +
				"the reply has the source 10.0.1.1 (node/b) there, and 10.0.1.2 was asked",
		},
		{
			"rejected by a router", func(t *testing.T, l *lab) {
				l.sight(t, syn(), "pod/client eth0 out", "node/a eno1 out")
				refusal := packet{
					source: "10.0.1.1", destination: clientIP, info: "ICMP DestinationUnreachable(Host)",
					icmp: &layers.ICMPv4{
						TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, 1),
					},
				}
				l.sight(t, refusal, "pod/client eth0 in")
			},
			`the request was last seen leaving eno1 of node/a; node/b answered with "ICMP ` +
				`DestinationUnreachable(Host)"`,
		},
		{
			"refused by the end", func(t *testing.T, l *lab) {
				l.sight(t, syn(), arriving()...)
				reply := synAck()
				reply.tcp.SYN, reply.tcp.RST, reply.info = false, true, "TCP 8080 > 40000 RST"
				l.sight(t, reply, "pod/server eth0 out", "pod/client eth0 in")
			},
			"the request was last seen entering eth0 of pod/server, a reply was last seen entering eth0 of " +
				"pod/client; " +
				"pod/server refused the connection: nothing listens there on that port, or a rule says so",
		},
		{"sent to a wrong MAC", func(t *testing.T, l *lab) {
			l.sight(t, syn(), "pod/client eth0 out")
			l.seen[0].DestinationMAC = "02:00:00:00:00:99"
			l.kernels["pod/client"].neighbours[serverIP] = "PERMANENT"
		}, "the request was last seen leaving eth0 of pod/client; pod/client sent it to the MAC 02:00:00:00:00:99, " +
			"as its permanent neighbour entry for 10.0.1.2 on eth0 says, and pod/server has that address on eth0 " +
			"with the MAC 02:00:00:00:01:02"},
		{
			"sent by a route", func(t *testing.T, l *lab) {
				l.sight(t, syn(), "pod/client eth0 out")
				l.kernels["pod/client"].ways[serverIP] = witness.Way{Device: "eth0", Route: "default dev eth0"}
			},
			`the request was last seen leaving eth0 of pod/client; pod/client sent it there by route "default dev ` +
				`eth0"`,
		},
		{"a counter that grew", func(t *testing.T, l *lab) {
			l.sight(t, syn(), arriving()...)
			l.watched["pod/server"] = agent.Watched{Counters: map[string]uint64{"TcpExtListenDrops": 1}}
		}, noReply + "; pod/server dropped packets meanwhile: TcpExtListenDrops grew"},
		{"a policy of a legacy table", func(t *testing.T, l *lab) {
			l.sight(t, syn(), arriving()...)
			l.kernels["node/b"].items = []snapshot.Item{{Kind: snapshot.Iptables, Name: "ip filter chain FORWARD DROP"}}
		}, noReply + "; on node/b the iptables ip filter chain FORWARD DROP drops what it does not accept: " +
			"an administrator adds an accept for the pods' addresses there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, true)
			tt.record(t, l)
			if got := l.explanation(t.Context()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
