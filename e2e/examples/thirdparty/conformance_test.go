package main

import (
	"testing"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/scenario"
)

func TestMain(m *testing.M) { netns.Main(m) }

// A node does not reach its own pods, so the profile is cni; the other features of the plugin are claimed. Quick leaves
// out the sweeps that kill the plugin at every system call, since host-local, its IPAM plugin, loses an address then.
func TestConformance(t *testing.T) {
	_, err := e2e.Run(t, e2e.Options{
		Conflist: "net.d/10-toyvlan.conflist", BinDir: "bin", Backend: &netns.Backend{}, ReportDir: "_artifacts",
		Select:  e2e.Selection{Quick: true},
		Profile: scenario.ProfileCNI, Claims: []scenario.Feature{
			scenario.CrossNode, scenario.External, scenario.SecondInterface,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}
