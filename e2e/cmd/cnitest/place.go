package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// places returns the nodes, the hosts around them and the pods that have a namespace, as "pod/NAME@NODE": pods of
// several nodes may share a name.
func places(ctx context.Context, c cluster.Cluster) []*cluster.Place {
	var all, pods []*cluster.Place
	for _, n := range c.Nodes() {
		all = append(all, &n.Place)
		// A node that just ended has no pods to enter.
		names, _ := n.Agent.ListDir(ctx, agent.NamespaceDir)
		for _, name := range names {
			_, node, _ := strings.Cut(n.Name, "/")
			pods = append(pods, &cluster.Place{
				Name: fmt.Sprintf("%s/%s@%s", scenario.PodPlace, name, node), Agent: n.Agent,
				Netns: agent.NamespacePath(name),
			})
		}
	}
	all = append(all, pods...)
	for _, name := range scenario.HostNames() {
		if h, ok := c.Hosts()[name]; ok {
			all = append(all, h)
		}
	}
	return all
}

func findPlace(ctx context.Context, c cluster.Cluster, name string) (*cluster.Place, error) {
	var names []string
	for _, p := range places(ctx, c) {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("--on %q: want one of %s", name, strings.Join(names, ", "))
}

// printWaysIn lists commands that enter each place of a cluster from outside.
func printWaysIn(ctx context.Context, out io.Writer, c cluster.Cluster) {
	enterer, ok := c.(cluster.Enterable)
	if !ok {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range places(ctx, c) {
		fmt.Fprintf(w, "  %s\t%s\n", p.Name, enterer.WayIn(p))
	}
	_ = w.Flush()
}

// asWhom says who may use the commands.
func asWhom() string {
	if netns.InUserNamespace() {
		return ", as the same user"
	}
	return ", as root"
}
