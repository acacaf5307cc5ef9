package kernel

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

func TestRules(t *testing.T) {
	rules := []Rule{
		{Priority: 512, Mark: 0x2000, Mask: 0x2000, Table: 254},
		{Priority: 1023, IifName: "gone0", Table: 254, SuppressPrefix: 31},
		{IPv6: true, Priority: 1023, IifName: "gone0", Table: 254, SuppressPrefix: 127},
		{Priority: 1024, IifName: "gone0", Table: 1000},
		{Priority: 512, To: netip.MustParsePrefix("10.0.97.30/32"), Table: 254},
		{Priority: 1536, From: netip.MustParsePrefix("10.0.97.30/32"), To: netip.MustParsePrefix("10.0.0.0/16"), Table: 2},
		{IPv6: true, Priority: 512, To: netip.MustParsePrefix("fd00::1/128"), Table: 254},
		{Priority: 1026, Not: true, To: netip.MustParsePrefix("10.0.0.0/16"), Table: 254},
		{Priority: 1026, From: netip.MustParsePrefix("10.0.0.0/16"), Goto: 1027},
		{Priority: 1027},
	}
	inNamespace(t, func(t *testing.T, n *Namespace) {
		for range 2 { // doing it again is no error and adds nothing
			for _, rule := range rules {
				if err := n.EnsureRule(rule, listRules(t, n)); err != nil {
					t.Error(err)
				}
			}
		}
		listed := listRules(t, n)
		var text []string
		for _, rule := range rules {
			count := 0
			for _, l := range listed {
				if rule.Matches(l) {
					count++
				}
			}
			if count != 1 {
				t.Errorf("rule %s: got %d, want 1", rule, count)
			}
			text = append(text, rule.String())
		}
		want := []string{
			"512: from all fwmark 0x2000/0x2000 lookup main",
			"1023: from all iif gone0 lookup main suppress_prefixlength 31",
			"IPv6 1023: from all iif gone0 lookup main suppress_prefixlength 127",
			"1024: from all iif gone0 lookup 1000",
			"512: from all to 10.0.97.30 lookup main", "1536: from 10.0.97.30 to 10.0.0.0/16 lookup 2",
			"IPv6 512: from all to fd00::1 lookup main",
			"1026: not from all to 10.0.0.0/16 lookup main", "1026: from 10.0.0.0/16 goto 1027", "1027: from all nop",
		}
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		checkChosen(t, n, rules)
		for range 2 {
			for _, l := range listed {
				if slices.ContainsFunc(rules, func(r Rule) bool { return r.Matches(l) }) {
					if err := n.DeleteRule(l); err != nil {
						t.Error(err)
					}
				}
			}
		}
		if left := listRules(t, n); slices.ContainsFunc(left, func(l netlink.Rule) bool {
			return l.IifName != "" || l.Mark != 0 || l.Src != nil || l.Dst != nil || l.Priority == 1027
		}) {
			t.Errorf("got %v, want none of these rules", left)
		}
	})
}

// checkChosen wants the lists of some rules to have those, and none with a property that a Rule cannot hold.
func checkChosen(t *testing.T, n *Namespace, rules []Rule) {
	t.Helper()
	for _, other := range []func(*netlink.Rule){
		func(r *netlink.Rule) { r.OifName = "b0" }, func(r *netlink.Rule) { r.Tos = 0x10 },
		func(r *netlink.Rule) { r.IPProto = 6 }, func(r *netlink.Rule) { r.Sport = netlink.NewRulePortRange(1, 2) },
	} {
		rule := rules[4].netlink()
		other(rule)
		if err := n.RuleAdd(rule); err != nil {
			t.Error(err)
		}
		defer func() {
			if err := n.RuleDel(rule); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, tt := range []struct {
		list func() ([]Rule, error)
		want []Rule
	}{
		{func() ([]Rule, error) { return n.RulesOf(netip.MustParseAddr("10.0.97.30")) }, rules[4:6]},
		{func() ([]Rule, error) { return n.RulesOf(netip.MustParseAddr("fd00::1")) }, rules[6:7]},
		{func() ([]Rule, error) { return n.RulesAt(512, 1023) }, []Rule{rules[0], rules[4], rules[1]}},
		{func() ([]Rule, error) { return n.RulesAt(1024, 1026, 1027) }, []Rule{rules[3], rules[7], rules[8], rules[9]}},
	} {
		got, err := tt.list()
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

// Rules that refuse packets are not taken for the one that does nothing.
func TestNamespace_RemoveOneRule(t *testing.T) {
	inNamespace(t, func(t *testing.T, n *Namespace) {
		var want []string
		rules := []Rule{{Priority: 1026}}
		for action, name := range map[uint8]string{
			unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
		} {
			rules = append(rules, Rule{Priority: 1026, Refuse: action})
			want = append(want, "1026: from all "+name)
		}
		for _, r := range rules {
			if err := n.EnsureRule(r, nil); err != nil {
				t.Error(err)
			}
		}
		for i, r := range rules {
			if err := n.RemoveOneRule(r); err != nil {
				t.Error(err)
			}
			left, err := n.RulesAt(1026)
			var got []string
			for _, r := range left {
				got = append(got, r.String())
			}
			if diff := cmp.Diff(want[i:], got, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("without %s: %v (-want +got):\n%s", r, err, diff)
			}
		}
	})
}

// A rule with a further property is a different rule.
func TestRule_Matches(t *testing.T) {
	rule := Rule{Priority: 1024, IifName: "a0", Table: 1000}
	same := *rule.netlink()
	if !rule.Matches(same) {
		t.Error("want a rule to match itself")
	}
	for name, change := range map[string]func(*netlink.Rule){
		"priority": func(r *netlink.Rule) { r.Priority++ }, "table": func(r *netlink.Rule) { r.Table++ },
		"link": func(r *netlink.Rule) { r.IifName = "b0" }, "outgoing link": func(r *netlink.Rule) { r.OifName = "b0" },
		"family": func(r *netlink.Rule) {
			r.Family = netlink.FAMILY_V6
		}, "not": func(r *netlink.Rule) { r.Invert = true },
		"suppressed": func(r *netlink.Rule) {
			r.SuppressPrefixlen = 31
		}, "protocol": func(r *netlink.Rule) { r.IPProto = 6 },
		"type of service": func(r *netlink.Rule) {
			r.Tos = 0x10
		}, "jump": func(r *netlink.Rule) { r.Table, r.Goto = 0, 1025 },
		"from": func(r *netlink.Rule) { r.Src = netipx.AddrIPNet(netip.MustParseAddr("10.0.97.30")) },
		"to":   func(r *netlink.Rule) { r.Dst = netipx.AddrIPNet(netip.MustParseAddr("10.0.97.30")) },
	} {
		other := same
		if change(&other); rule.Matches(other) {
			t.Errorf("%s: want another rule not to match", name)
		}
	}
}

func listRules(t *testing.T, n *Namespace) []netlink.Rule {
	t.Helper()
	rules, err := n.Rules()
	if err != nil {
		t.Error(err)
	}
	return rules
}
