package scenario

import (
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cnitest/cnitest/e2e/internal/fuzzseed"
	"github.com/cnitest/cnitest/e2e/internal/strictyaml/yamltest"
)

// full uses every field of the language once.
const full = `apiVersion: cnitest/v1alpha1
kind: Scenario
name: full
description: Every field once.
features: [HostToPod, Chaining, NodeIntegrity, SecondInterface, PodToService, NodePort, DaemonRestart, CloudENIs]
covers: [A01, DEL-4]
chain:
  afterMain: [{type: tuning, sysctl: {net.core.somaxconn: "500"}}]
  append: [{type: sbr}]
nodes:
- name: a
  nics: 2
  rpFilter: 0
  addresses: 3
  sysctl: {net.ipv4.ip_forward: 1}
  local: [169.254.20.10]
  forward: drop-but-pods
  enis: 2
  listen: [{protocol: udp, port: 9090}]
hosts:
- {name: lan, listen: [{protocol: tcp, port: 9090}]}
pods:
- name: web
  node: a
  count: 1
  containerID: "abc"
  listen: [{protocol: udp, port: 9090}]
  hostPorts: [{hostPort: 80, containerPort: 9090, protocol: udp}]
- {name: visitor, node: a, podName: web-0}
- {name: routed, node: a, network: routed, listen: [{protocol: tcp, port: 8080}], redirect: {port: 80, to: 8080}}
services:
- name: dns
  protocol: udp
  port: 53
  targetPort: 9090
  nodePort: 30053
  externalTrafficPolicy: Local
  endpoints: [pod/web]
steps:
- {add: pod/web, as: net1}
- check: pod/web
  as: net1
- add: pod/routed
- capture: {at: host/router, to: service/dns}
- endpoints: {of: service/dns, are: [node/a]}
- probe: {from: pod/routed, to: service/dns, protocol: udp, port: 53}
- captured: {packets: 1}
- flows: {from: host/external, to: node/a, protocol: udp, port: 30053}
- wait: 3s
- stop: {gap: 2s}
- probe: {from: pod/routed, to: node/a, interface: local, protocol: udp, port: 9090}
- probe:
    from: node/a
    to: pod/web
    interface: net1
    protocol: udp
    port: 9090
    source: node/a
    count: 2
    within: 1s
    attempts: 1
- state: {of: pod/web, as: net1, cache: present, address: reserved}
- state: {of: node/a, unchanged: [addresses]}
- neighbour: {of: host/lan, knows: node/a}
- flows: {between: [node/a, pod/web], protocol: udp, port: 9090, interval: 10ms}
- churn: {pod: pod/visitor, for: 1m}
- stop: {lost: 2}
- advertise: {prefix: "2001:db8::/64"}
- wait: 1.5s
- gc: node/a
- {status: node/a, fails: 50, within: 2s}
- daemon: {node: a, do: kill}
- daemon: {node: a, do: start}
- cloud: {node: a, add: eni}
- cloud: {node: a, remove: eni}
- reboot: node/a
- {del: pod/web, as: net1, netns: empty, cache: absent}
`

func fullScenario() *Scenario {
	off := 0
	udp := []Listen{{Protocol: "udp", Port: 9090}}
	return &Scenario{
		APIVersion: APIVersion, Kind: Kind, Name: "full", Description: "Every field once.",
		Features: []Feature{
			HostToPod, Chaining, NodeIntegrity, SecondInterface, PodToService, NodePort, DaemonRestart, CloudENIs,
		}, Covers: []string{"A01", "DEL-4"},
		Chain: Chain{
			AfterMain: []map[string]any{{"type": "tuning", "sysctl": map[string]any{"net.core.somaxconn": "500"}}},
			Append:    []map[string]any{{"type": "sbr"}},
		},
		Nodes: []Node{{
			Name: "a", Listen: udp, RPFilter: &off, Sysctl: map[string]string{"net.ipv4.ip_forward": "1"}, NICs: 2,
			Addresses: 3,
			Local:     []string{"169.254.20.10"}, Forward: "drop-but-pods", ENIs: 2,
		}},
		Hosts: []Host{{Name: "lan", Listen: []Listen{{Protocol: "tcp", Port: 9090}}}},
		Pods: []Pod{
			{Name: "web", Node: "a", Count: 1, ContainerID: "abc", Listen: udp, HostPorts: []HostPort{{HostPort: 80, ContainerPort: 9090, Protocol: "udp"}}},
			{Name: "visitor", Node: "a", PodName: "web-0"},
			{
				Name: "routed", Node: "a", Network: RoutedNetwork, Listen: []Listen{{Protocol: "tcp", Port: 8080}},
				Redirect: &Redirect{Port: 80, To: 8080},
			},
		},
		Services: []Service{{
			Name: "dns", Protocol: "udp", Port: 53, TargetPort: 9090, NodePort: 30053,
			ExternalTrafficPolicy: LocalPolicy,
			Endpoints:             []string{"pod/web"},
		}},
		Steps: []Step{
			{Add: "pod/web", As: "net1", Line: 40},
			{Check: "pod/web", As: "net1", Line: 41},
			{Add: "pod/routed", Line: 43},
			{Capture: &Capture{At: "host/router", To: "service/dns"}, Line: 44},
			{Endpoints: &Endpoints{Of: "service/dns", Are: []string{"node/a"}}, Line: 45},
			{Probe: &Probe{From: "pod/routed", To: "service/dns", Protocol: "udp", Port: 53}, Line: 46},
			{Captured: &Captured{Packets: 1}, Line: 47},
			{Flows: &Flows{From: "host/external", To: "node/a", Protocol: "udp", Port: 30053}, Line: 48},
			{Wait: Duration(3 * time.Second), Line: 49},
			{Stop: &Stop{Gap: Duration(2 * time.Second)}, Line: 50},
			{Probe: &Probe{From: "pod/routed", To: "node/a", Interface: "local", Protocol: "udp", Port: 9090}, Line: 51},
			{Probe: &Probe{
				From: "node/a", To: "pod/web", Interface: "net1", Protocol: "udp", Port: 9090, Source: "node/a",
				Count: 2, Within: Duration(time.Second), Attempts: 1,
			}, Line: 52},
			{State: &State{Of: "pod/web", As: "net1", Cache: "present", Address: "reserved"}, Line: 62},
			{State: &State{Of: "node/a", Unchanged: []string{"addresses"}}, Line: 63},
			{Neighbour: &Neighbour{Of: "host/lan", Knows: "node/a"}, Line: 64},
			{Flows: &Flows{Between: []string{"node/a", "pod/web"}, Protocol: "udp", Port: 9090, Interval: Duration(10 * time.Millisecond)}, Line: 65},
			{Churn: &Churn{Pod: "pod/visitor", For: Duration(time.Minute)}, Line: 66},
			{Stop: &Stop{Lost: 2}, Line: 67},
			{Advertise: &Advertise{Prefix: "2001:db8::/64"}, Line: 68},
			{Wait: Duration(1500 * time.Millisecond), Line: 69},
			{GC: "node/a", Line: 70},
			{Status: "node/a", Fails: 50, Within: Duration(2 * time.Second), Line: 71},
			{Daemon: &Daemon{Node: "a", Do: "kill"}, Line: 72},
			{Daemon: &Daemon{Node: "a", Do: "start"}, Line: 73},
			{Cloud: &Cloud{Node: "a", Add: "eni"}, Line: 74},
			{Cloud: &Cloud{Node: "a", Remove: "eni"}, Line: 75},
			{Reboot: "node/a", Line: 76},
			{Del: "pod/web", As: "net1", Netns: "empty", Cache: "absent", Line: 77},
		},
		File: "dir/full.yaml", Source: []byte(full),
	}
}

func TestParse(t *testing.T) {
	got, err := Parse("dir/full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, fullScenario()); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}

func TestParseMistakes(t *testing.T) { yamltest.Mistakes(t, Parse) }

func TestLoadMistakes(t *testing.T) {
	good, err := os.ReadFile("../../scenarios/host-to-pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{
		"empty.yaml":       {},
		"host-to-pod.yaml": {Data: good},
		"list.yaml":        {Data: []byte("- a\n")},
		"notes.txt":        {Data: []byte("no scenario")},
	}
	got, err := Load(files)
	want := "empty.yaml:1: the file is empty; start it with apiVersion: cnitest/v1alpha1\n" +
		"list.yaml:1: want a mapping, got a list; start the file with apiVersion: cnitest/v1alpha1"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if len(got) != 1 || got[0].Name != "host-to-pod" {
		t.Errorf("got %v, want host-to-pod alone", got)
	}
}

func TestBytesString(t *testing.T) {
	for want, b := range map[string]Bytes{
		"0B": 0, "1B": 1, "1KiB": 1024, "1025B": 1025, "32MiB": 32 << 20, "2048GiB": 2 << 40,
	} {
		if got := b.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestParsePlace(t *testing.T) {
	for _, tt := range []struct {
		text    string
		want    Place
		wantErr string
	}{
		{text: "node/a", want: Place{NodePlace, "a"}},
		{text: "pod/web-1", want: Place{PodPlace, "web-1"}},
		{text: "host/lan", want: Place{HostPlace, "lan"}},
		{text: "service/dns", want: Place{ServicePlace, "dns"}},
		{text: "web", wantErr: `want a place, got "web"; write node/NAME, pod/NAME, host/NAME or service/NAME`},
		{text: "pod/", wantErr: `want a place, got "pod/"; write node/NAME, pod/NAME, host/NAME or service/NAME`},
		{text: "container/web", wantErr: `want a place, got "container/web"; write node/NAME, pod/NAME, host/NAME or service/NAME`},
	} {
		got, err := parsePlace(tt.text)
		gotErr := ""
		if err != nil {
			gotErr = err.Error()
		}
		if got != tt.want || gotErr != tt.wantErr {
			t.Errorf("%s: got %v, %s, want %v, %s", tt.text, got, gotErr, tt.want, tt.wantErr)
		}
	}
}

// FuzzParse checks that every file gives a scenario or an error, and that the scenario is the same if it is read again.
func FuzzParse(f *testing.F) {
	fuzzseed.Add(f, "testdata/bad/*.yaml", "../../scenarios/*.yaml")
	f.Add([]byte(full))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("full.yaml", data)
		if (s == nil) == (err == nil) {
			t.Fatalf("got %v, %v, want one of the two", s, err)
		}
		if s == nil {
			return
		}
		Explain(s)
		again, err := Parse("full.yaml", data)
		if diff := cmp.Diff(again, s, cmpopts.EquateNaNs()); err != nil || diff != "" {
			t.Fatalf("got -, want +: %v\n%s", err, diff)
		}
	})
}

func TestNodeName(t *testing.T) {
	got := map[int]string{}
	for _, i := range []int{0, 25, 26, 51, 52, 99} {
		got[i] = NodeName(i)
	}
	want := map[int]string{0: "a", 25: "z", 26: "aa", 51: "az", 52: "ba", 99: "cv"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
