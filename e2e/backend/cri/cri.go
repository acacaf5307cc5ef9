// Package cri is the backend for container runtimes without a cluster: the nodes of the netns backend, on each of which
// a containerd runs. Pods are sandboxes that it makes when it is asked through the CRI, the interface that kubelets
// use. It calls the plugins as it sees fit; the suite's agents enter the sandboxes.
//
//	cnitest ── CRI ── containerd ── libcni ── plugins      one containerd for each node, in the node's namespaces
//	   │                  └── shim ── runc ── pause         one sandbox for each pod
//	 agent ── probes, flows, snapshots
//
// A containerd lives in its node, with file systems of its own for its state, and ends with the node. Containers have
// no control groups, since these are the machine's and would outlive it (cri/runc-nocgroup).
//
// There is no kubelet: nobody tries a sandbox again that could not be made. Services are programmed by agents, as on
// the netns backend.
//
// It needs root, and the programs that `make cri-tools` builds. Run its tests: go test ./e2e/backend/cri
package cri

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Options select the runtime.
type Options struct {
	// Tools is the directory with the programs that `make cri-tools` or `make cri-1-tools` builds. Required.
	Tools string
	// OldTools is such a directory with an earlier containerd, for the scenario in which it is replaced; empty leaves
	// that out.
	OldTools string
	// Command starts an agent, as netns.Backend.Command.
	Command []string
}

// Backend makes clusters whose nodes have a containerd.
type Backend struct {
	tools *tools
	old   *tools // nil without
	nodes *netns.Backend
}

// Open finds the programs of the runtime.
func Open(options Options) (*Backend, error) {
	if err := usable(); err != nil {
		return nil, err
	}
	tools, err := findTools(options.Tools, toolDir)
	if err != nil {
		return nil, err
	}
	b := &Backend{tools: tools, nodes: &netns.Backend{Command: options.Command, Mounts: Mounts()}}
	if options.OldTools != "" {
		b.old, err = findTools(options.OldTools, oldToolDir)
	}
	return b, err
}

// CNIVersion returns the highest version of the CNI specification that all of the containerds know; empty if they know
// every version.
func (b *Backend) CNIVersion() string {
	if b.old != nil {
		return cmp.Or(b.old.cniVersion(), b.tools.cniVersion())
	}
	return b.tools.cniVersion()
}

// usable returns the reason why this process cannot start a containerd, or nil.
func usable() error {
	if os.Geteuid() != 0 || netns.InUserNamespace() {
		return &cluster.UnfitError{Reason: "backend cri: a node with a containerd has mounts that a user namespace " +
			"may not make; run cnitest as root, or leave out --backend cri"}
	}
	return nil
}

// Name returns "cri".
func (b *Backend) Name() string { return "cri" }

// HasRuntime returns true: containerd attaches the pods.
func (b *Backend) HasRuntime() bool { return true }

// Close does nothing: clusters leave nothing behind.
func (b *Backend) Close() error { return nil }

// Missing returns the reason why a scenario cannot run with a container runtime, or nil.
func (b *Backend) Missing(_ context.Context, needs scenario.Needs) error {
	var plays []string
	for _, thing := range needs.Runtime {
		if thing != scenario.ChangesConflist {
			plays = append(plays, thing)
		}
	}
	if len(plays) > 0 {
		return &cluster.BeyondError{Reason: "it plays a container runtime, and here containerd attaches pods: it " +
			strings.Join(plays, ", ")}
	}
	return nil
}

// StartNodes makes a cluster whose nodes have what Start needs.
func (b *Backend) StartNodes(ctx context.Context, req cluster.Request) (netns.Lab, error) {
	req.Programs = maps.Clone(req.Programs)
	if req.Programs == nil {
		req.Programs = map[string]string{}
	}
	req.Programs[toolDir] = b.tools.dir
	if b.old != nil {
		req.Programs[oldToolDir] = b.old.dir
	}
	c, err := b.nodes.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	return c.(netns.Lab), nil
}

// Start makes a cluster and starts its runtimes.
func (b *Backend) Start(ctx context.Context, req cluster.Request) (_ cluster.Cluster, err error) {
	nodes, err := b.StartNodes(ctx, req)
	if err != nil {
		return nil, err
	}
	l := &lab{
		Lab: nodes, network: req.Conflist.Network, runtimes: make([]*Containerd, len(nodes.Nodes())),
		tools: b.tools, old: b.old, target: req.Target, pods: map[string]*Containerd{},
	}
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range nodes.Nodes() {
		group.Go(func() (err error) {
			if err := node.Agent.InstallStubs(ctx); err != nil {
				return err
			}
			config := Configuration{
				// Stories put stubs into the chain.
				BinDirs: append(slices.Clone(node.BinDirs), stub.Dir), ConflistDir: netns.ConflistDir,
			}
			if b.old != nil && b.old.first() {
				// What is there from the start does not stay behind.
				if err := b.old.linkPlugins(ctx, node.Agent, config.BinDirs); err != nil {
					return err
				}
			}
			l.runtimes[i], err = b.tools.start(ctx, nodes, node, config)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		l.runtimes = slices.DeleteFunc(l.runtimes, func(c *Containerd) bool { return c == nil })
		return nil, err
	}
	return l, nil
}
