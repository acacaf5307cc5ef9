package scenario

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNeeds(t *testing.T) {
	got := fullScenario().Needs()
	want := Needs{
		Nodes: 1, SecondNIC: true, Reboot: true,
		Services: true, LocalAddresses: true, ForwardPolicy: true, Routed: true, Redirect: true, Capture: true,
		Daemon: true, Cloud: true, BeyondNode: true, FromNode: true,
		Sysctls:   []string{"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter", "net.ipv4.ip_forward"},
		Hosts:     []string{"external", "lan", "router"},
		Addresses: map[string]int{"a": 3},
		Plugins:   []string{"host-local", "ptp", "sbr", "tuning"},
		Features: []Feature{
			Chaining, CloudENIs, DaemonRestart, HostToPod, NodeIntegrity, NodePort, PodToService, SecondInterface,
		},
		Runtime: []string{
			"attaches a second interface", "attaches pods to other networks", "changes the conflist",
			"chooses container ids",
			"gives pods the same name",
		},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
}

// TestNeeds_beyond_node checks which packets need a route of a pod beyond the network that it shares with the other
// pods of its node.
func TestNeeds_beyond_node(t *testing.T) {
	probe := func(from, to string) Step { return Step{Probe: &Probe{From: from, To: to}} }
	for _, tt := range []struct {
		name             string
		step             Step
		beyond, fromNode bool
	}{
		{name: "nothing sent", step: Step{Add: "pod/near"}},
		{name: "pods of a node", step: probe("pod/near", "pod/near2")},
		{name: "nodes", step: probe("node/a", "node/b")},
		{name: "a host and a node", step: probe("host/lan", "node/b")},
		{name: "a node and its pod", step: probe("node/a", "pod/near"), fromNode: true},
		{name: "a pod and its node", step: probe("pod/near", "node/a"), beyond: true},
		{name: "a node and a pod of another", step: probe("node/b", "pod/near"), beyond: true},
		{name: "pods of two nodes", step: probe("pod/near", "pod/far"), beyond: true},
		{name: "a host and a pod", step: probe("host/lan", "pod/near"), beyond: true},
		{name: "a pod and a service", step: probe("pod/near", "service/dns"), beyond: true},
		{name: "one of several pods", step: probe("pod/many-2", "pod/near")},
		{name: "flows", step: Step{Flows: &Flows{From: "node/a", To: "pod/near"}}, fromNode: true},
		{name: "flows between", step: Step{Flows: &Flows{Between: []string{"pod/near", "pod/near2", "pod/far"}}}, beyond: true},
		{
			name: "recovery", beyond: true,
			step: Step{Recovery: &Recovery{Probes: []Probe{{From: "pod/near", To: "pod/far"}}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pods := []Pod{
				{Name: "near", Node: "a"},
				{Name: "near2", Node: "a"},
				{Name: "many", Node: "a", Count: 3},
				{Name: "far", Node: "b"},
			}
			s := &Scenario{Nodes: []Node{{Name: "a"}, {Name: "b"}}, Pods: pods, Steps: []Step{tt.step}}
			needs := s.Needs()
			if needs.BeyondNode != tt.beyond || needs.FromNode != tt.fromNode {
				t.Errorf("got %t, %t, want %t, %t", needs.BeyondNode, needs.FromNode, tt.beyond, tt.fromNode)
			}
		})
	}
}

func TestNeedsAddresses(t *testing.T) {
	pods := []Pod{
		{Name: "one", Node: "a"},
		{Name: "many", Node: "a", Count: 5},
		{Name: "far", Node: "b"},
		{Name: "routed", Node: "b", Network: RoutedNetwork},
	}
	for _, tt := range []struct {
		name  string
		steps []Step
		want  map[string]int
	}{
		{"nothing", nil, map[string]int{"a": 0, "b": 0}},
		{"side by side", []Step{{Add: "pod/one"}, {Add: "pod/many"}, {Add: "pod/far"}}, map[string]int{"a": 6, "b": 1}},
		{"one after the other", []Step{{Add: "pod/one"}, {Del: "pod/one"}, {Add: "pod/many"}}, map[string]int{"a": 5, "b": 0}},
		{"released", []Step{{Add: "pod/one"}, {Release: "pod/one"}, {Add: "pod/many"}}, map[string]int{"a": 5, "b": 0}},
		{"kept over a reboot", []Step{{Add: "pod/one"}, {Reboot: "node/a"}, {Add: "pod/many"}}, map[string]int{"a": 6, "b": 0}},
		{"two interfaces", []Step{{Add: "pod/one"}, {Add: "pod/one", As: "net1"}}, map[string]int{"a": 2, "b": 0}},
		{"of another network", []Step{{Add: "pod/far"}, {Add: "pod/routed"}}, map[string]int{"a": 0, "b": 1}},
		{"churned beside", []Step{{Add: "pod/many"}, {Churn: &Churn{Pod: "pod/one"}}}, map[string]int{"a": 6, "b": 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Scenario{Nodes: []Node{{Name: "a"}, {Name: "b"}}, Pods: pods, Steps: tt.steps}
			if diff := cmp.Diff(s.Needs().Addresses, tt.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestNeedsRuntime(t *testing.T) {
	add, del := Step{Add: "pod/a"}, Step{Del: "pod/a"}
	for _, tt := range []struct {
		name string
		s    Scenario
		want []string
	}{
		{"a pod comes and goes", Scenario{Pods: []Pod{{Name: "a"}}, Steps: []Step{add, {Check: "pod/a"}, del, add, del}}, nil},
		{"again", Scenario{Steps: []Step{add, del, del}}, []string{"deletes twice"}},
		{"no namespace", Scenario{Steps: []Step{add, {Del: "pod/a", Netns: "gone"}}}, []string{"deletes without the pod's namespace"}},
		{"no cache", Scenario{Steps: []Step{add, {Del: "pod/a", Cache: "absent"}}}, []string{"deletes without the cached result"}},
		{"failing ADD", Scenario{Steps: []Step{{Add: "pod/a", Fails: 11}}}, []string{"wants the error of an ADD"}},
		{"release", Scenario{Steps: []Step{{Release: "pod/a"}}}, []string{"gives an address back while its pod runs"}},
		{"remove", Scenario{Steps: []Step{{Remove: "pod/a"}}}, []string{"removes a pod's namespace"}},
		{"host ports", Scenario{Pods: []Pod{{HostPorts: []HostPort{{}}}}}, []string{"passes host ports"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.s.Needs().Runtime, tt.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestNeedsHosts(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Scenario
		want []string
	}{
		{"endpoint", Scenario{Services: []Service{{Endpoints: []string{"pod/a", "host/external"}}}}, []string{"external"}},
		{"replaced endpoint", Scenario{Steps: []Step{{Endpoints: &Endpoints{Are: []string{"host/lan"}}}}}, []string{"lan"}},
		{"flow", Scenario{Steps: []Step{{Flows: &Flows{From: "pod/a", To: "host/lan"}}}}, []string{"lan"}},
		{"capture", Scenario{Steps: []Step{{Capture: &Capture{At: "host/router", To: "service/a"}}}}, []string{"router"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.s.Needs().Hosts, tt.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestProfileCore(t *testing.T) {
	for _, tt := range []struct {
		name     string
		features []Feature
		want     []Profile
	}{
		{"attach", []Feature{Attach, PodToPod}, Profiles()},
		{"host to pod", []Feature{Attach, HostToPod}, []Profile{ProfileUnderlay, ProfileKubernetes, ProfileProduction}},
		{"node port", []Feature{NodePort}, []Profile{ProfileKubernetes}},
		{"a flap", []Feature{PodToPod, SurvivesLinkFlap}, []Profile{ProfileProduction}},
		{"hostile pods", []Feature{PodToPod, NodeIsolation}, []Profile{ProfileIsolation}},
		{"second interface", []Feature{Attach, SecondInterface}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []Profile
			for _, p := range append(Profiles(), "none") {
				if p.Core(&Scenario{Features: tt.features}) {
					got = append(got, p)
				}
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestFeatureMeaning(t *testing.T) {
	for _, f := range Features() {
		if f.Meaning() == "" {
			t.Errorf("%s: want a meaning, got none", f)
		}
	}
	if got := Feature("Other").Meaning(); got != "" {
		t.Errorf("got %q, want no meaning of an unknown feature", got)
	}
}
