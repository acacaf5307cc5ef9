package conflist

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// pools returns the prefixes from which the lab takes its own networks: the documentation prefixes first, since no
// conflist should contain them (RFC 5737, RFC 3849), then private ones (RFC 1918, RFC 4193).
func pools(family int) []netip.Prefix {
	if family == 6 {
		return []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fd00::/8")}
	}
	return []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.0.0.0/8"),
	}
}

// networks chooses the LAN and all addresses on it except for those of pods.
func (p *planner) networks() error {
	known := p.drafts[0].ipam.knows()
	p.plan.Routed = p.file.routed() && (known || len(p.opts.Subnets) == 0)
	var err error
	switch {
	case p.plan.Routed:
		p.plan.LAN, err = p.ownLAN()
	case !known && (p.drafts[0].ipam.bringsLAN() || p.file.LayerTwo()):
		p.plan.LAN, err = p.broughtLAN()
	case known || len(p.opts.Subnets) > 0:
		p.plan.LAN, err = p.lan()
	case p.drafts[0].plugin >= 0:
		main, ipam := p.file.Plugins[0].Type, p.drafts[0].ipam.typ
		return p.errorf(p.drafts[0].line, "%s's IPAM %s does not say its subnet here; name it with --subnet, and its "+
			"router with --gateway", main, ipam)
	default:
		p.note("%s has no ipam: pods get no addresses from it", p.file.Plugins[0].Type)
		p.plan.LAN, err = p.ownLAN()
	}
	if err != nil {
		return err
	}
	switch main := p.file.Plugins[0].Type; {
	case p.plan.Routed && known:
		p.note("%s keeps pods behind their node: the nodes' own LAN is %s", main, join(p.plan.LAN))
	case p.plan.Routed:
		p.note("%s: the conflist does not say where pods get addresses; if from the LAN, name it with --subnet", main)
	}
	for _, lan := range p.plan.LAN {
		if err := p.place(lan); err != nil {
			return err
		}
	}
	return nil
}

// lan returns the file's subnets without those inside another one, or the caller's.
func (p *planner) lan() ([]netip.Prefix, error) {
	var subnets []netip.Prefix
	for _, s := range p.roomy() {
		outside := !slices.ContainsFunc(p.opts.Subnets, func(o netip.Prefix) bool { return within(s.subnet, o) })
		if len(p.opts.Subnets) > 0 && outside {
			return nil, p.errorf(s.line, "subnet %s is not in the subnet that the caller gives, %s", s.subnet,
				join(p.opts.Subnets))
		}
		subnets = append(subnets, s.subnet)
	}
	var lan []netip.Prefix
	for _, subnet := range append(slices.Clone(p.opts.Subnets), subnets...) {
		subnet = subnet.Masked()
		if slices.ContainsFunc(lan, func(other netip.Prefix) bool { return within(subnet, other) }) {
			continue
		}
		lan = slices.DeleteFunc(lan, func(other netip.Prefix) bool { return within(other, subnet) })
		lan = append(lan, subnet)
	}
	return lan, nil
}

// roomy returns all ranges. A subnet with a single address (/31, /32, /128) is replaced by a larger network around it.
func (p *planner) roomy() []span {
	spans := p.spans()
	for i, s := range spans {
		bits, most := 24, 29
		if s.family() == 6 {
			bits, most = 64, 125
		}
		if len(p.opts.Subnets) > 0 || s.subnet.Bits() <= most || len(p.drafts[0].ipam.sets) > 0 {
			continue
		}
		spans[i].subnet = netip.PrefixFrom(s.subnet.Addr(), bits).Masked()
		p.note("%s has no room for nodes and their router: the LAN is %s; name another with --subnet", s.subnet,
			spans[i].subnet)
	}
	return spans
}

// ownLAN returns the LAN of nodes whose pods are not on it: the caller's, or one that the lab chooses in the families
// of the pods, or in both if these are unknown.
func (p *planner) ownLAN() ([]netip.Prefix, error) {
	families := map[int]bool{}
	for _, s := range p.spans() {
		families[s.family()] = true
	}
	if len(p.opts.Subnets) > 0 {
		return p.opts.Subnets, p.apart(p.opts.Subnets)
	}
	var lan []netip.Prefix
	for _, family := range []int{4, 6} {
		if len(families) > 0 && !families[family] {
			continue
		}
		prefix, err := p.fresh(family, len(p.drafts))
		if err != nil {
			return nil, err
		}
		lan = append(lan, prefix)
	}
	return lan, nil
}

// apart returns an error if the LAN contains addresses of routed pods.
func (p *planner) apart(lan []netip.Prefix) error {
	for _, s := range p.spans() {
		if slices.ContainsFunc(lan, s.subnet.Overlaps) {
			return p.errorf(s.line,
				"subnet %s is behind the nodes (%s), but overlaps the LAN that the caller gives, %s",
				s.subnet, p.file.Plugins[0].Type, join(lan))
		}
	}
	return nil
}

// externals chooses a network behind the router for each family.
func (p *planner) externals() error {
	done := map[int]bool{}
	for _, lan := range p.plan.LAN {
		family := family(lan.Addr())
		if done[family] {
			continue
		}
		done[family] = true
		prefix, err := p.fresh(family, 0)
		if err != nil {
			return err
		}
		first, _ := usable(prefix)
		p.plan.External = append(p.plan.External, External{
			Prefix: prefix,
			Router: netip.PrefixFrom(first, prefix.Bits()),
			Host:   netip.PrefixFrom(first.Next(), prefix.Bits()),
		})
	}
	return nil
}

// fresh returns an unused network that has room for a number of nodes.
func (p *planner) fresh(family, nodes int) (netip.Prefix, error) {
	length := 64
	if family == 4 {
		length = min(24, 32-bits.Len(uint(nodes+4)))
	}
	used := p.used()
	for _, pool := range pools(family) {
		var free addressSet
		free.addPrefix(pool)
		free.builder.RemoveSet(used)
		if prefix, _, ok := free.set().RemoveFreePrefix(uint8(length)); ok {
			return prefix, nil
		}
	}
	return netip.Prefix{}, p.errorf(1, "no IPv%d network is left for the lab: the conflist mentions all private ones",
		family)
}

// used returns every address and network that occurs in a string of the conflist, those that the caller reserves, and
// the LAN.
func (p *planner) used() *netipx.IPSet {
	var used addressSet
	for _, prefix := range slices.Concat(p.plan.LAN, p.opts.Avoid, p.opts.Subnets) {
		used.addPrefix(prefix.Masked())
	}
	for _, d := range p.drafts {
		d.conf.document.root.strings("", func(_, text string) {
			if addr, err := netip.ParseAddr(text); err == nil {
				used.add(addr.Unmap())
			}
			// Halves of the address space are a default route, not networks in use.
			if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Bits() > 4 {
				used.addPrefix(prefix.Masked())
			}
		})
	}
	return used.set()
}

func (p *planner) spans() []span {
	var spans []span
	for _, d := range p.drafts {
		spans = append(spans, d.ipam.spans()...)
	}
	return spans
}

// place chooses the addresses of router, nodes and LAN host, in this order, on one prefix of the LAN: the lowest ones
// outside of all ranges, and if these do not suffice the lowest of the ranges, which the shares then leave out.
func (p *planner) place(lan netip.Prefix) error {
	routers, line := p.routers(lan)
	if len(p.drafts[0].node.Own) > 0 {
		return p.placeOwn(lan, routers)
	}
	need := len(p.drafts) + 1
	routed := slices.ContainsFunc(routers, lan.Contains)
	if !routed {
		need++
	}
	addrs := p.candidates(lan, routers, need)
	if len(addrs) < need {
		return p.errorf(line, "subnet %s has too few free addresses for %d nodes and the lab's hosts: want %d, got "+
			"%d; take a larger subnet or fewer nodes",
			lan, len(p.drafts), need, len(addrs))
	}
	if !routed {
		own := addrs[:1]
		if len(routers) > 0 && routers[0].IsLinkLocalUnicast() {
			routers, own = own, routers // the address that everybody on the link can use stays first
		}
		routers, addrs = slices.Concat(own, routers), addrs[1:]
	}
	for _, router := range routers {
		prefix := netip.PrefixFrom(router, lan.Bits())
		switch {
		case router.IsLinkLocalUnicast() && router.Is6():
			prefix = netip.PrefixFrom(router, 64) // RFC 4291, section 2.5.6, whatever the subnet's length
		case !lan.Contains(router):
			prefix = netip.PrefixFrom(router, router.BitLen()) // the pod reaches it by an additional route
		}
		if !slices.Contains(p.plan.Router, prefix) { // fe80::1 may be the gateway of several subnets
			p.plan.Router = append(p.plan.Router, prefix)
		}
	}
	for i := range p.plan.Nodes {
		p.plan.Nodes[i].Addresses = append(p.plan.Nodes[i].Addresses, netip.PrefixFrom(addrs[i], lan.Bits()))
	}
	p.plan.LANHost = append(p.plan.LANHost, netip.PrefixFrom(addrs[len(p.drafts)], lan.Bits()))
	return nil
}

// placeOwn uses the addresses that machines already have. The caller knows whether the router's address exists.
func (p *planner) placeOwn(lan netip.Prefix, routers []netip.Addr) error {
	for _, router := range routers {
		if prefix := netip.PrefixFrom(router, lan.Bits()); lan.Contains(router) &&
			!slices.Contains(p.plan.Router, prefix) {
			p.plan.Router = append(p.plan.Router, prefix)
		}
	}
	for i, d := range p.drafts {
		at := slices.IndexFunc(d.node.Own, func(own netip.Prefix) bool { return lan.Contains(own.Addr()) })
		if at < 0 {
			return fmt.Errorf("%s: node/%s has no address in %s on its uplink %s; it has %s", p.file.Path, d.node.Name,
				lan, p.plan.Nodes[i].Uplink, join(d.node.Own))
		}
		p.plan.Nodes[i].Addresses = append(p.plan.Nodes[i].Addresses, d.node.Own[at])
	}
	return nil
}

// routers returns the gateways that the file names on a prefix of the LAN, with the line of the first one; if there are
// none, the first address of the prefix.
func (p *planner) routers(lan netip.Prefix) (routers []netip.Addr, line int) {
	line = 1
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(routers, a) {
			routers = append(routers, a)
		}
	}
	mentioned := false
	if !p.plan.Routed {
		for _, s := range p.spans() {
			if within(s.subnet, lan) {
				if !mentioned {
					line = s.line
				}
				mentioned = mentioned || s.gateway.IsValid() || s.subnet == lan
				if s.gateway.Is4() == lan.Addr().Is4() {
					add(s.gateway)
				}
			}
		}
		for _, router := range p.opts.Gateways {
			if lan.Contains(router) {
				mentioned = true
				add(router)
			}
		}
		for _, d := range p.drafts {
			for _, router := range d.ipam.routers {
				if lan.Contains(router) {
					add(router)
				}
			}
		}
	}
	if !mentioned {
		add(lan.Addr().Next())
	}
	return routers, line
}

// candidates returns the first n addresses on a prefix of the LAN for the lab's own use, or fewer if it is too small.
func (p *planner) candidates(lan netip.Prefix, routers []netip.Addr, n int) []netip.Addr {
	var taken, pods addressSet
	taken.add(routers...)
	if !p.plan.Routed {
		for _, d := range p.drafts {
			d.conf.document.root.strings("", func(key, text string) {
				// The ends of a range belong to pods like all of its addresses, which are used last in any case.
				if addr, err := netip.ParseAddr(text); err == nil && key != "rangeStart" && key != "rangeEnd" {
					taken.add(addr.Unmap())
				}
			})
		}
		for _, s := range p.spans() {
			pods.addRange(s.ips)
		}
	}
	ranges := pods.set()
	first, last := usable(lan)
	lab := without(ranges, without(taken.set(), netipx.IPRangeFrom(first, last))...)
	for _, r := range ranges.Ranges() {
		if lan.Contains(r.From()) {
			lab = append(lab, without(taken.set(), r)...)
		}
	}
	var addrs []netip.Addr
	for _, r := range lab {
		for a := r.From(); len(addrs) < n && r.Contains(a); a = a.Next() {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// within reports whether all of a is in b.
func within(a, b netip.Prefix) bool { return b.Bits() <= a.Bits() && b.Contains(a.Addr()) }
