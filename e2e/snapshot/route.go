package snapshot

import (
	"net"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeTypes are ip's words; unicast has none.
var routeTypes = map[int]string{
	unix.RTN_LOCAL:       "local",
	unix.RTN_BROADCAST:   "broadcast",
	unix.RTN_ANYCAST:     "anycast",
	unix.RTN_MULTICAST:   "multicast",
	unix.RTN_BLACKHOLE:   "blackhole",
	unix.RTN_UNREACHABLE: "unreachable",
	unix.RTN_PROHIBIT:    "prohibit",
	unix.RTN_THROW:       "throw",
	unix.RTN_NAT:         "nat",
}

// hopFlags are the flags of a route and of its hops.
var hopFlags = []flag{
	{unix.RTNH_F_DEAD, "dead"},
	{unix.RTNH_F_PERVASIVE, "pervasive"},
	{unix.RTNH_F_ONLINK, "onlink"},
	{unix.RTNH_F_LINKDOWN, "linkdown"},
}

func (n network) takeRoutes() ([]object, error) {
	var objects []object
	for _, family := range families {
		// A filter by table without a table makes the library return the routes of all tables.
		routes, err := n.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			objects = append(objects, object{
				Item:   Item{Name: n.routeName(r), Text: n.routeText(r)},
				remove: func() error { return n.handle.RouteDel(&r) },
			})
		}
	}
	labels, err := n.takeMPLS()
	return append(objects, labels...), err
}

// routeName returns what identifies a route for the kernel: type, destination, table, metric and service; for IPv6, and
// for routes that the kernel makes for each address, also the device.
func (n network) routeName(r netlink.Route) string {
	var w words
	w.addf(routeTypes[r.Type] != "", "%s", routeTypes[r.Type])
	w.add(destination(r))
	w.add("table", TableName(r.Table))
	w.addf(r.Priority != 0, "metric %d", r.Priority)
	w.addf(r.Tos != 0, "tos %#x", r.Tos)
	w.addf(namedByDevice(r), "dev %s", n.name(r.LinkIndex))
	return w.String()
}

// namedByDevice reports whether the device is part of a route's identity.
func namedByDevice(r netlink.Route) bool {
	return (r.Family == netlink.FAMILY_V6 || r.Table == unix.RT_TABLE_LOCAL) && r.LinkIndex != 0
}

// destination returns the destination of a route. Only IPv4 uses the word default, so that the two families differ.
func destination(r netlink.Route) string {
	if r.Dst == nil {
		r.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if r.Family == netlink.FAMILY_V6 {
			r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
	}
	ones, _ := r.Dst.Mask.Size()
	if ones == 0 && r.Family == netlink.FAMILY_V4 {
		return "default"
	}
	return r.Dst.String()
}

// TableName returns ip's word for a routing table: "main", "local", "default", or its number.
func TableName(table int) string {
	switch table {
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_LOCAL:
		return "local"
	case unix.RT_TABLE_DEFAULT:
		return "default"
	}
	return strconv.Itoa(table)
}

// routeText returns what `ip route` shows after the destination.
func (n network) routeText(r netlink.Route) string {
	var w words
	index := r.LinkIndex
	if namedByDevice(r) {
		index = 0
	}
	w.add(n.hop(r.Gw, r.Via, index, r.Flags)...)
	for _, hop := range r.MultiPath {
		w.add("nexthop")
		w.add(n.hop(hop.Gw, hop.Via, hop.LinkIndex, hop.Flags)...)
		w.addf(true, "weight %d", hop.Hops+1)
	}
	w.addf(r.Encap != nil, "encap %s", r.Encap)
	w.addf(true, "proto %s", r.Protocol)
	w.add("scope", scopeName(r.Scope))
	w.addf(len(r.Src) > 0, "src %s", r.Src)
	for _, m := range []struct {
		word  string
		value int
	}{
		{"realm", r.Realm},
		{"mtu", r.MTU},
		{"advmss", r.AdvMSS},
		{"window", r.Window},
		{"rtt", r.Rtt},
		{"rttvar", r.RttVar},
		{"ssthresh", r.Ssthresh},
		{"cwnd", r.Cwnd},
		{"initcwnd", r.InitCwnd},
		{"initrwnd", r.InitRwnd},
		{"reordering", r.Reordering},
		{"hoplimit", r.Hoplimit},
		{"features", r.Features},
		{"rto_min", r.RtoMin},
		{"quickack", r.QuickACK},
		{"fastopen_no_cookie", r.FastOpenNoCookie},
	} {
		w.addf(m.value != 0, "%s %d", m.word, m.value)
	}
	w.addf(r.MTULock, "lock mtu")
	w.addf(r.Congctl != "", "congctl %s", r.Congctl)
	return w.String()
}

// hop returns the next hop of a route.
func (n network) hop(gw net.IP, via netlink.Destination, index, flags int) words {
	var w words
	w.addf(len(gw) > 0, "via %s", gw)
	if v, ok := via.(*netlink.Via); ok && v != nil {
		w.addf(true, "via %s", v.Addr)
	}
	w.addf(index != 0, "dev %s", n.name(index))
	w.addFlags(uint32(flags), hopFlags)
	return w
}
