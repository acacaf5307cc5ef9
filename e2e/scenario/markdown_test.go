package scenario

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMarkdown(t *testing.T) {
	s := &Scenario{
		Name: "web", File: "web.yaml", Features: []Feature{Attach, CleanUp}, Covers: []string{"A01", "DEL-4"},
		Description: "A pod works, v1.2 |\n or later. It breaks otherwise.",
	}
	got := Markdown([]*Scenario{s})
	want := `| scenario | what a user relies on | features | covers |
|---|---|---|---|
| [web](web.yaml) | A pod works, v1.2 \| or later. | Attach CleanUp | A01 DEL-4 |
`
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}

func TestExplain(t *testing.T) {
	want := `full

  Every field once.

features
  HostToPod
    A node and its own pods reach each other with their own addresses.
  Chaining
    Other plugins can stand before and after this one in the conflist.
  NodeIntegrity
    The node's own addresses, routes and neighbours are as if no plugin ran
    there.
  SecondInterface
    A pod can have a second interface on the same network.

covers
  A01, DEL-4

core in
  no profile; it counts where its features are claimed

needs
  nodes: 1; a node with two NICs; a node that reboots; addresses: 3 on a;
  hosts: lan, router; sysctls: net.ipv4.conf.all.rp_filter,
  net.ipv4.conf.default.rp_filter, net.ipv4.ip_forward; plugins: sbr, tuning

steps
  dir/full.yaml:23  add pod/web as net1
  dir/full.yaml:24  check pod/web as net1
  dir/full.yaml:26  probe udp 9090 node/a → pod/web net1, seen as node/a, 2 times, within 1s, first try
  dir/full.yaml:36  state of pod/web net1: cache present, address reserved
  dir/full.yaml:37  state of node/a: addresses unchanged
  dir/full.yaml:38  neighbour host/lan knows node/a
  dir/full.yaml:39  flows udp 9090 between node/a, pod/web
  dir/full.yaml:40  churn pod/visitor for 1m0s
  dir/full.yaml:41  stop flows, at most 2 lost of each
  dir/full.yaml:42  advertise 2001:db8::/64 from host/router
  dir/full.yaml:43  wait 1.5s
  dir/full.yaml:44  gc node/a
  dir/full.yaml:45  status node/a
  dir/full.yaml:46  reboot node/a
  dir/full.yaml:47  del pod/web as net1, netns empty, cache absent
`
	if diff := cmp.Diff(Explain(fullScenario()), want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}

func TestStepString(t *testing.T) {
	for _, tt := range []struct {
		step Step
		want string
	}{
		{Step{Remove: "pod/web"}, "remove pod/web"},
		{Step{Release: "pod/web"}, "release pod/web"},
		{Step{Stop: &Stop{}}, "stop flows, at most 0 lost of each"},
		{Step{Probe: &Probe{From: "pod/a", To: "pod/b", Protocol: "icmp", FullMTU: true, Attempts: 2}}, "probe icmp pod/a → pod/b, packets of the full MTU, at most 2 tries"},
		{Step{Probe: &Probe{From: "pod/a", To: "pod/b", Protocol: "tcp", Port: 80, Bytes: 32 << 20}}, "probe tcp 80 pod/a → pod/b, 32MiB each way"},
		{Step{State: &State{Of: "node/a", Unchanged: []string{"addresses", "default-routes"}}}, "state of node/a: addresses and default-routes unchanged"},
	} {
		if got := tt.step.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
