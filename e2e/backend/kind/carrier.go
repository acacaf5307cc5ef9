package kind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// hostRoot is the path at which a carrier sees its node's root.
const hostRoot = "/host"

// carry starts a DaemonSet whose pods start agents on the nodes of a cluster that was not made by kind. The pods use
// their node's network and see its files and mounts; they need no CNI plugin.
func (b *Backend) carry(ctx context.Context) error {
	const name = "carrier"
	labels := object{"app": name}
	err := b.api.Create(ctx, "/apis/apps/v1/namespaces/"+namespace+"/daemonsets", object{
		"metadata": object{"name": name},
		"spec": object{
			"selector": object{"matchLabels": labels},
			"template": object{
				"metadata": object{"labels": labels},
				"spec": object{
					"hostNetwork": true, "hostPID": true, "tolerations": []object{{"operator": "Exists"}},
					"terminationGracePeriodSeconds": podGrace,
					"automountServiceAccountToken":  false,
					"containers": []object{{
						"name": name, "image": b.image.ref, "imagePullPolicy": b.image.policy(),
						"args":            []string{HoldCommand},
						"securityContext": object{"privileged": true},
						// The pod also sees mounts that a runtime makes later, such as the namespaces of new pods.
						"volumeMounts": []object{{"name": "root", "mountPath": hostRoot, "mountPropagation": "HostToContainer"}},
					}},
					"volumes": []object{{"name": "root", "hostPath": object{"path": "/"}}},
				},
			},
		},
	}, nil)
	if err != nil {
		return err
	}
	return until(ctx, 2*time.Minute, "a carrier on each node", func() (bool, error) {
		var pods struct {
			Items []struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
				Spec struct {
					NodeName string `json:"nodeName"`
				} `json:"spec"`
				Status struct {
					Phase string `json:"phase"`
				} `json:"status"`
			} `json:"items"`
		}
		if err := b.api.Get(ctx, podsPath+"?labelSelector=app%3D"+name, &pods); err != nil {
			return false, err
		}
		for _, p := range pods.Items {
			i := slices.IndexFunc(b.nodes, func(n *node) bool { return n.name == p.Spec.NodeName })
			if i >= 0 && p.Status.Phase == "Running" {
				b.nodes[i].carrier = p.Metadata.Name
			}
		}
		return !slices.ContainsFunc(b.nodes, func(n *node) bool { return n.carrier == "" }), nil
	})
}

// HoldCommand is the name of the command that a carrier's container runs: it waits until it is told to end.
const HoldCommand = "hold"

// Hold waits until ctx ends.
func Hold(ctx context.Context) error {
	<-ctx.Done()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("hold: %w", err)
	}
	return nil
}
