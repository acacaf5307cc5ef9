package snapshot

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

func (n network) takeRules() ([]object, error) {
	var objects []object
	for _, family := range families {
		rules, err := n.handle.RuleListFiltered(family, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			name := fmt.Sprintf("inet %d", r.Priority)
			if family == netlink.FAMILY_V6 {
				name = fmt.Sprintf("inet6 %d", r.Priority)
			}
			objects = append(objects, object{
				Item: Item{Name: name, Text: ruleText(r)},
				// A request matches the first rule of its priority that has everything the request names, so "from all"
				// matches "from 10.0.0.0/8" too. But the kernel refuses to add a less specific rule after a more
				// specific one, unless NLM_F_EXCL is left out (rule_exists of net/core/fib_rules.c).
				remove: func() error { return n.handle.RuleDel(&r) },
			})
		}
	}
	return objects, nil
}

// ruleText returns what `ip rule` shows. The library does not distinguish blackhole, unreachable and prohibit; all
// three have no table.
func ruleText(r netlink.Rule) string {
	var w words
	w.addf(r.Invert, "not")
	w.add("from", orAll(r.Src))
	w.addf(r.Dst != nil, "to %s", r.Dst)
	w.addf(r.Tos != 0, "tos %#x", r.Tos)
	if r.Mark != 0 || r.Mask != nil && *r.Mask != 0 {
		w.addf(true, "fwmark %#x", r.Mark)
		w.addf(r.Mask != nil && *r.Mask != 0xffffffff, "/%#x", mask(r.Mask))
	}
	w.addf(r.IifName != "", "iif %s", r.IifName)
	w.addf(r.OifName != "", "oif %s", r.OifName)
	if r.UIDRange != nil {
		w.addf(true, "uidrange %d-%d", r.UIDRange.Start, r.UIDRange.End)
	}
	w.addf(r.IPProto != 0, "ipproto %d", r.IPProto)
	w.add(ports("sport", r.Sport)...)
	w.add(ports("dport", r.Dport)...)
	w.addf(r.TunID != 0, "tun_id %d", r.TunID)
	switch {
	case r.Goto >= 0:
		w.addf(true, "goto %d", r.Goto)
	case r.Table != 0:
		w.add("lookup", TableName(r.Table))
	default:
		w.add("no lookup")
	}
	w.addf(r.SuppressPrefixlen >= 0, "suppress_prefixlength %d", r.SuppressPrefixlen)
	w.addf(r.SuppressIfgroup >= 0, "suppress_ifgroup %d", r.SuppressIfgroup)
	w.addf(r.Flow > 0, "realms %d", r.Flow)
	w.addf(true, "proto %s", netlink.RouteProtocol(r.Protocol))
	return w.String()
}

// mask returns the value of an optional mask.
func mask(m *uint32) uint32 {
	if m == nil {
		return 0
	}
	return *m
}

// orAll returns a prefix, or ip's word "all" for none.
func orAll(p *net.IPNet) string {
	if p == nil {
		return "all"
	}
	return p.String()
}

// ports returns a range of ports.
func ports(word string, r *netlink.RulePortRange) words {
	var w words
	if r != nil {
		w.addf(true, "%s %d-%d", word, r.Start, r.End)
	}
	return w
}
