package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// addByRuntime makes a pod that the cluster's own runtime attaches.
func (r *run) addByRuntime(ctx context.Context, runtime cluster.Runtime, p *environment.Pod) (err error) {
	// Whatever comes of it, the pod is to be deleted.
	p.SetAttached(scenario.DefaultInterface, false)
	a, err := runtime.Attach(ctx, p.Node, p.Namespace)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	p.SetSandbox(a.Netns, a.ContainerID)
	p.SetAttached(scenario.DefaultInterface, true)
	if err := r.equipPod(ctx, p); err != nil {
		return err
	}
	return r.accept(ctx, p, scenario.DefaultInterface, a.Result)
}

// delByRuntime deletes a pod as its cluster does.
func (r *run) delByRuntime(ctx context.Context, runtime cluster.Runtime, p *environment.Pod) error {
	if p.Exists {
		// Nothing of the suite's may hold the namespace: in a pod that ends nothing is left.
		if err := p.Agent.Unlisten(ctx, p.Netns); err != nil {
			return err
		}
	}
	if err := runtime.Detach(ctx, p.Namespace); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	p.Exists = false
	p.SetDetached(scenario.DefaultInterface)
	return nil
}

// syncServicesByRuntime tells the cluster of endpoints that came and went.
func (r *run) syncServicesByRuntime(ctx context.Context, runtime cluster.Runtime) error {
	for _, s := range r.env.Services {
		var endpoints []cluster.Endpoint
		for _, e := range r.env.EndpointsOf(s) {
			for _, addr := range e.Addresses {
				endpoints = append(endpoints, cluster.Endpoint{Address: addr, Port: s.Spec.EndpointPort(), Node: r.env.NodeOf(e.Place)})
			}
		}
		if known, told := r.told[s.Spec.Name]; told && slices.Equal(known, endpoints) {
			continue
		}
		if err := runtime.SetEndpoints(ctx, s.Spec.Name, endpoints); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		r.told[s.Spec.Name] = endpoints
	}
	return nil
}

// askCluster fails a scenario during which the cluster itself was in trouble, and adds what a cluster says of a failure.
func (r *run) askCluster(ctx context.Context, result *report.Result) {
	runtime := cluster.RuntimeOf(r.env.Cluster)
	if runtime == nil {
		return
	}
	if trouble := runtime.Trouble(); trouble != nil {
		if result.Result == report.Pass {
			result.Result, result.Reason = report.Fail, ""
		}
		result.Reason = errors.Join(errorOf(result.Reason), trouble).Error()
	}
	if result.Result != report.Fail {
		return
	}
	found := runtime.Evidence(context.WithoutCancel(ctx))
	for _, title := range slices.Sorted(maps.Keys(found)) {
		result.Evidence = append(result.Evidence, report.Evidence{Title: title, Text: cmp.Or(found[title], "nothing")})
	}
}

// errorOf is a text as an error; nil where there is none.
func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}
