package environment

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// machines is a cluster of which only names and addresses are known.
type machines struct {
	cluster.Cluster
	nodes []*cluster.Node
	hosts map[string]*cluster.Place
}

func (m *machines) Nodes() []*cluster.Node           { return m.nodes }
func (m *machines) Hosts() map[string]*cluster.Place { return m.hosts }

// addresses parses addresses.
func addresses(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// twoNodes returns an environment with nodes a, which has room for three pods, and b, and with a host and a service.
func twoNodes() *Environment {
	place := func(name, address string) cluster.Place {
		return cluster.Place{Name: name, Interfaces: map[string][]netip.Addr{"uplink": addresses(address)}}
	}
	lan := place("host/lan", "10.0.0.9")
	e := New(&scenario.Scenario{Name: "two-nodes", Pods: []scenario.Pod{
		{Name: "one", Node: "a"},
		{Name: "many", Node: "a", Count: 5, ContainerID: "c"},
		{Name: "far", Node: "b"},
	}}, &machines{
		nodes: []*cluster.Node{{Place: place("node/a", "10.0.0.1"), PoolSize: 3}, {Place: place("node/b", "10.0.0.2")}},
		hosts: map[string]*cluster.Place{"lan": &lan},
	})
	e.Services = []*Service{
		{Place: place("service/web", "10.96.0.10"), Endpoints: []string{"pod/one", "node/b", "pod/none"}},
	}
	return e
}

func TestEnvironment_Places(t *testing.T) {
	e := twoNodes()
	for name, want := range map[string][]string{
		"node/a": {"node/a"}, "host/lan": {"host/lan"}, "pod/one": {"pod/one"}, "pod/many": {"pod/many-0", "pod/many-1"},
		"pod/many-1": {"pod/many-1"}, "service/web": {"service/web"},
		"node/c": nil, "host/router": nil, "pod/many-2": nil, "service/dns": nil, "one": nil,
	} {
		places, err := e.Places(name)
		var got []string
		for _, p := range places {
			got = append(got, p.Name)
		}
		wantErr := ""
		if want == nil {
			wantErr = name + " does not exist in this cluster"
		}
		gotErr := ""
		if err != nil {
			gotErr = err.Error()
		}
		if diff := cmp.Diff(got, want); diff != "" || gotErr != wantErr {
			t.Errorf("%s: got %v, %q, want %v, %q", name, got, gotErr, want, wantErr)
		}
	}
	if got, want := e.Notes(), "node/a has 3 addresses: 2 pods of the scenario's 5"; got != want {
		t.Errorf("notes: got %q, want %q", got, want)
	}
}

func TestEnvironment_NodeOf(t *testing.T) {
	e := twoNodes()
	for name, want := range map[string]string{
		"node/b": "node/b", "pod/many-1": "node/a", "pod/far": "node/b", "host/lan": "none",
	} {
		places, err := e.Places(name)
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if n := e.NodeOf(places[0]); n != nil {
			got = n.Name
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestEnvironment_NewPod(t *testing.T) {
	e := twoNodes()
	ids := map[string]bool{}
	for _, p := range e.Pods {
		ids[p.ContainerID()] = true
	}
	if len(ids) != len(e.Pods) || !ids["c0"] || !ids["c1"] {
		t.Errorf("container ids: got %v, want c0 and c1 among %d different ones", ids, len(e.Pods))
	}
	if got := twoNodes().Pods[0].ContainerID(); !ids[got] || len(got) != 64 {
		t.Errorf("container id: got %q, want the same 64 digits each time", got)
	}
}

func TestEnvironment_EndpointsOf(t *testing.T) {
	e := twoNodes()
	e.Pods[0].SetAddresses("eth0", addresses("10.0.1.1", "fd00::1"))
	var got []string
	for _, endpoint := range e.EndpointsOf(e.Services[0]) {
		for _, addr := range endpoint.Addresses {
			got = append(got, endpoint.Place.Name+" "+addr.String())
		}
	}
	if diff := cmp.Diff(got, []string{"pod/one 10.0.1.1", "pod/one fd00::1", "node/b 10.0.0.2"}); diff != "" {
		t.Errorf("endpoints, got, want:\n%s", diff)
	}
}

func TestEnvironment_OwnerOf(t *testing.T) {
	e := twoNodes()
	e.Pods[0].SetAddresses("eth0", addresses("10.0.1.1"))
	if got := e.OwnerOf(context.Background(), netip.MustParseAddr("10.0.1.1")); got == nil || got.Name != "pod/one" {
		t.Errorf("got %v, want pod/one", got)
	}
}

// TestEnvironment_CheckUnique follows an address from one pod to the next.
func TestEnvironment_CheckUnique(t *testing.T) {
	e := twoNodes()
	first, second := e.Pods[0], e.Pods[1]
	first.SetAttached("eth0", true)
	first.SetAddresses("eth0", addresses("10.0.1.1"))
	second.SetAddresses("net1", addresses("10.0.1.2", "10.0.1.1"))
	var shared *SharedAddress
	want := "pod/many-0: ADD gave 10.0.1.1, which pod/one has on eth0"
	if err := e.CheckUnique(second, "net1"); !errors.As(err, &shared) || err.Error() != want || shared.Other != first {
		t.Errorf("got %v, want %s", err, want)
	}
	for what, free := range map[string]func(){
		"released": func() { first.SetReleased("eth0") },
		"detached": func() { first.SetAttached("eth0", true); first.SetDetached("eth0") },
		"lost":     func() { first.SetAddresses("eth0", addresses("10.0.1.1")); first.SetLost() },
	} {
		if free(); e.CheckUnique(second, "net1") != nil {
			t.Errorf("%s: got %v, want that the address is free", what, e.CheckUnique(second, "net1"))
		}
	}
}

// TestPod_attachments distinguishes the attachments that must be deleted from the valid ones.
func TestPod_attachments(t *testing.T) {
	p := twoNodes().Pods[0]
	p.SetAttached("net1", false)
	p.SetAttached("eth0", true)
	p.SetAddresses("eth0", addresses("10.0.1.1"))
	if diff := cmp.Diff(map[string][]string{"attached": p.Attached(), "valid": p.Valid()},
		map[string][]string{"attached": {"eth0", "net1"}, "valid": {"eth0"}}); diff != "" {
		t.Errorf("got, want:\n%s", diff)
	}
	p.SetDetached("eth0")
	if got := p.Given("eth0"); len(got) != 1 || len(p.Interfaces["eth0"]) != 0 {
		t.Errorf("after DEL: got the addresses %v and in use %v, want one and none", got, p.Interfaces["eth0"])
	}
}

// TestNodeState_Maker attributes changes to the plugin of the last call after which they were seen.
func TestNodeState_Maker(t *testing.T) {
	link := func(op, before, text string) snapshot.Change {
		return snapshot.Change{
			Op: op, Before: before, Item: snapshot.Item{Kind: snapshot.Link, Name: "eth0", Text: text},
		}
	}
	var n NodeState
	n.Learn("bridge", []snapshot.Change{link(snapshot.Added, "", "mtu 1500")})
	n.Learn("tuning", []snapshot.Change{link(snapshot.Changed, "mtu 1500", "mtu 1400")})
	n.Learn("route", nil)
	for _, tt := range []struct {
		change snapshot.Change
		want   string
	}{
		{link(snapshot.Added, "", "mtu 1400"), "bridge"},
		{link(snapshot.Changed, "mtu 1500", "mtu 1400"), "tuning"},
		{link(snapshot.Changed, "mtu 1500", "mtu 9000"), "chain"},
		{link(snapshot.Removed, "", "mtu 1500"), "chain"},
	} {
		if got := n.Maker(tt.change); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.change, got, tt.want)
		}
	}
}
