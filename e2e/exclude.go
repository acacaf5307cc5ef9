package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/lab/debian"
	"github.com/cnitest/cnitest/e2e/lab/event"
	"github.com/cnitest/cnitest/e2e/lab/kubeproxy"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/service"
	"github.com/cnitest/cnitest/e2e/target"
)

// exclude returns the result of a scenario that is not run, with the reason; an empty result if it is to run.
func (s *Suite) exclude(ctx context.Context, sc *scenario.Scenario, level string) (report.Outcome, string) {
	if level == report.Extended {
		for _, f := range sc.Features {
			if !slices.Contains(s.options.Profile.Features(), f) && !slices.Contains(s.options.Claims, f) {
				return report.NotClaimed, fmt.Sprintf("feature %s is not in profile %s and not claimed", f,
					s.options.Profile)
			}
		}
	}
	if outcome, reason := s.options.withoutTarget(sc); outcome != "" {
		return outcome, reason
	}
	noIPAM := !slices.ContainsFunc(s.file.Plugins, func(p conflist.Plugin) bool { return p.IPAM != "" })
	if noIPAM && slices.ContainsFunc(sc.Steps, func(step scenario.Step) bool { return step.Release != "" }) {
		return report.NotApplicable, "no plugin of the chain has an IPAM plugin that could release an address"
	}
	if outcome, reason := s.withoutPods(sc); outcome != "" {
		return outcome, reason
	}
	needs := sc.Needs()
	if err := s.options.Backend.Missing(ctx, needs); err != nil {
		var beyond *cluster.BeyondError
		if errors.As(err, &beyond) {
			return report.NotApplicable, err.Error()
		}
		return report.Skipped, err.Error()
	}
	if s.options.Nodes.UplinkKind == "dummy" && (needs.Nodes > 1 || len(needs.Hosts) > 0) {
		return report.Skipped, "a dummy uplink leads nowhere: other nodes and hosts are unreachable"
	}
	for _, plugin := range needs.Plugins {
		if _, err := os.Stat(filepath.Join(s.options.BinDir, plugin)); err != nil {
			return report.Skipped, fmt.Sprintf("plugin %s, which the scenario adds to the chain, is not in %s", plugin,
				s.options.BinDir)
		}
	}
	return "", ""
}

// withoutTarget returns why a scenario cannot run with the target, or without one.
func (o *Options) withoutTarget(sc *scenario.Scenario) (report.Outcome, string) {
	needs := sc.Needs()
	switch cloud := o.Target != nil && o.Target.Cloud != nil; {
	case needs.Daemon && !needs.Leases && o.Target.GivenDaemon() == nil:
		return report.Skipped, "no target file names a daemon (--target)"
	case o.Target != nil && len(o.Target.Devices) > 0 && sc.Attachments() > len(o.Target.Devices):
		return report.NotApplicable, fmt.Sprintf("the target has %d devices for pods, and this attaches %d times at "+
			"once", len(o.Target.Devices), sc.Attachments())
	case needs.OldVersion && o.OldBinDir == "":
		return report.NotApplicable, "no programs of an earlier version are named (--old-bin-dir)"
	case needs.OldConflist && o.Target.Earlier() == "":
		return report.NotApplicable, "no target file names a conflist of an earlier version (oldConflist)"
	case needs.Cloud && !cloud:
		return report.Skipped, "no target file asks for a cloud (--target)"
	case needs.Doom && (o.Target.Daemon.Ready.Socket == "" || len(o.Target.Daemon.Owns) == 0):
		return report.NotClaimed, "the target names no socket and no files of its daemon (ready.socket, owns)"
	case needs.Delay && o.Target.Daemon.Ready.Socket == "":
		return report.NotClaimed, "the target names no socket of its daemon (ready.socket)"
	case cloud && slices.ContainsFunc(sc.Steps, func(s scenario.Step) bool { return s.Neighbour != nil }):
		return report.NotApplicable, "the network of a cloud is routed: nobody sees the MAC addresses of others"
	case cloud && slices.Contains(needs.Events, event.AddressesChange):
		return report.NotApplicable, "a cloud does not change the address of a node that runs"
	case cloud && slices.Contains(sc.Features, scenario.SurvivesPortChange):
		return report.NotApplicable, "the interfaces of a cloud's machines are neither bonds nor bridges"
	case cloud && slices.ContainsFunc(sc.Steps, func(s scenario.Step) bool { return s.Advertise != nil }):
		return report.NotApplicable, "the network of the lab's cloud is IPv4 only"
	}
	if missing := missingVariant(o.Target, needs.Variants); missing != "" {
		return report.NotClaimed, fmt.Sprintf("the target has no variant %s of its daemon", missing)
	}
	return "", ""
}

// missingVariant returns the first of the wanted variants that a target does not have; an empty name if it has all.
func missingVariant(t *target.Target, wanted []string) string {
	for _, name := range wanted {
		if t.Daemon.Variants[name] == nil {
			return name
		}
	}
	return ""
}

// missingProgram says what a node lacks: a program of the services' dataplane or of an event, or a kind of link for an
// event. Which programs plugins need is seen when they look for them (package refusal).
func (s *Suite) missingProgram(ctx context.Context, sc *scenario.Scenario, c cluster.Cluster) (string, error) {
	type program struct{ name, missing string }
	var programs []program
	if len(sc.Services) > 0 && s.options.Nodes.Dataplane == service.Iptables {
		programs = append(programs, program{
			"iptables-restore", "the iptables dataplane calls iptables-restore, which is not installed",
		})
	}
	if len(sc.Services) > 0 && s.options.Nodes.Dataplane == kubeproxy.Dataplane {
		programs = append(programs, program{
			filepath.Join(debian.Dir(), "usr/sbin/nft"), "kube-proxy calls nft; `make node-programs` of cnitest's " +
				"repository unpacks it",
		})
		if _, err := os.Stat(filepath.Join(s.options.BinDir, kubeproxy.Program)); err != nil {
			return "no program kube-proxy in --bin-dir; `make kubernetes` of cnitest's repository builds it", nil
		}
	}
	for _, name := range sc.Needs().Events {
		kind, _ := scenario.EventNamed(name)
		if kind.Unpacked {
			if _, err := os.Stat(filepath.Join(debian.Dir(), kind.Program)); err != nil {
				return fmt.Sprintf("nodes have no %s; `make node-programs` of cnitest's repository unpacks it",
					kind.Package), nil
			}
		} else if kind.Program != "" {
			programs = append(programs, program{
				kind.Program, fmt.Sprintf("it has no %s; apt-get install %s", kind.Program, kind.Package),
			})
		}
	}
	for _, node := range c.Nodes() {
		if missing, err := missingLink(ctx, sc, node); err != nil || missing != "" {
			return missing, err
		}
		for _, p := range programs {
			found, err := node.Agent.Programs(ctx, []string{p.name})
			if err != nil {
				return "", err
			}
			if len(found) == 0 {
				return node.Name + ": " + p.missing, nil
			}
		}
	}
	return "", nil
}

// missingLink says which kind of link for an event a node's kernel cannot make.
func missingLink(ctx context.Context, sc *scenario.Scenario, node *cluster.Node) (string, error) {
	var kinds []string
	for _, name := range sc.Needs().Events {
		if kind, _ := scenario.EventNamed(name); kind.Link != "" {
			kinds = append(kinds, kind.Link)
		}
	}
	if len(kinds) == 0 {
		return "", nil
	}
	missing, err := node.Agent.LinkKinds(ctx, kinds)
	if err != nil || len(missing) == 0 {
		return "", err
	}
	return fmt.Sprintf("%s: this kernel lacks %s, to which it would happen", node.Name, fault.LinkKind(missing[0])), nil
}
