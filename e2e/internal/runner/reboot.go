package runner

import (
	"context"
	"errors"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// reboot removes the pods' namespaces with the rest of the kernel's state. The runtime still has the attachments.
func (r *Runner) reboot(ctx context.Context, node *cluster.Node) error {
	if err := r.Env.Cluster.Reboot(ctx, node); err != nil {
		return err
	}
	delete(r.daemons.down, node.Name)
	for i, n := range r.Env.Cluster.Nodes() {
		if n == node {
			if err := listen(ctx, &node.Place, r.Env.Scenario.Nodes[i].Listen); err != nil {
				return err
			}
		}
	}
	for _, p := range r.Env.Pods {
		if p.Node == node {
			p.SetLost()
		}
	}
	return errors.Join(r.equipNodes(ctx), r.routeRouted(ctx), r.syncServices(ctx))
}
