package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// run is one execution of a scenario on a cluster.
type run struct {
	suite    *Suite
	env      *environment.Environment
	flows    []flow
	captures []capture
	// told are the endpoints that a cluster's own proxies were told of, by service.
	told map[string][]cluster.Endpoint
	// down are the nodes whose daemon steps ended or doomed, varied those with a variant of it, instances what the cloud gave nodes before
	// steps changed that, and added what steps added, the last one at the end.
	down      map[string]bool
	varied    map[string]bool
	instances map[string]metadata.Instance
	added     map[string][]addition
	traced    []string // kinds of state by which changes are laid at plugins' doors
	explainer *packetpath.Explainer
	syncing   sync.Mutex // proxies are programmed one state after the other

	mu    sync.Mutex
	calls []cni.Call // all that were made, in the order in which they ended
}

func newRun(s *Suite, sc *scenario.Scenario, c cluster.Cluster) *run {
	env := environment.New(sc, c)
	return &run{
		suite: s, env: env, explainer: packetpath.New(env, s.keepCapture), traced: quickKinds(), told: map[string][]cluster.Endpoint{},
		down: map[string]bool{}, varied: map[string]bool{}, instances: map[string]metadata.Instance{}, added: map[string][]addition{},
	}
}

// quickKinds are what a plugin makes for each attachment and what is quick to list.
func quickKinds() []string {
	return []string{
		snapshot.Link, snapshot.Address, snapshot.Route, snapshot.Rule, snapshot.Neighbour, snapshot.Nftables, snapshot.Iptables,
		snapshot.File, snapshot.Process,
	}
}

// prepare starts the servers of nodes and hosts, makes what the scenario says of nodes and services, and takes the state to which
// everything must return.
func (r *run) prepare(ctx context.Context) error {
	for _, p := range r.env.Pods {
		var err error
		if p.Network, err = r.networkOf(p.Spec.Network, p.Node); err != nil {
			return err
		}
	}
	for _, equip := range []func(context.Context) error{r.equipNodes, r.routeRouted, r.makeServices, r.syncServices} {
		if err := equip(ctx); err != nil {
			return err
		}
	}
	for _, h := range r.env.Scenario.Hosts {
		if place, ok := r.env.Cluster.Hosts()[h.Name]; ok {
			if err := listen(ctx, place, h.Listen); err != nil {
				return err
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range r.env.Cluster.Nodes() {
		state := &environment.NodeState{}
		r.env.States[node.Name] = state
		group.Go(func() (err error) {
			if err := listen(ctx, &node.Place, r.env.Scenario.Nodes[i].Listen); err != nil {
				return err
			}
			if state.FreshPod, err = environment.TakeFreshPod(ctx, node); err != nil {
				return err
			}
			state.Before, err = node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
			return err
		})
	}
	return group.Wait()
}

func listen(ctx context.Context, place *cluster.Place, servers []scenario.Listen) error {
	for _, l := range servers {
		spec := probe.ListenSpec{Protocol: probe.Protocol(l.Protocol), Port: l.Port, Name: place.Name}
		if err := place.Agent.Listen(ctx, place.Netns, spec); err != nil {
			return fmt.Errorf("%s: listen: %w", place.Name, err)
		}
	}
	return nil
}

// steps runs the steps one after the other. Its error is a *stepError.
func (r *run) steps(ctx context.Context) error {
	for _, step := range r.env.Scenario.Steps {
		before := len(r.calls)
		err := r.step(ctx, step)
		if err == nil {
			continue
		}
		failed := &environment.Failure{Step: &step, Err: err}
		var refused *cni.Error
		if errors.As(err, &refused) {
			failed.Plugin = refused.Plugin
		}
		var dead *environment.Failure
		if errors.As(err, &dead) {
			failed.Evidence = dead.Evidence
		}
		failed.Evidence = append(failed.Evidence, r.callEvidence(before)...)
		failed.Evidence = append(failed.Evidence, r.stateEvidence(ctx)...)
		failed.Evidence = append(failed.Evidence, r.daemonEvidence(ctx)...)
		return failed
	}
	return nil
}

func (r *run) step(ctx context.Context, s scenario.Step) (err error) {
	switch {
	case s.Add != "":
		defer r.followPods(ctx, &err)
		return r.eachPod(ctx, s.Add, func(ctx context.Context, p *environment.Pod) error {
			return refused(s.Fails, r.add(ctx, p, ifName(s.As)))
		})
	case s.Check != "":
		if r.lacks(cni.Check) {
			return nil
		}
		return r.eachPod(ctx, s.Check, func(ctx context.Context, p *environment.Pod) error {
			return refused(s.Fails, r.check(ctx, p, ifName(s.As)))
		})
	case s.Del != "":
		defer r.followPods(ctx, &err)
		return r.eachPod(ctx, s.Del, func(ctx context.Context, p *environment.Pod) error {
			return r.del(ctx, p, ifName(s.As), s.Netns, s.Cache)
		})
	case s.Remove != "":
		return r.eachPod(ctx, s.Remove, r.removeNamespace)
	case s.Release != "":
		return r.eachPod(ctx, s.Release, func(ctx context.Context, p *environment.Pod) error { return r.release(ctx, p, ifName(s.As)) })
	case s.GC != "":
		return r.gc(ctx, r.env.Node(s.GC))
	case s.Status != "":
		if r.lacks(cni.Status) {
			return nil
		}
		return eventually(ctx, time.Duration(s.Within), func() error { return refused(s.Fails, r.status(ctx, r.env.Node(s.Status))) })
	case s.Reboot != "":
		return r.reboot(ctx, r.env.Node(s.Reboot))
	case s.Probe != nil:
		return r.probe(ctx, *s.Probe)
	case s.State != nil:
		return r.state(ctx, *s.State)
	case s.Neighbour != nil:
		return r.neighbour(ctx, *s.Neighbour)
	case s.Flows != nil:
		return r.startFlows(ctx, *s.Flows)
	case s.Stop != nil:
		return r.stopFlows(ctx, *s.Stop)
	case s.Endpoints != nil:
		return r.replaceEndpoints(ctx, *s.Endpoints)
	case s.Capture != nil:
		return r.startCapture(ctx, *s.Capture)
	case s.Captured != nil:
		return r.endCaptures(ctx, *s.Captured)
	case s.Daemon != nil:
		return r.daemon(ctx, *s.Daemon)
	case s.Cloud != nil:
		return r.cloud(ctx, *s.Cloud)
	case s.Churn != nil:
		return r.churn(ctx, *s.Churn)
	case s.Advertise != nil:
		return r.advertise(ctx, *s.Advertise)
	case s.Wait != 0:
		return wait(ctx, time.Duration(s.Wait))
	}
	return fmt.Errorf("step has no verb")
}

func ifName(as string) string {
	if as == "" {
		return scenario.DefaultInterface
	}
	return as
}

// wait is for times that the kernel or a protocol prescribes; nothing tells when they are over.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// eachPod does something with all pods of a place at once.
func (r *run) eachPod(ctx context.Context, place string, do func(context.Context, *environment.Pod) error) error {
	pods := r.env.PodsNamed(place)
	if len(pods) == 1 {
		return do(ctx, pods[0])
	}
	errs := make([]error, len(pods))
	var all sync.WaitGroup
	for i, p := range pods {
		all.Go(func() { errs[i] = do(ctx, p) })
	}
	all.Wait()
	failed := 0
	var first error
	for _, err := range errs {
		if err != nil && first == nil {
			first = err
		}
		if err != nil {
			failed++
		}
	}
	if failed > 1 {
		return fmt.Errorf("%d of %d pods failed, the first one with: %w", failed, len(pods), first)
	}
	return first
}

// judge turns the end of the steps into a result.
func (r *run) judge(ctx context.Context, err error, result *report.Result) {
	notes := r.env.Notes()
	result.Result, result.Reason = report.Pass, notes
	if err == nil {
		return
	}
	var unfit *UnfitError
	if errors.As(err, &unfit) {
		result.Result, result.Reason = report.Skipped, err.Error()
		return
	}
	result.Result, result.Reason = report.Fail, err.Error()
	var failed *environment.Failure
	errors.As(err, &failed)
	// What a soak found before its end stays the reason; a step that the end cut off has none of its own.
	if soaked := failed != nil && failed.Step == nil; !soaked && ctx.Err() != nil {
		result.Reason = context.Cause(ctx).Error()
	}
	if notes != "" {
		defer func() { result.Reason += " (" + notes + ")" }()
	}
	if failed == nil {
		return
	}
	result.Plugin, result.Evidence = cmp.Or(failed.Plugin, result.Plugin), failed.Evidence
	if failed.Step == nil {
		return
	}
	where := fmt.Sprintf("%s:%d", r.suite.fileOf(r.env.Scenario), failed.Step.Line)
	result.Reason = fmt.Sprintf("%s: %s: %s", where, failed.Step, result.Reason)
	result.Evidence = append([]report.Evidence{{Title: "step", Text: where + ": " + failed.Step.String()}}, failed.Evidence...)
	if reason, ok := knownUpstream(r.env.Scenario.Name, failed); ok {
		result.Result, result.Reason = report.KnownUpstream, reason
	}
}
