package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/target"
)

// Cloud is the network of nodes that are instances of a cloud. What a node has can change while it runs: take its
// Instance, change a copy and Set it.
type Cloud interface {
	// Instance returns what a node has, and what its metadata service says.
	Instance(node *Node) metadata.Instance
	// NewENI returns an interface with its addresses that can be attached to a node, NewAddress an address for one of
	// its ENIs. Nobody else has or gets them.
	NewENI(node *Node) (metadata.ENI, error)
	NewAddress(node *Node) (netip.Addr, error)
	// Set attaches and detaches ENIs, assigns and removes addresses, until the node has what the instance says. The
	// primary ENI stays.
	Set(ctx context.Context, node *Node, instance metadata.Instance) error
}

// StartTarget runs a target's setup on nodes, at the same time, and starts its daemon. A backend calls it whenever
// nodes have started.
func StartTarget(ctx context.Context, t *target.Target, nodes ...*Node) error {
	if t == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		group.Go(func() error { return startTarget(ctx, node, t) })
	}
	return group.Wait()
}

func startTarget(ctx context.Context, node *Node, t *target.Target) error {
	for _, command := range t.Setup {
		reply, err := node.Agent.Command(ctx, agent.CommandArgs{Argv: command, BinDirs: node.BinDirs})
		if err != nil {
			return fmt.Errorf("setup: %w", err)
		}
		if reply.ExitCode != 0 {
			return fmt.Errorf("%s: setup: %s: exit status %d: %s", node.Name, strings.Join(command, " "),
				reply.ExitCode, strings.TrimSpace(reply.Output))
		}
	}
	if t.Daemon == nil {
		return nil
	}
	return StartDaemon(ctx, node, t.Daemon)
}

// StartDaemon starts a target's daemon on a node and waits until it is ready.
func StartDaemon(ctx context.Context, node *Node, d *target.Daemon) error {
	return node.Agent.StartDaemon(ctx, DaemonArgs(node, d))
}

// DaemonArgs returns what an agent is told to start a target's daemon.
func DaemonArgs(node *Node, d *target.Daemon) agent.DaemonArgs {
	args := agent.DaemonArgs{
		Name: d.Name, Command: d.Command, BinDirs: node.BinDirs, Socket: d.Ready.Socket, File: d.Ready.File,
		Within: d.Time(), Owns: d.Owns,
	}
	for _, name := range slices.Sorted(maps.Keys(d.Environment)) {
		args.Env = append(args.Env, name+"="+d.Environment[name])
	}
	return args
}
