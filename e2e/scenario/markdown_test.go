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
    The node's own addresses, routes and neighbours are the same as without
    the plugin.
  SecondInterface
    A pod can have a second interface on the same network.
  PodToService
    Pods reach the cluster address of a service, wherever its endpoints run,
    and addresses of their node that are only for its own pods.
  NodePort
    Clients outside the cluster reach a service through a port of any node.
  DaemonRestart
    The plugin's daemon may be down, be killed and start again: pods go on, no
    two pods get the same address, and no address is lost.
  CloudENIs
    Pods use the addresses of all network interfaces that a cloud gives their
    node, and each address uses its own interface.

covers
  A01, DEL-4

core in
  no profile; it counts where its features are claimed

needs
  nodes: 1; a node with two NICs; a node that reboots; services; a node with
  local addresses; a node whose FORWARD hook drops; a redirect in a pod; a
  packet capture; a daemon; a cloud; addresses: 3 on a; hosts: external, lan,
  router; sysctls: net.ipv4.conf.all.rp_filter,
  net.ipv4.conf.default.rp_filter, net.ipv4.ip_forward; plugins: host-local,
  ptp, sbr, tuning

services
  dns udp 53 → pod/web 9090, node port 30053 (Local)

steps
  dir/full.yaml:40  add pod/web as net1
  dir/full.yaml:41  check pod/web as net1
  dir/full.yaml:43  add pod/routed
  dir/full.yaml:44  capture at host/router what goes to service/dns
  dir/full.yaml:45  endpoints of service/dns are node/a
  dir/full.yaml:46  probe udp 53 pod/routed → service/dns
  dir/full.yaml:47  captured at most 1 packets each
  dir/full.yaml:48  flows udp 30053 host/external → node/a
  dir/full.yaml:49  wait 3s
  dir/full.yaml:50  stop flows, at most 2s without a reply
  dir/full.yaml:51  probe udp 9090 pod/routed → node/a local
  dir/full.yaml:52  probe udp 9090 node/a → pod/web net1, seen as node/a, 2 times, within 1s, first try
  dir/full.yaml:62  state of pod/web net1: cache present, address reserved
  dir/full.yaml:63  state of node/a: addresses unchanged
  dir/full.yaml:64  neighbour host/lan knows node/a
  dir/full.yaml:65  flows udp 9090 between node/a, pod/web
  dir/full.yaml:66  churn pod/visitor for 1m0s
  dir/full.yaml:67  stop flows, at most 2 lost of each
  dir/full.yaml:68  advertise 2001:db8::/64 from host/router
  dir/full.yaml:69  wait 1.5s
  dir/full.yaml:70  gc node/a
  dir/full.yaml:71  status node/a, fails with code 50, within 2s
  dir/full.yaml:72  kill the daemon on node/a
  dir/full.yaml:73  start the daemon on node/a
  dir/full.yaml:74  the cloud adds an ENI to node/a
  dir/full.yaml:75  the cloud removes an ENI from node/a
  dir/full.yaml:76  reboot node/a
  dir/full.yaml:77  del pod/web as net1, netns empty, cache absent
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
		{Step{Endpoints: &Endpoints{Of: "service/web", Are: []string{"pod/a", "host/lan"}}}, "endpoints of service/web are pod/a, host/lan"},
		{
			Step{Probe: &Probe{From: "pod/a", To: "pod/b", Protocol: "icmp", FullMTU: true, Attempts: 2}},
			"probe icmp pod/a → pod/b, packets of the full MTU, at most 2 tries",
		},
		{Step{Probe: &Probe{From: "pod/a", To: "pod/b", Protocol: "tcp", Port: 80, Bytes: 32 << 20}}, "probe tcp 80 pod/a → pod/b, 32MiB each way"},
		{Step{Add: "pod/web", Fails: 11}, "add pod/web, fails with code 11"},
		{Step{Daemon: &Daemon{Node: "a", Do: "restart"}}, "restart the daemon on node/a"},
		{Step{Cloud: &Cloud{Node: "a", Add: AnAddress}}, "the cloud adds an address to node/a"},
		{Step{Cloud: &Cloud{Node: "a", Remove: AnAddress, Of: "pod/web"}}, "the cloud removes the address of pod/web from node/a"},
		{Step{State: &State{Of: "node/a", Unchanged: []string{"addresses", "default-routes"}}}, "state of node/a: addresses and default-routes unchanged"},
	} {
		if got := tt.step.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestServiceString(t *testing.T) {
	for _, tt := range []struct {
		service Service
		want    string
	}{
		{Service{Name: "web", Protocol: "tcp", Port: 80, Endpoints: []string{"pod/a", "node/b"}}, "web tcp 80 → pod/a, node/b 80"},
		{Service{
			Name: "web", Protocol: "tcp", Port: 80, TargetPort: 8080, NodePort: 30080, Endpoints: []string{"pod/a"},
		}, "web tcp 80 → pod/a 8080, node port 30080"},
		{
			Service{Name: "web", Protocol: "udp", Port: 80, NodePort: 30080, ExternalTrafficPolicy: LocalPolicy, Endpoints: []string{"pod/a"}},
			"web udp 80 → pod/a 80, node port 30080 (Local)",
		},
	} {
		if got := tt.service.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
