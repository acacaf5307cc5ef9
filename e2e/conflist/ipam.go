package conflist

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/version"
	"go4.org/netipx"
)

// ipam contains what a chain's `ipam` object says about addresses.
type ipam struct {
	typ string
	// sets contains host-local's range sets: a pod gets one address of each.
	sets [][]span
	// flat means that sets[0] is written in the ipam object itself (subnet, rangeStart, …), as before cniVersion 0.3.0.
	flat bool
	// fixed contains the addresses of the plugin static, which every pod gets.
	fixed []span
	// elsewhere contains the ranges of an IPAM plugin that divides them among the nodes itself.
	elsewhere []span
	// brought means that the plugin gets its addresses from the runtime, and written that the file has such addresses
	// in `args.cni.ips`, the place at which a runtime passes them.
	brought, written bool
	// routers contains the `gw` of each route.
	routers []netip.Addr
}

// span is a range of host-local with its defaults filled in, or a static address.
type span struct {
	subnet  netip.Prefix
	ips     netipx.IPRange
	gateway netip.Addr
	// open means that the file does not give the range a start or an end.
	open bool
	line int
}

// ipam reads the ipam object of one plugin; nil if there is none. Problems are recorded in the document.
func (d *document) ipam(plugin *value) *ipam {
	object := plugin.fields["ipam"]
	if object == nil || object.fields == nil {
		return nil
	}
	a := &ipam{}
	if typ := object.fields["type"]; typ != nil {
		a.typ, _ = typ.scalar.(string)
	}
	switch a.typ {
	case "host-local":
		d.hostLocal(a, object, plugin)
	case "static":
		d.static(a, object, plugin)
	case "whereabouts":
		d.whereabouts(a, object)
	}
	if routes := object.fields["routes"]; routes != nil {
		for _, route := range routes.items {
			if slices.Contains(routeTypes, a.typ) {
				d.checkRoute(route)
			}
			if gw := route.fields["gw"]; gw != nil {
				if addr, ok := d.addr(route, "gw"); ok {
					a.routers = append(a.routers, addr)
				}
			}
		}
	}
	return a
}

// hostLocal reads ranges as host-local does: the flat range comes before `ranges`.
func (d *document) hostLocal(a *ipam, object, plugin *value) {
	if object.fields["subnet"] != nil {
		a.flat = true
		if s, ok := d.span(object); ok {
			a.sets = append(a.sets, []span{s})
		}
	}
	sets := object.fields["ranges"]
	if sets != nil && sets.items == nil {
		d.reject(sets, `ranges is %s; want a list of lists: [[{"subnet": …}]]`, sets.kind())
		return
	}
	if sets == nil {
		sets = &value{}
	}
	for _, set := range sets.items {
		if len(set.items) == 0 {
			d.reject(set, `a range set is %s without a range; want a list of objects: [{"subnet": …}]`, set.kind())
			continue
		}
		var spans []span
		for _, item := range set.items {
			if item.fields == nil {
				d.reject(item, `a range is %s; want an object: {"subnet": …}`, item.kind())
			} else if s, ok := d.span(item); ok {
				spans = append(spans, s)
			}
		}
		if len(spans) > 0 && slices.ContainsFunc(spans, func(s span) bool { return s.family() != spans[0].family() }) {
			d.reject(set, "a range set mixes IPv4 and IPv6; make one set per family")
		}
		a.sets = append(a.sets, spans)
	}
	capabilities := plugin.fields["capabilities"]
	fed := capabilities != nil && capabilities.fields["ipRanges"] != nil
	if !a.flat && len(sets.items) == 0 && !fed {
		d.reject(object, `host-local has no addresses to give; add "ranges": [[{"subnet": "10.1.0.0/16"}]]`)
	}
	d.checkOverlap(object, slices.Concat(a.sets...))
}

func (d *document) checkOverlap(object *value, spans []span) {
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			if a.ips.Overlaps(b.ips) {
				d.reject(object, "ranges %s and %s overlap; host-local refuses that", a.ips, b.ips)
			}
		}
	}
}

// subnet reads the subnet of a range.
func (d *document) subnet(at *value, text string) (netip.Prefix, bool) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		d.reject(at, "subnet %q is not address/length; %s", text, lengthCure(text, "10.1.0.0/16"))
	case subnet != subnet.Masked():
		d.reject(at, "subnet %s has bits set beyond its length; write %s", subnet, subnet.Masked())
	case subnet.Addr().IsLoopback() || subnet.Addr().IsMulticast():
		d.reject(at, "subnet %s has addresses of no interface: it is for loopback or multicast; take one of a LAN",
			subnet)
	case subnet.Bits() > subnet.Addr().BitLen()-2:
		d.reject(at, "subnet %s is too small for host-local; want /%d or larger", subnet, subnet.Addr().BitLen()-2)
	default:
		return subnet, true
	}
	return netip.Prefix{}, false
}

// span reads subnet, rangeStart, rangeEnd and gateway with host-local's defaults.
func (d *document) span(object *value) (span, bool) {
	s := span{line: d.line(object.offset)}
	text, ok := d.str(object, "subnet")
	if !ok {
		if object.fields["subnet"] == nil {
			d.reject(object, `a range has no subnet; add "subnet" with address/length such as 10.1.0.0/16`)
		}
		return s, false
	}
	at := object.fields["subnet"]
	s.line = d.line(at.offset)
	subnet, ok := d.subnet(at, text)
	if !ok {
		return s, false
	}
	s.subnet = subnet
	first, last := usable(subnet)
	from, fromOK := d.addrIn(object, "rangeStart", subnet)
	to, toOK := d.addrIn(object, "rangeEnd", subnet)
	if !fromOK || !toOK {
		return s, false
	}
	if to.IsValid() && last.Less(to) {
		d.warn(object.fields["rangeEnd"], "rangeEnd %s is the broadcast address of %s, which no pod can have; write %s",
			to, subnet, last)
	}
	if from.IsValid() && from.Less(first) {
		d.warn(object.fields["rangeStart"], "rangeStart %s is the address of the network %s itself, which no pod can "+
			"have; write %s", from, subnet, first)
	}
	s.open = !from.IsValid() || !to.IsValid()
	if !from.IsValid() {
		from = first
	}
	if !to.IsValid() {
		to = last
	}
	if to.Less(from) {
		d.reject(object, "range %s-%s ends before it starts; exchange the two", from, to)
		return s, false
	}
	s.ips = netipx.IPRangeFrom(from, to)
	if s.gateway, ok = d.gateway(object, subnet, true); !ok {
		return s, false
	}
	if !s.gateway.IsValid() {
		s.gateway = first
	}
	return s, true
}

// gateway reads a gateway. For IPv6 it may be a link-local address, since routers advertise themselves by those. Other
// addresses outside of the subnet are accepted by plugins too, but a pod reaches them only with an additional route.
// host-local has refused both since v1.10.0.
func (d *document) gateway(object *value, subnet netip.Prefix, hostLocal bool) (netip.Addr, bool) {
	if object.fields["gateway"] == nil {
		return netip.Addr{}, true
	}
	gateway, ok := d.addr(object, "gateway")
	if !ok || subnet.Contains(gateway) {
		return gateway, ok
	}
	text := fmt.Sprintf("gateway %s is not in subnet %s", gateway, subnet)
	if hostLocal {
		text += ", which host-local refuses since v1.10.0"
	}
	linkLocal := gateway.Is6() && subnet.Addr().Is6() && gateway.IsLinkLocalUnicast()
	if !linkLocal {
		text += "; pods reach it only where a route without gw leads to it"
	}
	if hostLocal || !linkLocal {
		d.warn(object.fields["gateway"], "%s", text)
	}
	return gateway, ok
}

// static reads the addresses that every attachment gets. Those in `args.cni.ips` replace the ones of the object, and
// are of one pod: they show from which network the runtime passes addresses to pods.
func (d *document) static(a *ipam, object, plugin *value) {
	if a.elsewhere = d.writtenArgs(plugin); len(a.elsewhere) > 0 {
		a.brought, a.written = true, true
		return
	}
	addresses := object.fields["addresses"]
	if addresses == nil || len(addresses.items) == 0 {
		a.brought = true
		return
	}
	for _, item := range addresses.items {
		text, ok := d.str(item, "address")
		if !ok {
			d.reject(item, `an address of ipam has no "address"; write address/length such as 10.1.0.5/16`)
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			d.reject(item.fields["address"], "address %q is not address/length; %s", text,
				lengthCure(text, "10.1.0.5/16"))
			continue
		}
		s := span{
			subnet: prefix.Masked(),
			ips:    netipx.IPRangeFrom(prefix.Addr(), prefix.Addr()),
			line:   d.line(item.offset),
		}
		if s.gateway, ok = d.gateway(item, s.subnet, false); ok {
			a.fixed = append(a.fixed, s)
		}
	}
}

// writtenArgs returns the addresses of `args.cni.ips` in the file.
func (d *document) writtenArgs(plugin *value) (all []span) {
	at := plugin
	for _, key := range []string{"args", "cni", "ips"} {
		if at = at.fields[key]; at == nil {
			return nil
		}
	}
	for _, item := range at.items {
		if prefix, err := netip.ParsePrefix(textOf(item)); err == nil {
			all = append(all, span{
				subnet: prefix.Masked(), ips: netipx.IPRangeFrom(prefix.Addr(), prefix.Addr()),
				line: d.line(item.offset),
			})
		}
	}
	return all
}

// addr returns an address field. ok is false if it is not an address, which is recorded as a problem.
func (d *document) addr(object *value, key string) (netip.Addr, bool) {
	text, ok := d.str(object, key)
	if !ok {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		d.reject(object.fields[key], "%s %q is not an address; write one such as 10.1.0.1", key, text)
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// addrIn returns an address field that must be in the subnet. If the field is missing, it returns the zero address and
// true.
func (d *document) addrIn(object *value, key string, subnet netip.Prefix) (netip.Addr, bool) {
	if object.fields[key] == nil {
		return netip.Addr{}, true
	}
	addr, ok := d.addr(object, key)
	if ok && !subnet.Contains(addr) {
		d.reject(object.fields[key], "%s %s is not in subnet %s; take one that is", key, addr, subnet)
		return netip.Addr{}, false
	}
	return addr, ok
}

// checkRangeSetsPerFamily reports several range sets of one family, which host-local refuses before cniVersion 0.3.0,
// since a result then has one address per family.
func (d *document) checkRangeSetsPerFamily(cniVersion string) {
	if many, err := version.GreaterThanOrEqualTo(cniVersion, "0.3.0"); err != nil || many {
		return
	}
	for _, plugin := range d.plugins() {
		a := d.ipam(plugin)
		if a == nil {
			continue
		}
		count := map[int]int{}
		for _, set := range a.sets {
			count[set[0].family()]++
		}
		if count[4] > 1 || count[6] > 1 {
			d.reject(plugin.fields["ipam"], "cniVersion %s has one address per family, but a family has more range "+
				"sets; raise cniVersion to 0.3.0 or later", cniVersion)
		}
	}
}

func (s span) family() int { return family(s.subnet.Addr()) }
