package eni

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Priorities of the node's rules, those of amazon-vpc-cni-k8s where it has the same rule. A pod's own are 512 (to it)
// and 1536 (from it). The range from vpcPriority to afterPriority is ipamd's alone.
const (
	markPriority  = 1024
	vpcPriority   = 1025
	mainPriority  = 1026
	afterPriority = 1027
	eniPriority   = 32765
)

// wantedRules returns the node's rules.
//
// Without an external translation what leaves the VPC goes by the main table, whoever it is from: it gets the primary
// ENI's address there. One rule can say "not to" for one range of addresses only; for several, those to any of them
// jump over a rule that is for all others.
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

// ensureRules makes sure of the wanted rules, and removes others at the same places, but those for addresses to keep.
func (n *Node) ensureRules(want []kernel.Rule, keep map[netip.Addr]bool) error {
	ns := n.opts.Namespace
	listed, err := ns.Rules()
	if err != nil {
		return err
	}
	has := map[kernel.Rule]bool{}
	var obsolete []netlink.Rule
	for _, l := range listed {
		r, ok := kernel.ReadRule(l)
		switch {
		case !ok || !isOwn(r, n.opts.Mark):
		case slices.Contains(want, r) && !has[r]:
			has[r] = true
		case r.Priority == eniPriority && keep[r.From.Addr()] && !slices.ContainsFunc(want, func(w kernel.Rule) bool {
			return w.From == r.From
		}):
		default:
			obsolete = append(obsolete, l)
		}
	}
	// New ones first: between the two a packet would take another way.
	for _, r := range want {
		if err := ns.EnsureRule(r, listed); err != nil {
			return err
		}
	}
	for _, l := range obsolete {
		if err := ns.DeleteRule(l); err != nil {
			return err
		}
	}
	return nil
}

// isOwn reports whether a rule stands at a place that is ipamd's, and says nothing that a rule of ipamd never says.
func isOwn(r kernel.Rule, mark uint32) bool {
	if r.IPv6 || r.IifName != "" || r.Mark != r.Mask {
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
