package witness

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// packet is a Question with parsed addresses.
type packet struct {
	destination, source netip.Addr
	iif                 string
	mark                uint32
}

func parseQuestion(q Question) (packet, error) {
	p := packet{iif: q.Interface, mark: q.Mark}
	var err error
	if p.destination, err = netip.ParseAddr(q.Destination); err != nil {
		return p, err
	}
	if q.Source != "" {
		p.source, err = netip.ParseAddr(q.Source)
	}
	return p, err
}

// decision is the decision of the tables: a route and the rule that led to it, or only a rule that rejects.
type decision struct {
	rule  *netlink.Rule
	route *netlink.Route
}

// decide goes through rules and tables as fib_rules_lookup of net/core/fib_rules.c does.
func (p packet) decide() (decision, error) {
	family := netlink.FAMILY_V4
	if p.destination.Is6() {
		family = netlink.FAMILY_V6
	}
	rules, err := netlinksafe.RuleList(family)
	if err != nil {
		return decision{}, fmt.Errorf("list rules: %w", err)
	}
	// A filter by table without a table makes the library return the routes of all tables.
	routes, err := netlinksafe.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC},
		netlink.RT_FILTER_TABLE)
	if err != nil {
		return decision{}, fmt.Errorf("list routes: %w", err)
	}
	from := 0
	for i, r := range rules {
		if r.Priority < from || !p.matches(r) {
			continue
		}
		if r.Goto >= 0 {
			from = r.Goto
			continue
		}
		if r.Table == 0 {
			return decision{rule: &rules[i]}, nil
		}
		best := p.longest(routes, r.Table)
		if best == nil || best.Type == unix.RTN_THROW || prefixLength(*best) <= r.SuppressPrefixlen {
			continue
		}
		return decision{rule: &rules[i], route: best}, nil
	}
	return decision{}, nil
}

// matches reports whether a rule applies to the packet. A rule with a condition that a Question does not contain does
// not.
func (p packet) matches(r netlink.Rule) bool {
	iif := p.iif
	if iif == "" {
		iif = "lo" // for packets that a host sends itself (ip-rule(8))
	}
	mask := uint32(0xffffffff)
	if r.Mask != nil {
		mask = *r.Mask
	}
	marked := r.Mark == 0 && r.Mask == nil || p.mark&mask == r.Mark
	of := (r.Src == nil || p.source.IsValid() && r.Src.Contains(net.IP(p.source.AsSlice()))) &&
		(r.Dst == nil || r.Dst.Contains(net.IP(p.destination.AsSlice()))) &&
		(r.IifName == "" || r.IifName == iif) && marked
	beyond := r.OifName != "" || r.Tos != 0 || r.IPProto != 0 || r.Sport != nil || r.Dport != nil ||
		r.UIDRange != nil || r.TunID != 0
	return of != r.Invert && !beyond
}

// longest returns the route of a table with the longest prefix for the destination, and of those the one with the
// lowest metric.
func (p packet) longest(routes []netlink.Route, table int) *netlink.Route {
	var best *netlink.Route
	for i, r := range routes {
		if r.Table != table || r.Dst != nil && !r.Dst.Contains(net.IP(p.destination.AsSlice())) ||
			r.Flags&unix.RTNH_F_DEAD != 0 {
			continue
		}
		longer, same := -1, false
		if best != nil {
			longer, same = prefixLength(*best), prefixLength(*best) == prefixLength(r)
		}
		if prefixLength(r) > longer || same && r.Priority < best.Priority {
			best = &routes[i]
		}
	}
	return best
}

func prefixLength(r netlink.Route) int {
	if r.Dst == nil {
		return 0
	}
	ones, _ := r.Dst.Mask.Size()
	return ones
}
