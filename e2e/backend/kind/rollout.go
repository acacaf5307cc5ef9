package kind

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cluster"
)

const (
	// replicas is the size of the deployment.
	replicas = 4
	// linger is how long its pods still answer after they were told to end. Careful users configure that too: until the
	// proxies have changed their rules they may send requests to such pods.
	linger = 5 * time.Second
	// rolloutTime limits one rollout.
	rolloutTime = 3 * time.Minute
)

// deploymentStatus contains the fields of the API's object that are used here.
type deploymentStatus struct {
	Metadata struct {
		Generation int `json:"generation"`
	} `json:"metadata"`
	Status struct {
		ObservedGeneration int `json:"observedGeneration"`
		Replicas           int `json:"replicas"`
		UpdatedReplicas    int `json:"updatedReplicas"`
		AvailableReplicas  int `json:"availableReplicas"`
	} `json:"status"`
}

// rollout sends requests to a deployment's service, from pods on each node, while all of its pods are replaced.
func (l *lab) rollout(ctx context.Context) (err error) {
	name := l.name + "-rolled"
	deployment, service := "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, servicesPath+"/"+name
	defer func() {
		ctx := context.WithoutCancel(ctx)
		err = errors.Join(err, l.backend.api.Remove(ctx, service), l.backend.api.Remove(ctx, deployment),
			l.allGone(ctx, name))
	}()
	if err := l.deploy(ctx, name); err != nil {
		return err
	}
	if err := l.rolledOut(ctx, deployment); err != nil {
		return err
	}
	text, err := l.clusterIP(ctx, namespace, name)
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	return l.withPods(ctx, "client", 1, func(clients []*cluster.Place) error {
		// The proxies may take some seconds to write their first rules for the service.
		for _, c := range clients {
			if err := until(ctx, proxyTimeout, c.Name+": the service to answer", func() (bool, error) {
				return askAllTheWhile(ctx, c, address, storyPort, func() error {
					return wait(ctx, probeInterval)
				}) == nil, nil
			}); err != nil {
				return err
			}
		}
		finished, stop := context.WithCancel(ctx)
		defer stop()
		group, groupCtx := errgroup.WithContext(ctx)
		for _, c := range clients {
			group.Go(func() error {
				return askAllTheWhile(groupCtx, c, address, storyPort, func() error {
					select {
					case <-finished.Done():
					case <-groupCtx.Done():
					}
					return nil
				})
			})
		}
		group.Go(func() error {
			defer stop()
			if err := l.restart(groupCtx, deployment); err != nil {
				return err
			}
			return l.rolledOut(groupCtx, deployment)
		})
		return group.Wait()
	})
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// deploy makes a deployment whose pods answer, and a service for it.
func (l *lab) deploy(ctx context.Context, name string) error {
	labels := object{"app": name}
	spec := l.podSpec("", l.backend.nodes[0])["spec"].(object)
	// The scheduler chooses the nodes.
	delete(spec, "nodeName")
	spec["terminationGracePeriodSeconds"] = 2 * int(linger.Seconds())
	container := spec["containers"].([]object)[0]
	container["args"] = []string{PodCommand, fmt.Sprintf("--answer=%d", storyPort), fmt.Sprintf("--linger=%s", linger)}
	err := l.backend.api.Create(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments", object{
		"metadata": object{"name": name},
		"spec": object{
			"replicas": replicas, "selector": object{"matchLabels": labels},
			"strategy": object{"rollingUpdate": object{"maxUnavailable": 1, "maxSurge": 1}},
			"template": object{"metadata": object{"labels": labels}, "spec": spec},
		},
	}, nil)
	if err != nil {
		return err
	}
	return l.backend.api.Create(ctx, servicesPath, object{
		"metadata": object{"name": name},
		"spec":     object{"selector": labels, "ports": []object{{"port": storyPort, "targetPort": storyPort}}},
	}, nil)
}

// restart restarts a deployment as `kubectl rollout restart` does.
func (l *lab) restart(ctx context.Context, deployment string) error {
	var current object
	if err := l.backend.api.Get(ctx, deployment, &current); err != nil {
		return err
	}
	template := current["spec"].(object)["template"].(object)["metadata"].(object)
	template["annotations"] = object{"cnitest/restarted": time.Now().Format(time.RFC3339)}
	return l.backend.api.Do(ctx, http.MethodPut, deployment, current, nil)
}

// rolledOut waits until all pods belong to the latest version of the deployment.
func (l *lab) rolledOut(ctx context.Context, deployment string) error {
	return until(ctx, rolloutTime, "the deployment's pods to be replaced", func() (bool, error) {
		var d deploymentStatus
		if err := l.backend.api.Get(ctx, deployment, &d); err != nil {
			return false, err
		}
		s := d.Status
		return s.ObservedGeneration >= d.Metadata.Generation && s.UpdatedReplicas == replicas &&
			s.AvailableReplicas == replicas && s.Replicas == replicas, nil
	})
}

// allGone waits until an app has no pods left.
func (l *lab) allGone(ctx context.Context, app string) error {
	return until(ctx, podTimeout, "the pods of "+app+" to go away", func() (bool, error) {
		var pods struct {
			Items []struct{} `json:"items"`
		}
		err := l.backend.api.Get(ctx, podsPath+"?labelSelector=app%3D"+app, &pods)
		return len(pods.Items) == 0, err
	})
}
