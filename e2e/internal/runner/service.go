package runner

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// makeServices makes the scenario's services, each with its addresses.
func (r *Runner) makeServices(ctx context.Context) error {
	for i, spec := range r.Env.Scenario.Services {
		addrs, err := r.proxies.addresses(ctx, i, spec)
		if err != nil {
			return err
		}
		r.Env.Services = append(r.Env.Services, &environment.Service{
			Place: cluster.Place{
				Name:       scenario.ServicePlace + "/" + spec.Name,
				Interfaces: map[string][]netip.Addr{scenario.UplinkInterface: addrs},
			},
			Spec: spec, Endpoints: spec.Endpoints,
		})
	}
	return nil
}

// syncServices programs the proxy of every node with the present endpoints.
func (r *Runner) syncServices(ctx context.Context) error {
	if len(r.Env.Services) == 0 {
		return nil
	}
	r.syncing.Lock()
	defer r.syncing.Unlock()
	return r.proxies.program(ctx)
}

// followPods programs the proxies again after a step that attached or deleted pods.
func (r *Runner) followPods(ctx context.Context, err *error) {
	if *err == nil {
		*err = r.syncServices(ctx)
	}
}

// replaceEndpoints changes the endpoints of a service.
func (r *Runner) replaceEndpoints(ctx context.Context, e scenario.Endpoints) error {
	s := r.Env.Service(e.Of)
	if s == nil {
		return fmt.Errorf("%s: no such service", e.Of)
	}
	s.Endpoints = e.Are
	return r.syncServices(ctx)
}

// ResetServices gives all services the endpoints that they had at the start.
func (r *Runner) ResetServices(ctx context.Context) error {
	for _, s := range r.Env.Services {
		s.Endpoints = s.Spec.Endpoints
	}
	return r.syncServices(ctx)
}
