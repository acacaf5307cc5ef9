package kind

import (
	"context"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/kubeapi"
)

// podTimeout limits how long a cluster may take until the next pod starts or vanishes: usually one or two seconds.
const podTimeout = time.Minute

// await waits for a pod. A crowd of pods takes as long as the cluster needs for them: the limit begins anew whenever
// another pod of the lab has started or vanished. If it passes, a pod without a network of its own is tried on the same
// node, to know whose fault it is.
func (l *lab) await(ctx context.Context, limit time.Duration, n *cluster.Node, what string,
	done func() (bool, error),
) error {
	for {
		before := l.moves.Load()
		err := until(ctx, limit, what, done)
		switch {
		case err == nil:
			l.moves.Add(1)
			return nil
		case ctx.Err() != nil || kubeapi.Refused(err):
			return err
		case l.moves.Load() == before:
			l.control(ctx, n, limit)
			return err
		}
	}
}

// control records it for the unit that runs, if a pod on the node's own network, for which no plugin is called, does
// not run within the limit either. Pods that wait for the same node share one.
func (l *lab) control(ctx context.Context, n *cluster.Node, limit time.Duration) {
	text, _, _ := l.controls.Do(n.Name, func() (any, error) { return l.controlPod(ctx, n, limit), nil })
	disturbance.Of(ctx).Control(text.(string))
}

// controlPod returns what kept the control pod of a node from running; an empty text if it ran.
func (l *lab) controlPod(ctx context.Context, n *cluster.Node, limit time.Duration) string {
	name := fmt.Sprintf("%s-control-%d", l.name, l.controlled.Add(1))
	pod, at := l.podSpec(name, l.clusterNode(n)), podsPath+"/"+name
	spec := pod["spec"].(object)
	spec["hostNetwork"], spec["restartPolicy"] = true, "Never"
	container := spec["containers"].([]object)[0]
	container["args"] = []string{"version"}
	delete(container, "readinessProbe")
	defer func() { _ = l.backend.api.Remove(context.WithoutCancel(ctx), at) }()
	var status podStatus
	err := l.backend.api.Create(ctx, podsPath, pod, &status)
	if err == nil {
		err = until(ctx, limit, "pod "+name+" to end", func() (bool, error) {
			err := l.backend.api.Get(ctx, at, &status)
			return status.Status.Phase == "Succeeded", err
		})
	}
	if err == nil || ctx.Err() != nil {
		return ""
	}
	return fmt.Sprintf("a control pod on the network of %s, for which no plugin is called, did not run: %v", n.Name,
		err)
}
