package netns_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
)

// Nodes with the underlay as a VLAN reach each other, each other's pods and hosts, also after a reboot.
func TestNetwork_vlan_uplink(t *testing.T) {
	missing, err := start(t, request(t, macvlanConflist, 1)).Nodes()[0].Agent.LinkKinds(ctx(t), []string{"vlan"})
	check(t, err)
	req := request(t, macvlanConflist, 2)
	req.UplinkKind = "vlan"
	if len(missing) > 0 {
		_, err := backend().Start(ctx(t), req)
		wantOneOf(t, err, "node/a: vlan link: operation not supported", "node/b: vlan link: operation not supported")
		kerneltest.Lacks(t, "vlan")
	}
	c := start(t, req)
	check(t, c.(interface {
		Reboot(context.Context, *cluster.Node) error
	}).Reboot(ctx(t), c.Nodes()[1]))
	for i, node := range c.Nodes() {
		links, err := node.Agent.Links(ctx(t), "")
		check(t, err)
		var got []agent.Link
		for _, l := range links {
			if l.Name == node.Uplink {
				got = append(got, agent.Link{Name: l.Name, Kind: l.Kind, Parent: l.Parent, MTU: l.MTU, Up: l.Up})
			}
		}
		if diff := cmp.Diff([]agent.Link{{Name: "eno1", Kind: "vlan", Parent: "trunk", MTU: 1500, Up: true}},
			got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", node.Name, diff)
		}
		pod := attach(t, node, "pod")
		for _, from := range []*cluster.Place{&c.Nodes()[1-i].Place, c.Hosts()["lan"], c.Hosts()["router"]} {
			ask(t, from, pod.Agent, pod.Netns, addressOf(t, pod, true))
		}
	}
}

func wantOneOf(t *testing.T, err error, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if err != nil && err.Error() == want {
			return
		}
	}
	t.Errorf("got the error %v, want one of %q", err, wants)
}
