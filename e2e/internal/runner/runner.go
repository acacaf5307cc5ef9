// Package runner runs one scenario on one cluster, step by step, as a container runtime and a cluster would.
//
// There is a file for each kind of step. Pods are attached either by agents, which run the plugins through libcni, or
// by the cluster's own container runtime, and services are programmed by agents or by the cluster's own proxies; New
// chooses.
//
// Run its tests: go test ./e2e/internal/runner; the tests of package e2e run it on real clusters.
package runner

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
	"github.com/cnitest/cnitest/e2e/target"
)

// Config contains what all runners of a run share.
type Config struct {
	Conflist *conflist.File
	// With is the network to which pods of several are attached first; nil means one of the lab's own.
	With *conflist.File
	// Target describes what runs on the nodes beside the plugins; nil means nothing.
	Target *target.Target
	// Dataplane programs the services: one of package service, "kube-proxy", or empty for "nftables".
	Dataplane string
	// Upgraded are the programs of which there is an earlier version, for scenarios that replace them.
	Upgraded []string
	// Old is the conflist of an earlier version; nil means that it is the same.
	Old *conflist.File
	// Times records how long calls took; nil records nothing.
	Times *calltime.Recorder
	// Keep stores a file of packets, named after the scenario, beside the report and returns its path there; empty if
	// nothing is written.
	Keep func(scenario string, pcapng []byte) (path string)
}

// Runner runs the steps of one scenario. Methods that are about one pod may be called concurrently for different pods.
type Runner struct {
	Env    *environment.Environment
	config Config
	drivers
	explainer *packetpath.Explainer
	flows     []flow
	captures  []capture
	undoable
	desk *offer.Desk // has what the runtime brings
	tracing
	syncing sync.Mutex // proxies are programmed one state after the other
	history
}

// undoable is what steps did to nodes, and what must be taken back at the end.
type undoable struct {
	daemons daemons
	clouds  clouds
	events  events
	current map[string][]byte // by node, the conflist under test where another one has taken its place
}

// tracing says how closely the runner looks.
type tracing struct {
	traced []string // kinds of state in which changes are attributed to plugins
	// unexplained leaves out how far the packets of a failed probe got.
	unexplained bool
}

// drivers do what a cluster's own programs do on other clusters.
type drivers struct {
	runtime runtime
	proxies proxies
}

// history contains all calls of plugins, in the order in which they ended.
type history struct {
	mu    sync.Mutex
	calls []cni.Call
	// halted is the first plugin whose DEL failed; empty if none did.
	halted string
}

// New returns a runner that has done nothing yet.
func New(config Config, env *environment.Environment) *Runner {
	r := &Runner{
		Env: env, config: config, explainer: packetpath.New(env, config.Keep),
		tracing: tracing{traced: snapshot.KindsThat(func(k snapshot.Kind) bool { return k.Traced })},
		desk:    offer.NewDesk(),
		undoable: undoable{
			daemons: daemons{
				down: map[string]bool{}, delayed: map[string]bool{}, varied: map[string]bool{}, old: map[string]bool{},
			},
			clouds: clouds{before: map[string]metadata.Instance{}, added: map[string][]addition{}},
			events: events{
				others: map[string][]netip.Addr{}, former: map[string][]netip.Addr{}, since: map[string]*aftermath{},
			},
		},
	}
	r.runtime, r.proxies = &libcni{r}, &libcni{r}
	if own := cluster.RuntimeOf(env.Cluster); own != nil {
		r.runtime = &containerRuntime{Runner: r, cluster: own}
	}
	if own := cluster.ProxiesOf(env.Cluster); own != nil {
		r.proxies = &clusterProxies{Runner: r, cluster: own, told: map[string][]cluster.Endpoint{}}
	}
	return r
}

// TraceAll attributes changes of all kinds of state to plugins, not only of those that are quick to list.
func (r *Runner) TraceAll() { r.traced = snapshot.KindsThat(func(snapshot.Kind) bool { return true }) }

// PauseTracing stops attributing changes to plugins until the returned function is called: while pods come and go
// concurrently, another plugin may have made a change.
func (r *Runner) PauseTracing() (resume func()) {
	traced := r.traced
	r.traced = nil
	return func() { r.traced = traced }
}

// Prepare starts the servers of nodes and hosts, configures nodes and services as the scenario says, and takes the
// state to which everything must return.
func (r *Runner) Prepare(ctx context.Context) error {
	for _, p := range r.Env.Pods {
		var err error
		if p.Network, err = r.networkOf(p.Spec.Network, p.Node); err != nil {
			return err
		}
		for ifName, kind := range p.Spec.Networks {
			if p.Networks[ifName], err = r.networkOf(kind, p.Node); err != nil {
				return err
			}
		}
	}
	for _, equip := range []func(context.Context) error{
		r.equipNodes, r.routeRouted, r.makeServices, r.syncServices, r.rehearseEvents,
	} {
		if err := equip(ctx); err != nil {
			return err
		}
	}
	for _, h := range r.Env.Scenario.Hosts {
		if place, ok := r.Env.Cluster.Hosts()[h.Name]; ok {
			if err := listen(ctx, place, h.Listen); err != nil {
				return err
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range r.Env.Cluster.Nodes() {
		state := &environment.NodeState{}
		r.Env.States[node.Name] = state
		group.Go(func() (err error) {
			if err := listen(ctx, &node.Place, r.Env.Scenario.Nodes[i].Listen); err != nil {
				return err
			}
			if state.FreshPod, err = environment.TakeFreshPod(ctx, node); err != nil {
				return err
			}
			if state.Devices, err = r.devicesOf(ctx, node); err != nil {
				return err
			}
			state.Before, err = node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
			return err
		})
	}
	return group.Wait()
}

// listen starts servers at a place.
func listen(ctx context.Context, place *cluster.Place, servers []scenario.Listen) error {
	for _, l := range servers {
		spec := probe.ListenSpec{Protocol: probe.Protocol(l.Protocol), Port: l.Port, Name: place.Name}
		if err := place.Agent.Listen(ctx, place.Netns, spec); err != nil {
			return fmt.Errorf("%s: listen: %w", place.Name, err)
		}
	}
	return nil
}
