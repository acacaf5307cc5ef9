package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
)

// libcni is the runtime of nodes on which agents run the plugins through libcni and program the services.
type libcni struct{ *Runner }

func (l *libcni) attach(ctx context.Context, p *environment.Pod, ifName string) (json.RawMessage, error) {
	if err := l.makeNamespace(ctx, p); err != nil {
		return nil, err
	}
	reply, err := l.cni(ctx, p, l.request(p, cni.Add, ifName))
	p.SetAttached(ifName, err == nil)
	return reply.Outcome.Result, err
}

// makeNamespace makes the pod's namespace if there is none, and starts its servers.
func (l *libcni) makeNamespace(ctx context.Context, p *environment.Pod) error {
	if p.Exists {
		return nil
	}
	if _, err := p.Node.Agent.CreateNamespace(ctx, p.Namespace); err != nil {
		return err
	}
	p.Exists, p.Agent = true, p.Node.Agent
	return l.equipPod(ctx, p)
}

func (l *libcni) detach(ctx context.Context, p *environment.Pod, ifName string, how Deletion) error {
	if how.Netns != "" && p.Exists {
		if err := l.RemoveNamespace(ctx, p); err != nil {
			return err
		}
	}
	path := cni.CachePath(p.On(ifName).Name, p.ContainerID(), ifName)
	switch how.Cache {
	case scenario.CacheAbsent:
		if err := p.Node.Agent.RemoveFile(ctx, path); err != nil {
			return err
		}
	case scenario.CacheEmpty:
		if err := p.Node.Agent.WriteFile(ctx, agent.File{Path: path, Mode: 0o600}); err != nil {
			return err
		}
	}
	req := l.request(p, cni.Del, ifName)
	if how.Netns == scenario.NetnsEmpty {
		req.Netns = ""
	}
	if _, err := l.cni(ctx, p, req); err != nil {
		return err
	}
	l.desk.Return(p.Node.Name, p.ContainerID(), ifName)
	p.SetDetached(ifName)
	return nil
}

// attachments returns none: only the scenario attaches pods on the node.
func (l *libcni) attachments(context.Context, *cluster.Node) ([]cni.Attachment, error) {
	return nil, nil
}

// serviceRanges returns the networks from which cluster addresses can come, the preferred one first. The key says
// whether they are IPv4.
func serviceRanges() map[bool][]netip.Prefix {
	return map[bool][]netip.Prefix{
		true:  {netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("172.20.0.0/16")},
		false: {netip.MustParsePrefix("fd00:10:96::/112"), netip.MustParsePrefix("fd00:172:20::/112")},
	}
}

// addresses returns the next address of each family that the nodes have.
func (l *libcni) addresses(_ context.Context, index int, _ scenario.Service) ([]netip.Addr, error) {
	nodes := l.Env.Cluster.Nodes()
	var addrs []netip.Addr
	for _, is4 := range []bool{true, false} {
		if _, err := nodes[0].Address(scenario.UplinkInterface, is4); err != nil {
			continue
		}
		network, err := serviceRange(nodes, is4)
		if err != nil {
			return nil, err
		}
		addr := network.Addr()
		for range 10 + index {
			addr = addr.Next()
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// serviceRange returns the first network for cluster addresses that overlaps none of the nodes.
func serviceRange(nodes []*cluster.Node, is4 bool) (netip.Prefix, error) {
	for _, candidate := range serviceRanges()[is4] {
		overlaps := func(n *cluster.Node) bool {
			return slices.ContainsFunc(n.Networks, func(p netip.Prefix) bool { return p.Overlaps(candidate) })
		}
		if !slices.ContainsFunc(nodes, overlaps) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no range for services beside the networks of the conflist; tried %v",
		serviceRanges()[is4])
}

func (l *libcni) program(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range l.Env.Cluster.Nodes() {
		var seen []service.Service
		for _, s := range l.Env.Services {
			seen = append(seen, l.seenFrom(node, s))
		}
		group.Go(func() error {
			args := agent.ServicesArgs{
				Options: service.Options{Dataplane: l.config.Dataplane}, Services: seen,
				Programs: node.BinDirs[0], Root: debian.Dir(),
			}
			if err := node.Agent.Services(ctx, args); err != nil {
				return fmt.Errorf("%s: services: %w", node.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// seenFrom returns a service as the proxy of a node knows it.
func (l *libcni) seenFrom(node *cluster.Node, s *environment.Service) service.Service {
	seen := service.Service{
		Name: s.Spec.Name, Protocol: s.Spec.Protocol, ClusterIPs: s.Interfaces[scenario.UplinkInterface],
		Port: s.Spec.Port, NodePort: s.Spec.NodePort,
		LocalOnly: s.Spec.ExternalTrafficPolicy == scenario.LocalPolicy,
	}
	for _, e := range l.Env.EndpointsOf(s) {
		for _, addr := range e.Addresses {
			seen.Endpoints = append(seen.Endpoints, service.Endpoint{
				Address: addr, Port: s.Spec.EndpointPort(), Local: l.Env.RunsOn(e.Place, node),
			})
		}
	}
	return seen
}
