package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rule is a policy routing rule that picks a table by the link that a packet came in on, by its mark, or by both.
type Rule struct {
	IPv6     bool
	Priority int
	IifName  string
	Mark     uint32
	Mask     uint32 // 0 means that the mark does not matter
	Table    int
	// SuppressPrefix makes the rule pass over routes to prefixes of that length or less. 0 means that all routes count.
	SuppressPrefix int
}

func (r Rule) family() int {
	if r.IPv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

func (r Rule) netlink() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.IifName, rule.Table = r.family(), r.Priority, r.IifName, r.Table
	if r.Mask != 0 {
		rule.Mark, rule.Mask = r.Mark, &r.Mask
	}
	if r.SuppressPrefix != 0 {
		rule.SuppressPrefixlen = r.SuppressPrefix
	}
	return rule
}

// Matches reports whether a listed rule is r and says nothing more than r.
func (r Rule) Matches(rule netlink.Rule) bool {
	listed := Rule{IPv6: rule.Family == netlink.FAMILY_V6, Priority: rule.Priority, IifName: rule.IifName, Mark: rule.Mark, Table: rule.Table}
	if rule.Mask != nil {
		listed.Mask = *rule.Mask
	}
	if rule.SuppressPrefixlen > 0 {
		listed.SuppressPrefix = rule.SuppressPrefixlen
	}
	return listed == r && rule.Src == nil && rule.Dst == nil && rule.OifName == "" && !rule.Invert &&
		rule.Sport == nil && rule.Dport == nil && rule.UIDRange == nil && rule.IPProto == 0
}

// Rules returns the policy routing rules of both families.
func (n *Namespace) Rules() ([]netlink.Rule, error) {
	var all []netlink.Rule
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := retry(func() ([]netlink.Rule, error) { return n.RuleList(family) })
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		for _, rule := range rules {
			rule.Family = family
			all = append(all, rule)
		}
	}
	return all, nil
}

// EnsureRule makes sure of want. Existing are the rules listed before.
func (n *Namespace) EnsureRule(want Rule, existing []netlink.Rule) error {
	for _, rule := range existing {
		if want.Matches(rule) {
			return nil
		}
	}
	if err := n.RuleAdd(want.netlink()); err != nil {
		return fmt.Errorf("rule %d: %w", want.Priority, err)
	}
	return nil
}

// DeleteRule deletes a listed rule. A rule that is gone is no error.
func (n *Namespace) DeleteRule(rule netlink.Rule) error {
	if err := n.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) { // as fib_nl_delrule says it, and nothing else
		return fmt.Errorf("rule %d: delete: %w", rule.Priority, err)
	}
	return nil
}

// String returns the rule in ip's words.
func (r Rule) String() string {
	s := fmt.Sprintf("%d: from all", r.Priority)
	if r.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.IifName != "" {
		s += " iif " + r.IifName
	}
	if r.Table == unix.RT_TABLE_MAIN {
		s += " lookup main"
	} else {
		s += fmt.Sprintf(" lookup %d", r.Table)
	}
	if r.SuppressPrefix != 0 {
		s += fmt.Sprintf(" suppress_prefixlength %d", r.SuppressPrefix)
	}
	if r.IPv6 {
		s = "IPv6 " + s
	}
	return s
}
