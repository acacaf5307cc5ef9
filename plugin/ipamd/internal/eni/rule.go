package eni

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Priorities of the node's rules, those of amazon-vpc-cni-k8s where it has the same rule. A pod's own are 512 (to it) and
// 1536 (from it). The range from vpcPriority to afterPriority is ipamd's alone.
const (
	markPriority  = 1024
	vpcPriority   = 1025
	mainPriority  = 1026
	afterPriority = 1027
	eniPriority   = 32765
)

// rule is a policy routing rule of the node, IPv4.
type rule struct {
	priority int
	not      bool
	from, to netip.Prefix
	mark     uint32
	table    int // 0 in a rule that leads elsewhere or nowhere
	jump     int // the priority where the search goes on; 0 in a rule with a table
}

// wantedRules are the node's rules.
//
// Without an external translation what leaves the VPC goes by the main table, whoever it is from: it gets the primary
// ENI's address there. One rule can say "not to" for one range of addresses only; for several, those to any of them
// jump over a rule that is for all others.
func wantedRules(opts Options, vpc []netip.Prefix, secondary []cloud.ENI) []rule {
	var rules []rule
	if opts.NodePorts {
		rules = append(rules, rule{priority: markPriority, mark: opts.Mark, table: unix.RT_TABLE_MAIN})
	}
	switch {
	case opts.ExternalSNAT || len(vpc) == 0:
	case len(vpc) == 1:
		rules = append(rules, rule{priority: vpcPriority, not: true, to: vpc[0], table: unix.RT_TABLE_MAIN})
	default:
		rules = append(rules, rule{priority: afterPriority}, rule{priority: mainPriority, table: unix.RT_TABLE_MAIN})
		for _, prefix := range vpc {
			rules = append(rules, rule{priority: vpcPriority, to: prefix, jump: afterPriority})
		}
	}
	for _, eni := range secondary {
		rules = append(rules, rule{priority: eniPriority, from: netip.PrefixFrom(eni.Address, 32), table: cloud.RouteTable(eni.Device)})
	}
	return rules
}

// ensureRules makes sure of the wanted rules, and removes others at the same places, but those for addresses to keep.
func (n *Node) ensureRules(want []rule, keep map[netip.Addr]bool) error {
	ns := n.opts.Namespace
	listed, err := ns.Rules()
	if err != nil {
		return err
	}
	has := map[rule]bool{}
	var obsolete []netlink.Rule
	for _, l := range listed {
		r, ok := fromNetlink(l)
		switch {
		case !ok || !r.own(n.opts.Mark):
		case slices.Contains(want, r) && !has[r]:
			has[r] = true
		case r.priority == eniPriority && keep[r.from.Addr()] && !slices.ContainsFunc(want, func(w rule) bool { return w.from == r.from }):
		default:
			obsolete = append(obsolete, l)
		}
	}
	// New ones first: between the two a packet would take another way.
	for _, r := range want {
		if has[r] {
			continue
		}
		if err := ns.RuleAdd(r.netlink()); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("rule %d: %w", r.priority, err)
		}
	}
	for _, l := range obsolete {
		if l.Table == 0 && l.Goto < 0 {
			l.Type = nothing
		}
		if err := ns.DeleteRule(l); err != nil {
			return err
		}
	}
	return nil
}

// own reports whether a rule stands at a place that is ipamd's.
func (r rule) own(mark uint32) bool {
	switch r.priority {
	case markPriority:
		return mark != 0 && r.mark == mark
	case vpcPriority, mainPriority, afterPriority:
		return true
	case eniPriority:
		return r.from.IsSingleIP()
	}
	return false
}

// nothing is the action of a rule that does nothing (FR_ACT_NOP in linux/fib_rules.h).
const nothing = 3

func (r rule) netlink() *netlink.Rule {
	l := netlink.NewRule()
	l.Family, l.Priority, l.Invert, l.Table = netlink.FAMILY_V4, r.priority, r.not, r.table
	if r.from.IsValid() {
		l.Src = netipx.PrefixIPNet(r.from)
	}
	if r.to.IsValid() {
		l.Dst = netipx.PrefixIPNet(r.to)
	}
	if r.mark != 0 {
		l.Mark, l.Mask = r.mark, &r.mark
	}
	if r.jump != 0 {
		l.Goto = r.jump
	}
	if r.table == 0 && r.jump == 0 {
		l.Type = nothing
	}
	return l
}

// fromNetlink reports false for a rule that says things which a rule of ipamd never says.
func fromNetlink(l netlink.Rule) (rule, bool) {
	if l.Family != netlink.FAMILY_V4 || l.IifName != "" || l.OifName != "" || l.Tos != 0 || l.IPProto != 0 || l.Sport != nil || l.Dport != nil || l.UIDRange != nil {
		return rule{}, false
	}
	if l.Mask != nil && *l.Mask != l.Mark {
		return rule{}, false
	}
	r := rule{priority: l.Priority, not: l.Invert, mark: l.Mark, table: l.Table, jump: max(l.Goto, 0)}
	if l.Src != nil {
		r.from, _ = netipx.FromStdIPNet(l.Src)
	}
	if l.Dst != nil {
		r.to, _ = netipx.FromStdIPNet(l.Dst)
	}
	return r, true
}
