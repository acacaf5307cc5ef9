package event_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
	"github.com/cnitest/cnitest/e2e/lab/event"
)

// ports returns the links through which eno1 sends.
func ports(t *testing.T) (names []string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	uplink := link(t, "eno1").Attrs().Index
	for _, l := range links {
		if l.Attrs().MasterIndex == uplink {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// TestHappen_port_kinds shows that the uplink has another port afterwards, and everything else as before.
func TestHappen_port_kinds(t *testing.T) {
	for name, kind := range map[string]string{event.BondPortReplaced: "bond", event.BridgePortReplaced: "bridge"} {
		t.Run(kind, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root for namespaces")
			}
			var missing []string
			if err := (&agent.Server{}).LinkKinds([]string{kind}, &missing); err != nil || len(missing) > 0 {
				kerneltest.Lacks(t, kind)
			}
			inNode(t, func(t *testing.T, n *event.Node) {
				before, uplink := state(t), link(t, "eno1")
				if !strings.Contains(before, "192.168.0.5/16") || !strings.Contains(before, "192.168.0.1") {
					t.Errorf("got\n%s\nwant the address and the route of the link that was the uplink", before)
				}
				if got := uplink.Type() + " " + uplink.Attrs().HardwareAddr.String(); got != kind+" 02:00:00:00:00:01" {
					t.Errorf("got the uplink %s, want a %s with the MAC as before", got, kind)
				}
				if diff := cmp.Diff([]string{"uplink-port0"}, ports(t)); diff != "" {
					t.Errorf("ports (-want +got):\n%s", diff)
				}
				for range 2 {
					happen(t, n, name)
					if diff := cmp.Diff([]string{"uplink-port1"}, ports(t)); diff != "" {
						t.Errorf("ports (-want +got):\n%s", diff)
					}
					undo(t, n)
					if diff := cmp.Diff([]string{"uplink-port0"}, ports(t)); diff != "" {
						t.Errorf("ports after all (-want +got):\n%s", diff)
					}
				}
				if diff := cmp.Diff(before, state(t)); diff != "" {
					t.Errorf("rules, routes and addresses (-before +after):\n%s", diff)
				}
				if got := link(t, "eno1").Attrs(); got.HardwareAddr.String() != "02:00:00:00:00:01" ||
					got.OperState != netlink.OperUp {
					t.Errorf("got the uplink %s with the MAC %s, want it up, with the MAC as before", got.OperState,
						got.HardwareAddr)
				}
			}, name)
		})
	}
}
