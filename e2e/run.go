package e2e

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// run is one execution of a scenario on a cluster.
type run struct {
	suite    *Suite
	scenario *scenario.Scenario
	cluster  cluster.Cluster
	pods     []*pod
	services []*clusterService
	flows    []flow
	captures []capture
	nodes    map[string]*nodeState
	// down are the nodes whose daemon steps ended or doomed, varied those with a variant of it, instances what the cloud gave nodes before
	// steps changed that, and added what steps added, the last one at the end.
	down      map[string]bool
	varied    map[string]bool
	instances map[string]metadata.Instance
	added     map[string][]addition
	traced    []string // kinds of state by which changes are laid at plugins' doors
	// explaining is set by the first probe that fails.
	explaining atomic.Bool
	syncing    sync.Mutex // proxies are programmed one state after the other

	mu    sync.Mutex
	calls []cni.Call // all that were made, in the order in which they ended
	notes []string   // what is particular to this execution
}

// nodeState is how a node was before the first step, and what plugins were seen to change.
type nodeState struct {
	before snapshot.State
	// advertised is the state before the last router advertisement.
	advertised snapshot.State
	// pod is a fresh namespace of a pod.
	pod snapshot.State
	// makers are the plugins after whose calls things came, went and changed, by what traits says of a change.
	makers map[string]maker
	turn   int
}

// pod is a pod of a running scenario.
type pod struct {
	cluster.Place
	spec        scenario.Pod
	node        *cluster.Node
	network     network
	namespace   string // its name; the path is Place.Netns
	containerID string
	exists      bool            // the namespace does
	attached    map[string]bool // the interfaces that a runtime must DEL, and whether their last ADD succeeded
	// given are the addresses of the last ADD by interface; Interfaces has them only as long as they can be in use.
	given map[string][]netip.Addr
	// released are interfaces whose addresses were given back while they stand: they may have another owner.
	released map[string]bool
}

// stepError is a step that failed, and what was seen there.
type stepError struct {
	step     scenario.Step
	err      error
	plugin   string // whose call failed; empty when no plugin's did
	evidence []report.Evidence
}

// Error is the text without the evidence.
func (e *stepError) Error() string { return e.err.Error() }

// Unwrap is the cause.
func (e *stepError) Unwrap() error { return e.err }

// quickKinds are what a plugin makes for each attachment and what is quick to list.
func quickKinds() []string {
	return []string{
		snapshot.Link, snapshot.Address, snapshot.Route, snapshot.Rule, snapshot.Neighbour, snapshot.Nftables, snapshot.Iptables,
		snapshot.File, snapshot.Process,
	}
}

func newRun(s *Suite, sc *scenario.Scenario, c cluster.Cluster) *run {
	r := &run{
		suite: s, scenario: sc, cluster: c, nodes: map[string]*nodeState{}, traced: quickKinds(),
		down: map[string]bool{}, varied: map[string]bool{}, instances: map[string]metadata.Instance{}, added: map[string][]addition{},
	}
	// What the pods without a count leave of a node's addresses is for those with one.
	room := map[string]int{}
	for _, n := range c.Nodes() {
		room[n.Name] = n.PoolSize
	}
	for _, spec := range sc.Pods {
		if name := scenario.NodePlace + "/" + spec.Node; spec.Count == 0 && spec.Network != scenario.RoutedNetwork && room[name] > 1 {
			room[name]--
		}
	}
	for _, spec := range sc.Pods {
		node := r.node(scenario.NodePlace + "/" + spec.Node)
		if spec.Count == 0 {
			r.pods = append(r.pods, r.newPod(spec, node, spec.Name, spec.ContainerID))
			continue
		}
		count := spec.Count
		if size := room[node.Name]; size > 0 && size < count {
			r.note("%s has %d addresses: %d pods of the scenario's %d", node.Name, node.PoolSize, size, count)
			count = size
		}
		for i := range count {
			id := spec.ContainerID
			if id != "" {
				id = fmt.Sprintf("%s%d", id, i)
			}
			r.pods = append(r.pods, r.newPod(spec, node, fmt.Sprintf("%s-%d", spec.Name, i), id))
		}
	}
	return r
}

func (r *run) newPod(spec scenario.Pod, node *cluster.Node, name, containerID string) *pod {
	if containerID == "" {
		// As long as those of containerd and CRI-O.
		sum := sha256.Sum256([]byte(r.scenario.Name + "/" + name))
		containerID = hex.EncodeToString(sum[:])
	}
	return &pod{
		Place: cluster.Place{
			Name: scenario.PodPlace + "/" + name, Agent: node.Agent, Netns: agent.NamespacePath(name), Interfaces: map[string][]netip.Addr{},
		},
		spec: spec, node: node, namespace: name, containerID: containerID, attached: map[string]bool{},
		given: map[string][]netip.Addr{}, released: map[string]bool{},
	}
}

func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	for _, n := range r.notes {
		if n == text {
			return
		}
	}
	r.notes = append(r.notes, text)
}

func (r *run) node(name string) *cluster.Node {
	for _, n := range r.cluster.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// podsNamed are the pods of a place: one, or all of those with a count.
func (r *run) podsNamed(place string) []*pod {
	var found []*pod
	for _, p := range r.pods {
		if p.Name == place || scenario.PodPlace+"/"+p.spec.Name == place {
			found = append(found, p)
		}
	}
	return found
}

// places are the namespaces that a place of the scenario stands for.
func (r *run) places(name string) ([]*cluster.Place, error) {
	kind, rest, _ := strings.Cut(name, "/")
	if s := r.service(name); s != nil {
		return []*cluster.Place{&s.Place}, nil
	}
	switch kind {
	case scenario.NodePlace:
		if n := r.node(name); n != nil {
			return []*cluster.Place{&n.Place}, nil
		}
	case scenario.HostPlace:
		if h, ok := r.cluster.Hosts()[rest]; ok {
			return []*cluster.Place{h}, nil
		}
	case scenario.PodPlace:
		var places []*cluster.Place
		for _, p := range r.podsNamed(name) {
			places = append(places, &p.Place)
		}
		if len(places) > 0 {
			return places, nil
		}
	}
	return nil, fmt.Errorf("%s: no such place in this cluster", name)
}

// prepare starts the servers of nodes and hosts, makes what the scenario says of nodes and services, and takes the state to which
// everything must return.
func (r *run) prepare(ctx context.Context) error {
	for _, p := range r.pods {
		var err error
		if p.network, err = r.networkOf(p.spec.Network, p.node); err != nil {
			return err
		}
	}
	for _, equip := range []func(context.Context) error{r.equipNodes, r.routeRouted, r.makeServices, r.syncServices} {
		if err := equip(ctx); err != nil {
			return err
		}
	}
	for _, h := range r.scenario.Hosts {
		if place, ok := r.cluster.Hosts()[h.Name]; ok {
			if err := listen(ctx, place, h.Listen); err != nil {
				return err
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range r.cluster.Nodes() {
		state := &nodeState{makers: map[string]maker{}}
		r.nodes[node.Name] = state
		group.Go(func() (err error) {
			if err := listen(ctx, &node.Place, r.scenario.Nodes[i].Listen); err != nil {
				return err
			}
			if state.pod, err = freshPod(ctx, node); err != nil {
				return err
			}
			state.before, err = node.Agent.Snapshot(ctx, agent.SnapshotArgs{})
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
	for _, step := range r.scenario.Steps {
		before := len(r.calls)
		err := r.step(ctx, step)
		if err == nil {
			continue
		}
		failed := &stepError{step: step, err: err}
		var refused *cni.Error
		if errors.As(err, &refused) {
			failed.plugin = refused.Plugin
		}
		var story *deadProbe
		if errors.As(err, &story) {
			failed.evidence = story.evidence
		}
		failed.evidence = append(failed.evidence, r.callEvidence(before)...)
		failed.evidence = append(failed.evidence, r.stateEvidence(ctx)...)
		failed.evidence = append(failed.evidence, r.daemonEvidence(ctx)...)
		return failed
	}
	return nil
}

func (r *run) step(ctx context.Context, s scenario.Step) (err error) {
	switch {
	case s.Add != "":
		defer r.followPods(ctx, &err)
		return r.eachPod(ctx, s.Add, func(ctx context.Context, p *pod) error { return refused(s.Fails, r.add(ctx, p, ifName(s.As))) })
	case s.Check != "":
		if r.lacks(cni.Check) {
			return nil
		}
		return r.eachPod(ctx, s.Check, func(ctx context.Context, p *pod) error { return refused(s.Fails, r.check(ctx, p, ifName(s.As))) })
	case s.Del != "":
		defer r.followPods(ctx, &err)
		return r.eachPod(ctx, s.Del, func(ctx context.Context, p *pod) error { return r.del(ctx, p, ifName(s.As), s.Netns, s.Cache) })
	case s.Remove != "":
		return r.eachPod(ctx, s.Remove, r.removeNamespace)
	case s.Release != "":
		return r.eachPod(ctx, s.Release, func(ctx context.Context, p *pod) error { return r.release(ctx, p, ifName(s.As)) })
	case s.GC != "":
		return r.gc(ctx, r.node(s.GC))
	case s.Status != "":
		if r.lacks(cni.Status) {
			return nil
		}
		return eventually(ctx, time.Duration(s.Within), func() error { return refused(s.Fails, r.status(ctx, r.node(s.Status))) })
	case s.Reboot != "":
		return r.reboot(ctx, r.node(s.Reboot))
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
func (r *run) eachPod(ctx context.Context, place string, do func(context.Context, *pod) error) error {
	pods := r.podsNamed(place)
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
	result.Result, result.Reason = report.Pass, strings.Join(r.notes, "; ")
	if err == nil {
		return
	}
	var unfit *UnfitError
	if errors.As(err, &unfit) {
		result.Result, result.Reason = report.Skipped, err.Error()
		return
	}
	result.Result, result.Reason = report.Fail, err.Error()
	var broken *soakError
	switch {
	case errors.As(err, &broken):
		result.Plugin, result.Evidence = cmp.Or(broken.plugin, result.Plugin), broken.evidence
	case ctx.Err() != nil:
		result.Reason = context.Cause(ctx).Error()
	}
	if len(r.notes) > 0 {
		defer func() { result.Reason += " (" + strings.Join(r.notes, "; ") + ")" }()
	}
	var failed *stepError
	if !errors.As(err, &failed) {
		return
	}
	where := fmt.Sprintf("%s:%d", r.suite.fileOf(r.scenario), failed.step.Line)
	result.Reason = fmt.Sprintf("%s: %s: %s", where, failed.step, result.Reason)
	result.Evidence = append([]report.Evidence{{Title: "step", Text: where + ": " + failed.step.String()}}, failed.evidence...)
	if failed.plugin != "" {
		result.Plugin = failed.plugin
	}
	if reason, ok := knownUpstream(r.scenario.Name, failed); ok {
		result.Result, result.Reason = report.KnownUpstream, reason
	}
}
