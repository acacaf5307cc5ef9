package netns_test

import (
	"slices"
	"testing"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// The sysctls of connection tracking exist before any plugin runs, even if connection tracking is a module of the
// kernel.
func TestStart_loads_conntrack(t *testing.T) {
	state, err := start(t, request(t, macvlanConflist, 1)).Nodes()[0].Agent.Snapshot(ctx(t), agent.SnapshotArgs{})
	check(t, err)
	if !slices.ContainsFunc(state.Items, func(i snapshot.Item) bool {
		return i.Kind == snapshot.Sysctl && i.Name == "net.netfilter.nf_conntrack_max"
	}) {
		kerneltest.Lacks(t, "conntrack")
	}
}
