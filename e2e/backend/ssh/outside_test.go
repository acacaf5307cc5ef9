package ssh_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TestOutside makes hosts around the nodes on a third machine: they reach pods and nodes and are reached by them, and
// nothing stays behind.
func TestOutside(t *testing.T) {
	m := makeMachines(t, cluster.Request{
		Alone: true, Nodes: []scenario.Node{{Name: "a", NICs: 2}, {Name: "b", NICs: 2}, {Name: "c", NICs: 2}},
	})
	before := m.state()
	options := m.options(binDir(t, "macvlan", "host-local"))
	options.Outside = "node3"
	// The pod's default route leads to the router.
	options.Conflist = parse(t, strings.Replace(testConflist, `"ranges"`, `"routes": [{"dst": "0.0.0.0/0"}], "ranges"`,
		1))
	b := open(t, options)
	if err := b.Missing(t.Context(), scenario.Needs{
		Nodes: 2, Hosts: []string{"lan", "router", "external"}, Routed: true,
	}); err != nil {
		t.Errorf("got %v, want nothing to be missing", err)
	}
	c, err := b.Start(t.Context(), request(options))
	if err != nil {
		t.Fatal(err)
	}
	node := c.Nodes()[0]
	path, address := attach(t, node, "server")
	pod := &cluster.Place{
		Name: "pod/server", Agent: node.Agent, Netns: path, Interfaces: map[string][]netip.Addr{
			"uplink": {netip.MustParseAddr(address)},
		},
	}
	hosts := c.Hosts()
	for _, pair := range [][2]*cluster.Place{
		{hosts["external"], &node.Place},
		{&node.Place, hosts["external"]},
		{hosts["external"], pod},
		{pod, hosts["external"]},
		{hosts["lan"], &node.Place},
		{hosts["lan"], pod},
		{pod, hosts["lan"]},
		{hosts["router"], pod},
		{&node.Place, hosts["router"]},
	} {
		asks(t, pair[0], pair[1])
	}
	if err := errors.Join(c.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	m.unchanged(before)
}

// asks checks that one place reaches another one, which sees the first one's own address.
func asks(t *testing.T, from, to *cluster.Place) {
	t.Helper()
	if err := to.Agent.Listen(t.Context(), to.Netns, probe.ListenSpec{
		Protocol: probe.TCP, Port: 8080, Name: to.Name,
	}); err != nil {
		t.Fatal(err)
	}
	address := to.Interfaces["uplink"][0]
	result, err := from.Agent.Probe(t.Context(), from.Netns, probe.Spec{
		Protocol: probe.TCP, To: address.String(), Port: 8080,
	})
	if err != nil || !result.OK || result.PeerSeen != from.Interfaces["uplink"][0].String() {
		t.Errorf("from %s to %s %s: got %+v, %v, want an answer, and %v to be seen", from.Name, to.Name, address,
			result, err, from.Interfaces["uplink"])
	}
	if err := to.Agent.Unlisten(t.Context(), to.Netns); err != nil {
		t.Fatal(err)
	}
}
