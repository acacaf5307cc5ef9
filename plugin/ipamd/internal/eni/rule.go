package eni

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Priorities of the node's rules. Rules that amazon-vpc-cni-k8s has too have its priorities. A pod's own rules have 512
// (to it) and 1536 (from it). Only ipamd uses the range from vpcPriority to afterPriority.
const (
	markPriority  = 1024
	vpcPriority   = 1025
	mainPriority  = 1026
	afterPriority = 1027
	eniPriority   = 32765
)

// wantedRules returns the node's rules.
//
// Without external translation, packets that leave the VPC use the main table, whoever sends them, since they get the
// primary ENI's address there. A rule can exclude only one range of addresses. If there are several, rules for each
// range jump over a rule that applies to all other addresses.
func wantedRules(opts Options, vpc []netip.Prefix, secondary []cloud.ENI) []kernel.Rule {
	var rules []kernel.Rule
	if opts.NodePorts {
		rules = append(rules, kernel.Rule{
			Priority: markPriority, Mark: opts.Mark, Mask: opts.Mark, Table: unix.RT_TABLE_MAIN,
		})
	}
	switch {
	case opts.ExternalSNAT || len(vpc) == 0:
	case len(vpc) == 1:
		rules = append(rules, kernel.Rule{Priority: vpcPriority, Not: true, To: vpc[0], Table: unix.RT_TABLE_MAIN})
	default:
		rules = append(rules, kernel.Rule{Priority: afterPriority}, kernel.Rule{
			Priority: mainPriority, Table: unix.RT_TABLE_MAIN,
		})
		for _, prefix := range vpc {
			rules = append(rules, kernel.Rule{Priority: vpcPriority, To: prefix, Goto: afterPriority})
		}
	}
	for _, eni := range secondary {
		rules = append(rules, kernel.Rule{
			Priority: eniPriority, From: netip.PrefixFrom(eni.Address, 32), Table: cloud.RouteTable(eni.Device),
		})
	}
	return rules
}

// ensureRules adds the wanted rules that are missing. It removes other rules with the same priorities, except those
// from addresses for which keep returns true.
func (n *Node) ensureRules(want []kernel.Rule, keep func(netip.Addr) bool) error {
	ns := n.opts.Namespace
	listed, err := ns.RulesAt(markPriority, vpcPriority, mainPriority, afterPriority, eniPriority)
	if err != nil {
		return err
	}
	has := map[kernel.Rule]bool{}
	var obsolete []kernel.Rule
	for _, r := range listed {
		switch {
		case !isOwn(r, n.opts.Mark):
		case slices.Contains(want, r) && !has[r]:
			has[r] = true
		case r.Priority == eniPriority && keep(r.From.Addr()) && !slices.ContainsFunc(want, func(w kernel.Rule) bool {
			return w.From == r.From
		}):
		default:
			obsolete = append(obsolete, r)
		}
	}
	// Add new rules first: otherwise packets would be routed differently between the two steps.
	for _, r := range want {
		if has[r] {
			continue
		}
		if err := ns.EnsureRule(r, nil); err != nil {
			return err
		}
	}
	for _, r := range obsolete {
		if err := ns.RemoveOneRule(r); err != nil {
			return err
		}
	}
	return nil
}

// isOwn reports whether a rule has one of ipamd's priorities and only attributes that rules of ipamd have.
func isOwn(r kernel.Rule, mark uint32) bool {
	if r.IifName != "" || r.Mark != r.Mask {
		return false
	}
	switch r.Priority {
	case markPriority:
		return mark != 0 && r.Mark == mark
	case vpcPriority, mainPriority, afterPriority:
		return true
	case eniPriority:
		return r.From.IsSingleIP()
	}
	return false
}
