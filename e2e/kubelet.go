package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// addByRuntime makes a pod that the cluster's own runtime attaches.
func (r *run) addByRuntime(ctx context.Context, runtime cluster.Runtime, p *pod) (err error) {
	r.mu.Lock()
	// Whatever comes of it, the pod is to be deleted.
	p.attached[scenario.DefaultInterface], p.released[scenario.DefaultInterface] = false, false
	r.mu.Unlock()
	a, err := runtime.Attach(ctx, p.node, p.namespace)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	r.mu.Lock()
	p.exists, p.Agent, p.Netns, p.containerID = true, p.node.Agent, a.Netns, a.ContainerID
	p.attached[scenario.DefaultInterface] = true
	r.mu.Unlock()
	if err := r.equipPod(ctx, p); err != nil {
		return err
	}
	return r.accept(ctx, p, scenario.DefaultInterface, a.Result)
}

// delByRuntime deletes a pod as its cluster does.
func (r *run) delByRuntime(ctx context.Context, runtime cluster.Runtime, p *pod) error {
	if p.exists {
		// Nothing of the suite's may hold the namespace: in a pod that ends nothing is left.
		if err := p.Agent.Unlisten(ctx, p.Netns); err != nil {
			return err
		}
	}
	if err := runtime.Detach(ctx, p.namespace); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.exists = false
	delete(p.attached, scenario.DefaultInterface)
	delete(p.Interfaces, scenario.DefaultInterface)
	return nil
}

// syncServicesByRuntime tells the cluster of endpoints that came and went.
func (r *run) syncServicesByRuntime(ctx context.Context, runtime cluster.Runtime) error {
	for _, s := range r.services {
		var endpoints []cluster.Endpoint
		for _, e := range r.endpointsOf(s) {
			for _, addr := range e.addresses {
				endpoints = append(endpoints, cluster.Endpoint{Address: addr, Port: s.spec.EndpointPort(), Node: r.nodeOf(e.place)})
			}
		}
		if s.told && slices.Equal(s.known, endpoints) {
			continue
		}
		if err := runtime.SetEndpoints(ctx, s.spec.Name, endpoints); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		s.told, s.known = true, endpoints
	}
	return nil
}

// nodeOf is the node that a place is or is on; nil for hosts.
func (r *run) nodeOf(place *cluster.Place) *cluster.Node {
	for _, n := range r.cluster.Nodes() {
		if r.runsOn(place, n) {
			return n
		}
	}
	return nil
}

// askCluster fails a scenario during which the cluster itself was in trouble, and adds what a cluster says of a failure.
func (r *run) askCluster(ctx context.Context, result *report.Result) {
	runtime := cluster.RuntimeOf(r.cluster)
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
