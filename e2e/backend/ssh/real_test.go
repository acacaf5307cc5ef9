package ssh_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/backend/ssh"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
)

// TestMachines sends a probe from a pod on one real machine to a pod on another one, and checks that the other one's
// uplink receives it:
//
//	CNITEST_SSH_NODES=node1,node2 CNITEST_SSH_CONFIG=ssh.cfg go test -run TestMachines ./e2e/backend/ssh
func TestMachines(t *testing.T) {
	nodes := os.Getenv("CNITEST_SSH_NODES")
	if nodes == "" {
		t.Skip("CNITEST_SSH_NODES does not name machines")
	}
	dir := os.Getenv("CNITEST_TEST_PLUGINS")
	if dir == "" {
		dir = binDir(t, "macvlan", "host-local")
	}
	options := ssh.Options{
		Nodes: strings.Split(nodes, ","), ConfigFile: os.Getenv("CNITEST_SSH_CONFIG"), Conflist: parse(t, testConflist),
		BinDir: dir,
		Subnet: netip.MustParsePrefix("10.77.0.0/16"), Binary: func(string) (string, error) {
			return "/proc/self/exe", nil
		}, Log: func(text string) { t.Log(text) },
	}
	b := open(t, options)
	c, err := b.Start(t.Context(), request(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(strings.Join(c.Notes(), "\n"))
	crosses(t, c.Nodes()[0], c.Nodes()[1])
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// crosses attaches a pod on each node and checks that both uplinks carry the packets between the two pods.
func crosses(t *testing.T, from, to *cluster.Node) {
	t.Helper()
	toPath, address := attach(t, to, "first")
	fromPath, source := attach(t, from, "second")
	if err := to.Agent.Listen(t.Context(), toPath, probe.ListenSpec{
		Protocol: probe.TCP, Port: 8080, Name: "first",
	}); err != nil {
		t.Fatal(err)
	}
	captures := map[*cluster.Node]int{from: 0, to: 0}
	for node := range captures {
		id, err := node.Agent.StartCapture(t.Context(), "", probe.Match{
			Hosts: []string{address}, Ports: []uint16{8080},
		})
		if err != nil {
			t.Fatal(err)
		}
		captures[node] = id
	}
	result, err := from.Agent.Probe(t.Context(), fromPath, probe.Spec{Protocol: probe.TCP, To: address, Port: 8080})
	if err != nil || !result.OK || result.PeerSeen != source {
		t.Errorf("from %s to %s: got %+v, %v, want an answer, and %s to be seen", from.Name, to.Name, result, err,
			source)
	}
	for node, id := range captures {
		captured, err := node.Agent.StopCapture(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		seen := ""
		for _, p := range captured.Packets {
			if p.Interface == node.Uplink && p.Protocol == "TCP" && p.Source == source &&
				strings.Contains(p.Info, "SYN") && seen == "" {
				seen = fmt.Sprintf("%s %s of %s: %s > %s %s", p.Time.Format("15:04:05.000000"), p.Interface, node.Name,
					p.Source, p.Destination, p.Info)
			}
		}
		t.Log(seen)
		if seen == "" {
			t.Errorf("on %s of %s: got %d packets, want the first of the connection", node.Uplink, node.Name,
				len(captured.Packets))
		}
	}
}
