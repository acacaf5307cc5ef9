package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Rule is a policy routing rule that picks a table by a packet's addresses, by the link that it came in on, by its
// mark, or by several of these. One without Table and Goto does nothing.
type Rule struct {
	IPv6     bool
	Priority int
	// Not inverts the rule: it applies to all packets except those that its other fields describe.
	Not bool
	// From and To are prefixes of a packet's source and destination. The zero value means any address.
	From, To netip.Prefix
	IifName  string
	Mark     uint32
	Mask     uint32 // 0 means that the mark does not matter
	Table    int
	// Goto is the priority of the rule at which the lookup continues. 0 means that it continues with the next rule.
	Goto int
	// SuppressPrefix makes the rule ignore routes to prefixes of that length or less. 0 means that all routes count.
	SuppressPrefix int
	// Refuse is how a rule without Table and Goto refuses packets: FR_ACT_BLACKHOLE, FR_ACT_UNREACHABLE or
	// FR_ACT_PROHIBIT of linux/fib_rules.h. 0 means that it does not. ReadRule leaves it out.
	Refuse uint8
}

func (r Rule) netlink() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Invert = r.Not
	rule.Family, rule.Priority, rule.IifName, rule.Table = familyOf(r.IPv6), r.Priority, r.IifName, r.Table
	if r.From.IsValid() {
		rule.Src = netipx.PrefixIPNet(r.From)
	}
	if r.To.IsValid() {
		rule.Dst = netipx.PrefixIPNet(r.To)
	}
	if r.Mask != 0 {
		rule.Mark, rule.Mask = r.Mark, &r.Mask
	}
	if r.SuppressPrefix != 0 {
		rule.SuppressPrefixlen = r.SuppressPrefix
	}
	if r.Goto != 0 {
		rule.Goto = r.Goto
	}
	if r.Table == 0 && r.Goto == 0 {
		rule.Type = cmp.Or(r.Refuse, nl.FR_ACT_NOP)
	}
	return rule
}

// Matches reports whether a listed rule equals r and has no further selectors or actions.
func (r Rule) Matches(rule netlink.Rule) bool {
	listed, ok := ReadRule(rule)
	return ok && listed == r
}

// ReadRule returns a listed rule. It reports false if the rule has properties that a Rule cannot hold. The netlink
// library's list does not distinguish rules that do nothing from rules that refuse packets.
func ReadRule(rule netlink.Rule) (Rule, bool) {
	listed := Rule{
		IPv6: rule.Family == netlink.FAMILY_V6, Priority: rule.Priority, Not: rule.Invert,
		IifName: rule.IifName, Mark: rule.Mark, Table: rule.Table, Goto: max(rule.Goto, 0),
	}
	if rule.Mask != nil {
		listed.Mask = *rule.Mask
	}
	if rule.SuppressPrefixlen > 0 {
		listed.SuppressPrefix = rule.SuppressPrefixlen
	}
	listed.From, listed.To = prefixOf(rule.Src), prefixOf(rule.Dst)
	return listed, rule.OifName == "" && rule.Tos == 0 && rule.Sport == nil && rule.Dport == nil &&
		rule.UIDRange == nil && rule.IPProto == 0
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	prefix, _ := netipx.FromStdIPNet(n)
	return prefix
}

// Rules returns the policy routing rules of both families.
func (n *Namespace) Rules() ([]netlink.Rule, error) {
	var all []netlink.Rule
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := Retry(func() ([]netlink.Rule, error) { return n.RuleList(family) })
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

// EnsureRule makes sure that want exists. The argument existing holds the rules listed before.
func (n *Namespace) EnsureRule(want Rule, existing []netlink.Rule) error {
	for _, rule := range existing {
		if want.Matches(rule) {
			return nil
		}
	}
	if err := n.RuleAdd(want.netlink()); err != nil && !errors.Is(err, unix.EEXIST) { // made meanwhile
		return fmt.Errorf("rule %d: %w", want.Priority, err)
	}
	return nil
}

// RemoveRule deletes all rules that equal r. It is no error if there are none, and nothing is listed.
func (n *Namespace) RemoveRule(r Rule) error {
	return n.deleteRules(r.netlink())
}

// RemoveOneRule deletes a rule that equals r, the first one. It is no error if there is none, and nothing is listed.
func (n *Namespace) RemoveOneRule(r Rule) error {
	_, err := n.deleteOne(r.netlink())
	return err
}

// DeleteRule deletes a listed rule. It is no error if the rule is gone.
func (n *Namespace) DeleteRule(rule netlink.Rule) error {
	// the error of fib_nl_delrule, which has no other meaning
	if err := n.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("rule %d: delete: %w", rule.Priority, err)
	}
	return nil
}

// String returns the rule as the ip command prints it.
func (r Rule) String() string {
	s := fmt.Sprintf("%d: ", r.Priority)
	if r.Not {
		s += "not "
	}
	s += "from " + selector(r.From)
	if r.To.IsValid() {
		s += " to " + selector(r.To)
	}
	if r.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.IifName != "" {
		s += " iif " + r.IifName
	}
	switch {
	case r.Table == unix.RT_TABLE_MAIN:
		s += " lookup main"
	case r.Table != 0:
		s += fmt.Sprintf(" lookup %d", r.Table)
	case r.Goto != 0:
		s += fmt.Sprintf(" goto %d", r.Goto)
	case r.Refuse == nl.FR_ACT_BLACKHOLE:
		s += " blackhole"
	case r.Refuse == nl.FR_ACT_UNREACHABLE:
		s += " unreachable"
	case r.Refuse == nl.FR_ACT_PROHIBIT:
		s += " prohibit"
	default:
		s += " nop"
	}
	if r.SuppressPrefix != 0 {
		s += fmt.Sprintf(" suppress_prefixlength %d", r.SuppressPrefix)
	}
	if r.IPv6 {
		s = "IPv6 " + s
	}
	return s
}

// selector returns a prefix as ip shows it in a rule: without the length if it is a single address.
func selector(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "all"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
