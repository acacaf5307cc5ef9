package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// runtime attaches pods: libcni through agents, or a container runtime.
type runtime interface {
	// attach makes the pod's namespace if there is none, starts its servers, attaches it and returns the result of ADD.
	attach(ctx context.Context, p *environment.Pod, ifName string) (json.RawMessage, error)
	// detach deletes an attachment.
	detach(ctx context.Context, p *environment.Pod, ifName string, how Deletion) error
	// attachments returns what is attached on a node besides the pods of the scenario.
	attachments(ctx context.Context, node *cluster.Node) ([]cni.Attachment, error)
}

// proxies program services on nodes: those of agents, or the cluster's own.
type proxies interface {
	// addresses returns the cluster addresses of a service, which is the index-th of the scenario.
	addresses(ctx context.Context, index int, spec scenario.Service) ([]netip.Addr, error)
	// program gives the present services and endpoints to the proxy of every node.
	program(ctx context.Context) error
}

// Deletion says in what state DEL finds a pod.
type Deletion struct {
	// Netns and Cache are as in scenario.Step; empty means that both are as ADD left them.
	Netns, Cache string
}

// containerRuntime is the runtime of a cluster that has one.
type containerRuntime struct {
	*Runner
	cluster cluster.Runtime
}

func (c *containerRuntime) attach(ctx context.Context, p *environment.Pod, ifName string) (json.RawMessage, error) {
	// Whether ADD succeeds or not, the pod must be deleted.
	p.SetAttached(ifName, false)
	a, err := c.cluster.Attach(ctx, p.Node, p.Namespace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	p.SetSandbox(a.Netns, a.ContainerID)
	p.SetAttached(ifName, true)
	return a.Result, c.equipPod(ctx, p)
}

func (c *containerRuntime) detach(ctx context.Context, p *environment.Pod, ifName string, _ Deletion) error {
	if p.Exists {
		// No process of the suite may hold the namespace: in a pod that ends nothing is left.
		if err := p.Agent.Unlisten(ctx, p.Netns); err != nil {
			return err
		}
	}
	if err := c.cluster.Detach(ctx, p.Namespace); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	p.Exists = false
	p.SetDetached(ifName)
	return nil
}

// attachments returns the pods of others, mainly those of CoreDNS, and again those of the scenario.
func (c *containerRuntime) attachments(ctx context.Context, node *cluster.Node) ([]cni.Attachment, error) {
	all, err := c.cluster.Attachments(ctx, node)
	if err != nil {
		return nil, err
	}
	var list []cni.Attachment
	for _, a := range all {
		list = append(list, cni.Attachment{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	return list, nil
}

// clusterProxies are the proxies of a cluster that has its own.
type clusterProxies struct {
	*Runner
	cluster cluster.Proxies
	// told has the endpoints that the cluster's proxies know, by service.
	told map[string][]cluster.Endpoint
}

// addresses returns the addresses that the cluster's API server gives the service.
func (c *clusterProxies) addresses(ctx context.Context, _ int, spec scenario.Service) ([]netip.Addr, error) {
	addrs, err := c.cluster.MakeService(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("service/%s: %w", spec.Name, err)
	}
	return addrs, nil
}

// program updates the services of the cluster whose endpoints changed.
func (c *clusterProxies) program(ctx context.Context) error {
	for _, s := range c.Env.Services {
		var endpoints []cluster.Endpoint
		for _, e := range c.Env.EndpointsOf(s) {
			for _, addr := range e.Addresses {
				endpoints = append(endpoints, cluster.Endpoint{
					Address: addr, Port: s.Spec.EndpointPort(), Node: c.Env.NodeOf(e.Place),
				})
			}
		}
		if known, told := c.told[s.Spec.Name]; told && slices.Equal(known, endpoints) {
			continue
		}
		if err := c.cluster.SetEndpoints(ctx, s.Spec.Name, endpoints); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		c.told[s.Spec.Name] = endpoints
	}
	return nil
}
