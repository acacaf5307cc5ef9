package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// route is a unicast route as a record keeps it. It has the name of its link, since an index may mean another link
// later.
type route struct {
	Dst    netip.Prefix `json:"dst"`
	Via    netip.Addr   `json:"via,omitzero"`
	Src    netip.Addr   `json:"src,omitzero"`
	Link   string       `json:"link"`
	Table  int          `json:"table,omitzero"` // 0 is the main table
	Metric int          `json:"metric,omitzero"`
	// OnLink says that the next hop is on the link, whatever other routes say.
	OnLink bool `json:"onLink,omitzero"`
	// Unreachable means a route that answers with an error and has no link.
	Unreachable bool `json:"unreachable,omitzero"`
}

func hostRoute(ip netip.Addr, link string) route {
	return route{Dst: netip.PrefixFrom(ip, ip.BitLen()), Link: link}.normal()
}

func defaultRoute(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// normal returns the route as the kernel lists it.
func (r route) normal() route {
	if r.Metric == 0 && r.Dst.Addr().Is6() {
		r.Metric = 1024 // IP6_RT_PRIO_USER
	}
	if r.Table == unix.RT_TABLE_MAIN {
		r.Table = 0
	}
	return r
}

func (r route) isIPv6() bool { return r.Dst.Addr().Is6() }

func (r route) inTable(table int) route {
	r.Table = table
	return r.normal()
}

// netlink returns the route for a link whose index in the current namespace is index.
func (r route) netlink(index int) *netlink.Route {
	out := &netlink.Route{
		Dst: netipx.PrefixIPNet(r.Dst), LinkIndex: index, Table: r.Table, Priority: r.Metric, Type: unix.RTN_UNICAST,
		Family: netlink.FAMILY_V4,
	}
	if r.isIPv6() {
		out.Family = netlink.FAMILY_V6
	}
	if r.Table == 0 {
		out.Table = unix.RT_TABLE_MAIN
	}
	if r.Unreachable {
		out.Type, out.LinkIndex = unix.RTN_UNREACHABLE, 0
	}
	if r.Src.IsValid() {
		out.Src = r.Src.AsSlice()
	}
	switch {
	case r.Via.IsValid():
		out.Gw = r.Via.AsSlice()
	case !r.isIPv6() && !r.Unreachable:
		out.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	return out
}

// routeOf converts a listed route. ok is false for routes that this plugin cannot have made, such as one with several
// next hops.
func routeOf(listed netlink.Route, linkName string) (r route, ok bool) {
	if len(listed.MultiPath) > 0 || listed.Via != nil || listed.Encap != nil || listed.Tos != 0 {
		return route{}, false
	}
	if listed.Type != unix.RTN_UNICAST && listed.Type != unix.RTN_UNREACHABLE {
		return route{}, false
	}
	dst, ok := kernel.Destination(listed)
	if !ok {
		return route{}, false
	}
	r = route{
		Dst: dst, Link: linkName, Table: listed.Table, Metric: listed.Priority,
		OnLink: listed.Flags&unix.RTNH_F_ONLINK != 0,
	}
	r.Via = addrOf(listed.Gw)
	r.Src = addrOf(listed.Src)
	if r.Unreachable = listed.Type == unix.RTN_UNREACHABLE; r.Unreachable {
		r.Link = "" // IPv6 lists lo
	}
	return r.normal(), true
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netipx.FromStdIP(ip)
	return addr
}

// String returns the route as ip prints it, but with a prefix length even for a single address.
func (r route) String() string {
	var b strings.Builder
	if r.Unreachable {
		b.WriteString("unreachable ")
	}
	if r.Dst.Bits() == 0 {
		b.WriteString("default")
	} else {
		b.WriteString(r.Dst.String())
	}
	if r.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Via)
	}
	if r.Link != "" {
		fmt.Fprintf(&b, " dev %s", r.Link)
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&b, " src %s", r.Src)
	}
	if r.Table != 0 {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	return b.String()
}

// routes contains the routes of all tables of a namespace, listed once.
type routes struct {
	n       *kernel.Namespace
	listed  []netlink.Route
	known   map[route]bool // the listed ones that this plugin can have made
	indexes map[string]int
	names   map[int]string
	up      map[string]bool
}

func readRoutes(n *kernel.Namespace) (*routes, error) {
	links, err := n.LinkList()
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	all := &routes{
		n: n, known: map[route]bool{}, indexes: map[string]int{}, names: map[int]string{}, up: map[string]bool{},
	}
	for _, link := range links {
		all.indexes[link.Attrs().Name] = link.Attrs().Index
		all.names[link.Attrs().Index] = link.Attrs().Name
		all.up[link.Attrs().Name] = kernel.IsUp(link)
	}
	listed, err := n.AllRoutes()
	for _, r := range listed {
		all.listed = append(all.listed, hops(r)...)
	}
	for _, r := range all.listed {
		if known, ok := routeOf(r, all.names[r.LinkIndex]); ok {
			all.known[known] = true
		}
	}
	return all, err
}

// hops splits a listed route with several next hops into routes with one each. The kernel lists IPv6 routes that differ
// only in their next hop as one, though each can be deleted alone. An IPv4 route with several next hops is a single
// route.
func hops(r netlink.Route) []netlink.Route {
	if r.Family != netlink.FAMILY_V6 || len(r.MultiPath) == 0 {
		return []netlink.Route{r}
	}
	var routes []netlink.Route
	for _, hop := range r.MultiPath {
		single := r
		single.MultiPath, single.Gw, single.LinkIndex, single.Flags = nil, hop.Gw, hop.LinkIndex, hop.Flags
		routes = append(routes, single)
	}
	return routes
}

func (all *routes) has(want route) bool { return all.known[want] }

// ensure makes a route if it is missing. It replaces a route with the same destination and metric in its table.
func (all *routes) ensure(want route) error {
	if all.has(want) {
		return nil
	}
	index, ok := all.indexes[want.Link]
	if !ok && !want.Unreachable {
		return fmt.Errorf("route %s: link %s is missing", want, want.Link)
	}
	if err := all.n.RouteReplace(want.netlink(index)); err != nil {
		return fmt.Errorf("route %s: %w", want, err)
	}
	return nil
}

// delete deletes a route if it exists.
func (all *routes) delete(gone route) error {
	for _, listed := range all.listed {
		if r, ok := routeOf(listed, all.names[listed.LinkIndex]); ok && r == gone {
			if err := all.n.DeleteRoute(listed); err != nil {
				return err
			}
		}
	}
	return nil
}
