package ssh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// lab is a running cluster: an agent on each machine.
type lab struct {
	backend *Backend
	req     cluster.Request
	plan    *conflist.Plan
	nodes   []*cluster.Node
	// outside is the agent of the machine that plays the hosts; nil if there is none.
	outside *agent.Client
	hosts   map[string]*cluster.Place
	closing sync.Once
}

// Start starts agents on as many machines as the request has nodes. The machines' networks are first restored.
func (b *Backend) Start(ctx context.Context, req cluster.Request) (_ cluster.Cluster, err error) {
	if err := b.lost(); err != nil {
		return nil, err
	}
	plan, err := b.plan(req)
	if err != nil {
		return nil, err
	}
	l := &lab{backend: b, req: req, plan: plan, nodes: make([]*cluster.Node, len(req.Nodes))}
	b.mu.Lock()
	// End the programs of earlier clusters: two daemons would have the same port, and two metadata services the same
	// address.
	for _, earlier := range b.open {
		earlier.endAgents()
	}
	if b.dirty {
		err = b.restore(ctx, l.plan.Networks())
	}
	if err == nil {
		b.open, b.dirty = append(b.open, l), true
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range l.nodes {
		group.Go(func() (err error) {
			l.nodes[i], err = l.startNode(groupCtx, i, nil)
			return err
		})
	}
	group.Go(func() error { return l.startOutside(groupCtx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := l.addRoutes(ctx); err != nil {
		return nil, err
	}
	return l, cluster.StartTarget(ctx, l.req.Target, l.nodes...)
}

// startNode starts an agent and prepares its machine as a node, with the files of a disk, or at the first start the
// conflist.
func (l *lab) startNode(ctx context.Context, i int, disk []agent.File) (*cluster.Node, error) {
	m, plan := l.backend.machines[i], l.plan.Nodes[i]
	if err := m.copyPlugins(ctx, m.plugins.needed(l.req)); err != nil {
		return nil, err
	}
	name := "node/" + plan.Name
	client, err := m.keeper.Agent(name, plan.Name, []netns.Bind{{From: m.binDir, To: netns.BinDir}})
	if err != nil {
		return nil, err
	}
	node := &cluster.Node{
		Place: cluster.Place{Name: name, Agent: client, Interfaces: map[string][]netip.Addr{
			"management": m.management(plan.Uplink), "uplink": cluster.Addresses(plan.Addresses),
		}},
		Uplink: plan.Uplink, Networks: l.plan.Networks(), Conflist: plan.Conflist, BinDirs: []string{netns.BinDir},
		PoolSize:     plan.PoolSize,
		PodAddresses: plan.PodAddresses,
	}
	if err := l.furnish(ctx, i, node, disk); err != nil {
		return nil, m.explain(errors.Join(err, client.Close()))
	}
	return node, nil
}

// furnish gives a node its settings and files.
func (l *lab) furnish(ctx context.Context, i int, node *cluster.Node, disk []agent.File) error {
	if _, err := node.Agent.Hello(ctx); err != nil {
		return err
	}
	if err := node.Agent.SetSysctls(ctx, "", l.sysctls(i)); err != nil {
		return err
	}
	if disk == nil {
		disk = []agent.File{
			{Path: netns.ConflistDir + "/10-cnitest.conflist", Mode: 0o644, Data: l.plan.Nodes[i].Conflist},
		}
	}
	for _, file := range disk {
		if err := node.Agent.WriteFile(ctx, file); err != nil {
			return fmt.Errorf("restore %s: %w", file.Path, err)
		}
	}
	if l.req.Target != nil && l.req.Target.Cloud != nil {
		return l.serveCloud(ctx, i, node)
	}
	return nil
}

// sysctls returns the settings that every Kubernetes node has, and those that the scenario chooses. All others stay as
// they are on the machine, since it is tested as it is.
func (l *lab) sysctls(i int) map[string]string {
	values, want, plan := map[string]string{"net.ipv4.ip_forward": "1"}, l.req.Nodes[i], l.plan.Nodes[i]
	if slices.ContainsFunc(plan.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		values["net.ipv6.conf.all.forwarding"] = "1"
	}
	if want.RPFilter != nil {
		for _, scope := range []string{"all", "default", plan.Uplink} {
			values["net.ipv4.conf."+scope+".rp_filter"] = fmt.Sprint(*want.RPFilter)
		}
	}
	for name, value := range want.Sysctl {
		values[name] = value
	}
	if _, chosen := want.Sysctl["net.ipv6.conf.default.accept_ra"]; chosen {
		// The uplink must not react to router advertisements, since the results would look like changes of the plugin.
		// It behaves like the uplink of a server with fixed addresses.
		values["net.ipv6.conf."+plan.Uplink+".accept_ra"] = "0"
	}
	return values
}

// addRoutes adds routes to pods that are behind another node, and to the network behind the router.
func (l *lab) addRoutes(ctx context.Context) error {
	for i, node := range l.nodes {
		if err := l.routeOutside(ctx, node); err != nil {
			return err
		}
		for j, other := range l.plan.Nodes {
			for _, prefix := range other.PodPrefixes {
				via := slices.IndexFunc(other.Addresses, func(p netip.Prefix) bool {
					return p.Addr().Is4() == prefix.Addr().Is4()
				})
				if i == j || via < 0 {
					continue
				}
				if err := node.Agent.AddRoute(ctx, agent.WayArgs{
					Destination: prefix, Gateway: other.Addresses[via].Addr(),
				}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Nodes returns the nodes in the order of the request.
func (l *lab) Nodes() []*cluster.Node { return l.nodes }

// Hosts returns the hosts on the machine outside the cluster, or none without such a machine: other hosts of the
// network are not the suite's.
func (l *lab) Hosts() map[string]*cluster.Place { return l.hosts }

// Fabric returns nil: the network between the machines is their own.
func (l *lab) Fabric() *cluster.Place { return nil }

// Cloud returns nil: no cloud can be changed.
func (l *lab) Cloud() cluster.Cloud { return nil }

// Lost checks all machines, and returns the reason why one of them does not answer, or nil.
func (l *lab) Lost() error {
	for _, m := range l.machines() {
		if err := m.lost(); err != nil {
			return err
		}
		if err := m.keeper.Alive(); err != nil {
			return err
		}
	}
	return nil
}

// machines returns the machines that the cluster uses.
func (l *lab) machines() []*machine {
	all := slices.Clone(l.backend.machines[:len(l.nodes)])
	if l.outside != nil {
		all = append(all, l.backend.outside)
	}
	return all
}

// Notes returns the notes of the plan, and which machine is which node.
func (l *lab) Notes() []string {
	notes := slices.Clone(l.plan.Notes)
	for i, node := range l.nodes {
		notes = append(notes, fmt.Sprintf("%s is %s, its uplink %s with %s", node.Name, l.backend.machines[i].name,
			node.Uplink, list(l.plan.Nodes[i].Addresses)))
	}
	if l.outside != nil {
		notes = append(notes, fmt.Sprintf("host/lan is %s, host/router and host/external are namespaces there",
			l.backend.outside.name))
	}
	return notes
}

// Close ends the agents and restores the machines' networks, unless another cluster uses them.
func (l *lab) Close() (err error) {
	l.closing.Do(func() {
		l.endAgents()
		err = l.backend.closed(l)
	})
	return err
}

func (l *lab) endAgents() {
	for _, node := range l.nodes {
		if node != nil {
			_ = node.Agent.Close()
		}
	}
	if l.outside != nil {
		_ = l.outside.Close()
	}
}
