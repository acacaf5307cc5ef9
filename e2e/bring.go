package e2e

import (
	"fmt"
	"slices"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/offer"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// noRoute is why a scenario cannot run if pods reach only their own network.
const noRoute = "the file gives pods no route beyond their own network"

// withoutPods returns why a scenario cannot run with the addresses and routes that the file gives to pods.
func (s *Suite) withoutPods(sc *scenario.Scenario) (report.Outcome, string) {
	file, with := s.file, s.options.Nodes.With
	needs := sc.Needs()
	key, _ := file.DeviceKey()
	switch n := sc.Attachments(); {
	case n > 1 && file.OnePod() != "":
		return report.NotApplicable, fmt.Sprintf("%s, and this attaches %d times at once", file.OnePod(), n)
	case file.NoAddresses() && slices.ContainsFunc(sc.Steps, sendsPackets):
		return report.NotApplicable, "the file gives pods no addresses, and connects them with no LAN"
	case needs.Devices && key == "":
		return report.NotApplicable, "the main plugin makes the devices of pods itself"
	case needs.Leases && !usesDHCP(file):
		return report.NotApplicable, "no IPAM plugin of the conflist is dhcp"
	case needs.Asks && len(offer.Known(file.Capabilities())) == 0:
		return report.NotApplicable, "the conflist declares no capability by which a pod could ask for something"
	case needs.Other && with != nil && with.StaysOnLAN() && slices.Contains(needs.Hosts, "external"):
		return report.NotApplicable, "the other network gives pods no route beyond their own"
	case file.StaysOnLAN() && (slices.Contains(needs.Hosts, "external") || needs.Services):
		return report.NotApplicable, noRoute
	case file.StaysBehindNode(s.options.Nodes.Subnets) &&
		(needs.BeyondNode || needs.Services || needs.FromNode && !file.AnswersNode()):
		return report.NotApplicable, noRoute
	}
	return "", ""
}

// sendsPackets reports whether a step needs pods with addresses.
func sendsPackets(step scenario.Step) bool {
	return step.Probe != nil || step.Flows != nil || step.Churn != nil || step.Neighbour != nil
}

func usesDHCP(file *conflist.File) bool {
	_, uses := file.DHCP()
	return uses
}

// claimDeclared claims the features that the conflist itself declares.
func (o *Options) claimDeclared(file *conflist.File) {
	if len(offer.Known(file.Capabilities())) > 0 {
		o.Claims = append(slices.Clone(o.Claims), scenario.Capabilities)
	}
	if usesDHCP(file) {
		o.Claims = append(slices.Clone(o.Claims), scenario.DHCP)
	}
	if key, _ := file.DeviceKey(); key != "" {
		o.Claims = append(slices.Clone(o.Claims), scenario.GivenDevices)
	}
	if o.OldBinDir != "" {
		o.Claims = append(slices.Clone(o.Claims), scenario.Upgrade)
	}
	if o.Nodes.With != nil {
		o.Claims = append(slices.Clone(o.Claims), scenario.SeveralNetworks)
	}
	o.Target = cluster.WithDHCP(file, o.Target)
}
