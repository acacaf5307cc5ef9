package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// daemons records what steps did to the daemons of nodes.
type daemons struct {
	down    map[string]bool // the nodes whose daemon a step ended or doomed
	delayed map[string]bool // the nodes where a request to the daemon is held back
	varied  map[string]bool // the nodes whose daemon runs as a variant
	old     map[string]bool // the nodes with the programs of an earlier version
}

// daemon runs a step of the target's daemon.
func (r *Runner) daemon(ctx context.Context, s scenario.Daemon) error {
	node, daemon := r.Env.Node(scenario.NodePlace+"/"+s.Node), *r.config.Target.Daemon
	switch {
	case s.With != "":
		daemon.Command = daemon.Variants[s.With]
	case r.daemons.old[node.Name] && daemon.OldCommand != nil:
		daemon.Command = daemon.OldCommand
	}
	var err error
	switch s.Do {
	case scenario.StopDaemon, scenario.RestartDaemon:
		err = node.Agent.StopDaemon(ctx, daemon.Name)
	case scenario.KillDaemon:
		err = node.Agent.KillDaemon(ctx, daemon.Name)
	case scenario.FreezeDaemon, scenario.ThawDaemon:
		err = node.Agent.FreezeDaemon(ctx, agent.FreezeArgs{Name: daemon.Name, Thaw: s.Do == scenario.ThawDaemon})
	case scenario.Doom:
		err = node.Agent.DoomDaemon(ctx, daemon.Name)
	case scenario.DelayRequest:
		err = node.Agent.DelayDaemon(ctx, daemon.Name)
	case scenario.DeliverRequest:
		err = node.Agent.DeliverDaemon(ctx, daemon.Name)
	}
	if err == nil && (s.Do == scenario.StartDaemon || s.Do == scenario.RestartDaemon) {
		err = cluster.StartDaemon(ctx, node, &daemon)
		r.daemons.varied[node.Name] = s.With != ""
	}
	r.daemons.delayed[node.Name] = s.Do == scenario.DelayRequest
	r.daemons.down[node.Name] = s.Do == scenario.StopDaemon || s.Do == scenario.KillDaemon || s.Do == scenario.Doom
	return err
}

// CheckDaemons finds daemons that ended although no step said so, and restarts every daemon as it was at the start:
// pods are about to be deleted.
func (r *Runner) CheckDaemons(ctx context.Context) error {
	daemon := r.config.Target.GivenDaemon()
	if daemon == nil {
		return nil
	}
	var errs []error
	for _, node := range r.Env.Cluster.Nodes() {
		state, err := node.Agent.Daemon(ctx, daemon.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !state.Running && !r.daemons.down[node.Name] {
			errs = append(errs, fmt.Errorf("%s: daemon %s ended by itself: %s", node.Name, daemon.Name,
				state.LastLines(linesShown)))
		}
		if r.daemons.old[node.Name] {
			errs = append(errs, r.install(ctx, scenario.Install{
				Node: strings.TrimPrefix(node.Name, scenario.NodePlace+"/"), Version: scenario.NewVersion,
			}))
			r.daemons.varied[node.Name] = true
		}
		switch doomed := r.daemons.down[node.Name] || r.daemons.delayed[node.Name]; {
		case state.Running && (doomed || r.daemons.varied[node.Name]):
			errs = append(errs, node.Agent.KillDaemon(ctx, daemon.Name), cluster.StartDaemon(ctx, node, daemon))
		case !state.Running:
			errs = append(errs, cluster.StartDaemon(ctx, node, daemon))
		default:
			// A daemon that is not frozen does not notice.
			errs = append(errs, node.Agent.FreezeDaemon(ctx, agent.FreezeArgs{Name: daemon.Name, Thaw: true}))
		}
	}
	return errors.Join(errs...)
}

// linesShown is the number of lines of a daemon's output that are shown.
const linesShown = 40

// DaemonEvidence returns what the daemons wrote.
func (r *Runner) DaemonEvidence(ctx context.Context) []report.Evidence {
	daemon := r.config.Target.GivenDaemon()
	if daemon == nil {
		return nil
	}
	var evidence []report.Evidence
	for _, node := range r.Env.Cluster.Nodes() {
		state, err := node.Agent.Daemon(ctx, daemon.Name)
		if err == nil && state.Output != "" {
			evidence = append(evidence, report.Evidence{
				Title: fmt.Sprintf("%s on %s", daemon.Name, node.Name), Text: state.LastLines(linesShown),
			})
		}
	}
	return evidence
}
