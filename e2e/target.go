package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

// claimTarget claims the features of what the target has: whoever names a daemon wants to know what happens when it is down.
func (o *Options) claimTarget() {
	if o.Target == nil {
		return
	}
	o.Claims = slices.Clone(o.Claims)
	if o.Target.Daemon != nil {
		o.Claims = append(o.Claims, scenario.DaemonRestart)
	}
	if o.Target.Cloud != nil {
		o.Claims = append(o.Claims, scenario.CloudENIs)
	}
}

// withoutTarget says why a scenario cannot run with the target, or without one.
func (o *Options) withoutTarget(sc *scenario.Scenario) (report.Outcome, string) {
	needs := sc.Needs()
	switch cloud := o.Target != nil && o.Target.Cloud != nil; {
	case needs.Daemon && (o.Target == nil || o.Target.Daemon == nil):
		return report.Skipped, "no target file names a daemon (--target)"
	case needs.Cloud && !cloud:
		return report.Skipped, "no target file asks for a cloud (--target)"
	case needs.Doom && (o.Target.Daemon.Ready.Socket == "" || len(o.Target.Daemon.Owns) == 0):
		return report.NotClaimed, "the target names no socket and no files of its daemon (ready.socket, owns)"
	case cloud && slices.ContainsFunc(sc.Steps, func(s scenario.Step) bool { return s.Neighbour != nil }):
		return report.NotApplicable, "the network of a cloud is routed: nobody sees the MAC addresses of others"
	case cloud && slices.ContainsFunc(sc.Steps, func(s scenario.Step) bool { return s.Advertise != nil }):
		return report.NotApplicable, "the network of the lab's cloud is IPv4 alone"
	}
	if missing := missingVariant(o.Target, needs.Variants); missing != "" {
		return report.NotClaimed, fmt.Sprintf("the target has no variant %s of its daemon", missing)
	}
	return "", ""
}

// missingVariant is the first of those wanted that a target does not have; empty when it has all.
func missingVariant(t *target.Target, wanted []string) string {
	for _, name := range wanted {
		if t.Daemon.Variants[name] == nil {
			return name
		}
	}
	return ""
}

// refused turns the end of a verb that must fail with a code into that of its step; code 0 wants success.
func refused(code int, err error) error {
	if code == 0 {
		return err
	}
	var refusal *cni.Error
	switch {
	case err == nil:
		return fmt.Errorf("it succeeded, want an error with code %d", code)
	case !errors.As(err, &refusal):
		return err
	case int(refusal.Code) != code:
		return fmt.Errorf("got the code %d, want %d: %w", refusal.Code, code, err)
	}
	return nil
}

// eventually tries again until there is no error or the time is over, and then returns the last one; within 0 it tries once.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil || !time.Now().Before(deadline) {
			return err
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// daemon runs a step of the target's daemon.
func (r *run) daemon(ctx context.Context, s scenario.Daemon) error {
	node, daemon := r.env.Node(scenario.NodePlace+"/"+s.Node), *r.suite.options.Target.Daemon
	if s.With != "" {
		daemon.Command = daemon.Variants[s.With]
	}
	var err error
	switch s.Do {
	case "stop", "restart":
		err = node.Agent.StopDaemon(ctx, daemon.Name)
	case "kill":
		err = node.Agent.KillDaemon(ctx, daemon.Name)
	case "freeze", "thaw":
		err = node.Agent.FreezeDaemon(ctx, agent.FreezeArgs{Name: daemon.Name, Thaw: s.Do == "thaw"})
	case scenario.Doom:
		err = node.Agent.DoomDaemon(ctx, daemon.Name)
	}
	if err == nil && (s.Do == "start" || s.Do == "restart") {
		err = cluster.StartDaemon(ctx, node, &daemon)
		r.varied[node.Name] = s.With != ""
	}
	r.down[node.Name] = s.Do == "stop" || s.Do == "kill" || s.Do == scenario.Doom
	return err
}

// checkDaemons finds daemons that ended although no step said so, and has each run as at the beginning: pods are to be deleted.
func (r *run) checkDaemons(ctx context.Context) error {
	if r.suite.options.Target == nil || r.suite.options.Target.Daemon == nil {
		return nil
	}
	daemon := r.suite.options.Target.Daemon
	var errs []error
	for _, node := range r.env.Cluster.Nodes() {
		state, err := node.Agent.Daemon(ctx, daemon.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !state.Running && !r.down[node.Name] {
			errs = append(errs, fmt.Errorf("%s: daemon %s ended by itself: %s", node.Name, daemon.Name, lastLines(state.Output)))
		}
		switch doomed := state.Running && r.down[node.Name]; {
		case doomed || state.Running && r.varied[node.Name]:
			errs = append(errs, node.Agent.KillDaemon(ctx, daemon.Name), cluster.StartDaemon(ctx, node, daemon))
		case !state.Running:
			errs = append(errs, cluster.StartDaemon(ctx, node, daemon))
		default:
			// One that is not frozen does not notice.
			errs = append(errs, node.Agent.FreezeDaemon(ctx, agent.FreezeArgs{Name: daemon.Name, Thaw: true}))
		}
	}
	return errors.Join(errs...)
}

// linesShown is how much of a daemon's output is shown.
const linesShown = 40

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-linesShown):], "\n")
}

// daemonEvidence is what the daemons wrote.
func (r *run) daemonEvidence(ctx context.Context) []report.Evidence {
	if r.suite.options.Target == nil || r.suite.options.Target.Daemon == nil {
		return nil
	}
	var evidence []report.Evidence
	name := r.suite.options.Target.Daemon.Name
	for _, node := range r.env.Cluster.Nodes() {
		state, err := node.Agent.Daemon(ctx, name)
		if err == nil && state.Output != "" {
			evidence = append(evidence, report.Evidence{Title: fmt.Sprintf("%s on %s", name, node.Name), Text: lastLines(state.Output)})
		}
	}
	return evidence
}

// addition is what a step added to a node: an ENI by its ID, or an address.
type addition struct {
	eni     string
	address netip.Addr
}

// cloud runs a step of the target's cloud.
func (r *run) cloud(ctx context.Context, s scenario.Cloud) error {
	node, cloud := r.env.Node(scenario.NodePlace+"/"+s.Node), r.env.Cluster.Cloud()
	now := cloud.Instance(node)
	if _, ok := r.instances[node.Name]; !ok {
		r.instances[node.Name] = cloud.Instance(node)
	}
	var err error
	switch {
	case s.Add == scenario.AnENI:
		err = r.addENI(cloud, node, &now)
	case s.Add == scenario.AnAddress:
		err = r.addAddress(cloud, node, &now)
	default:
		err = r.takeAway(s, node, &now)
	}
	if err != nil {
		return err
	}
	return cloud.Set(ctx, node, now)
}

func (r *run) addENI(cloud cluster.Cloud, node *cluster.Node, i *metadata.Instance) error {
	eni, err := cloud.NewENI(node)
	if err != nil {
		return err
	}
	i.ENIs = append(i.ENIs, eni)
	r.added[node.Name] = append(r.added[node.Name], addition{eni: eni.ID})
	return nil
}

// addAddress gives one to the ENI that has the fewest.
func (r *run) addAddress(cloud cluster.Cloud, node *cluster.Node, i *metadata.Instance) error {
	address, err := cloud.NewAddress(node)
	if err != nil {
		return err
	}
	fewest := 0
	for n, eni := range i.ENIs {
		if len(eni.Secondary) < len(i.ENIs[fewest].Secondary) {
			fewest = n
		}
	}
	i.ENIs[fewest].Secondary = append(i.ENIs[fewest].Secondary, address)
	r.added[node.Name] = append(r.added[node.Name], addition{address: address})
	return nil
}

// takeAway removes what was added last, or the address of a pod.
func (r *run) takeAway(s scenario.Cloud, node *cluster.Node, i *metadata.Instance) error {
	if s.Of != "" {
		for _, p := range r.env.PodsNamed(s.Of) {
			for _, address := range r.env.Addresses(&p.Place, scenario.DefaultInterface) {
				if !i.Disown(address) {
					return fmt.Errorf("%s: the cloud did not give %s its address %s", node.Name, p.Name, address)
				}
			}
		}
		return nil
	}
	added := r.added[node.Name]
	last := len(added) - 1
	for last >= 0 && (added[last].eni == "") == (s.Remove == scenario.AnENI) {
		last--
	}
	if last < 0 {
		return fmt.Errorf("%s: no step added what is to be removed", node.Name)
	}
	gone := added[last]
	r.added[node.Name] = slices.Delete(added, last, last+1)
	i.ENIs = slices.DeleteFunc(i.ENIs, func(eni metadata.ENI) bool { return eni.ID == gone.eni })
	for n := range i.ENIs {
		i.ENIs[n].Secondary = slices.DeleteFunc(i.ENIs[n].Secondary, func(a netip.Addr) bool { return a == gone.address })
	}
	return nil
}

// restoreClouds gives nodes what they had at the start, and lets their daemons find out.
func (r *run) restoreClouds(ctx context.Context) error {
	for _, node := range r.env.Cluster.Nodes() {
		before, changed := r.instances[node.Name]
		if !changed {
			continue
		}
		if err := r.env.Cluster.Cloud().Set(ctx, node, before); err != nil {
			return err
		}
		if daemon := r.suite.options.Target.Daemon; daemon != nil {
			if err := node.Agent.StopDaemon(ctx, daemon.Name); err != nil {
				return err
			}
			if err := cluster.StartDaemon(ctx, node, daemon); err != nil {
				return err
			}
		}
	}
	return nil
}
