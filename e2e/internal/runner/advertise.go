package runner

import (
	"context"
	"errors"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// advertise sends a router advertisement into the underlay. It keeps the state before it, with which later steps
// compare.
func (r *Runner) advertise(ctx context.Context, a scenario.Advertise) error {
	for _, node := range r.Env.Cluster.Nodes() {
		state, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: unchangeableKinds()})
		if err != nil {
			return err
		}
		r.Env.States[node.Name].Advertised = state
	}
	router, ok := r.Env.Cluster.Hosts()[scenario.RouterHost]
	if !ok {
		return errors.New("host/router does not exist in this cluster")
	}
	return router.Agent.Advertise(ctx, agent.AdvertiseArgs{
		Netns: router.Netns, Interface: "eth0",
		Advertisement: probe.Advertisement{Prefix: a.Prefix, RouterLifetime: 30 * time.Minute},
	})
}
