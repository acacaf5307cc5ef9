package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// HostRoute is a route to one address in the main table.
type HostRoute struct {
	Dst  netip.Addr
	Link int
	Src  netip.Addr // the preferred source; the zero value leaves it to the kernel
	Via  netip.Addr // the next hop; the zero value means that Dst is on the link
	// Metric ranks routes to the same address, the lowest wins. 0 means the kernel's default: 0 for IPv4, 1024 for
	// IPv6.
	Metric int
}

// metric returns the metric that a listing shows, so that a wanted route compares with a listed one.
func (r HostRoute) metric() int {
	if r.Metric == 0 && r.Dst.Is6() {
		return 1024 // IP6_RT_PRIO_USER
	}
	return r.Metric
}

func (r HostRoute) netlink() *netlink.Route {
	route := &netlink.Route{
		Dst:       netipx.AddrIPNet(r.Dst),
		LinkIndex: r.Link,
		Table:     unix.RT_TABLE_MAIN,
		Type:      unix.RTN_UNICAST,
		Priority:  r.metric(),
	}
	if r.Src.IsValid() {
		route.Src = r.Src.AsSlice()
	}
	if r.Via.IsValid() {
		route.Gw = r.Via.AsSlice()
	} else if r.Dst.Is4() {
		route.Scope = netlink.SCOPE_LINK // IPv6 routes have no scope of their own
	}
	return route
}

// Matches reports whether a listed route has every property that r sets.
func (r HostRoute) Matches(route netlink.Route) bool {
	if len(route.MultiPath) > 0 || route.Type != unix.RTN_UNICAST || route.Tos != 0 || route.Via != nil ||
		route.Encap != nil {
		return false
	}
	dst, ok := Destination(route)
	src, _ := netipx.FromStdIP(route.Src)
	via, _ := netipx.FromStdIP(route.Gw)
	if !ok || (HostRoute{Dst: dst.Addr(), Link: route.LinkIndex, Src: src, Via: via, Metric: r.Metric}) != r {
		return false
	}
	want := r.netlink()
	return dst.IsSingleIP() && route.Priority == want.Priority && route.Scope == want.Scope
}

// Destination returns where a listed route leads.
func Destination(route netlink.Route) (netip.Prefix, bool) {
	if route.Dst == nil {
		return netip.Prefix{}, false
	}
	return netipx.FromStdIPNet(route.Dst)
}

// DefaultLink returns the name of the link of the first default route that the kernel lists, or "" if there is none.
// Upstream's macvlan takes the same link as its master.
func (n *Namespace) DefaultLink() (string, error) {
	index, err := n.TableDefault(unix.RT_TABLE_MAIN)
	if err != nil {
		return "", fmt.Errorf("default route: %w", err)
	}
	if index != 0 {
		return n.nameOf(index)
	}
	routes, err := n.MainRoutes()
	if err != nil {
		return "", err
	}
	for _, route := range routes {
		if dst, ok := Destination(route); !ok || dst.Bits() != 0 || route.LinkIndex == 0 {
			continue
		}
		return n.nameOf(route.LinkIndex)
	}
	return "", nil
}

func (n *Namespace) nameOf(index int) (string, error) {
	link, err := n.LinkByIndex(index)
	if err != nil {
		return "", fmt.Errorf("link of the default route: %w", err)
	}
	return link.Attrs().Name, nil
}

// MainRoutes returns the routes of the main table, of both families and all types.
func (n *Namespace) MainRoutes() ([]netlink.Route, error) {
	return n.routes(unix.RT_TABLE_MAIN)
}

// AllRoutes returns the routes of all tables.
func (n *Namespace) AllRoutes() ([]netlink.Route, error) {
	return n.routes(unix.RT_TABLE_UNSPEC)
}

// MainRoutesOver returns the IPv4 routes of the main table that lead over a link. Kernels from 4.20 on list no others.
func (n *Namespace) MainRoutesOver(link netlink.Link) ([]netlink.Route, error) {
	_ = n.SetStrictCheck(true) // what other kernels list besides is left out here
	defer func() { _ = n.SetStrictCheck(false) }()
	routes, err := n.listRoutes(netlink.FAMILY_V4, &netlink.Route{
		Table: unix.RT_TABLE_MAIN, LinkIndex: link.Attrs().Index,
	}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // the table is made with its first route
	}
	if err != nil {
		return nil, fmt.Errorf("routes over %s: %w", link.Attrs().Name, err)
	}
	return routes, nil
}

func (n *Namespace) routes(table int) ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.listRoutes(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		all = append(all, routes...)
	}
	return all, nil
}

// listRoutes lists routes. The method of netlinksafe takes half a list for the whole after some attempts.
func (n *Namespace) listRoutes(family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return Retry(func() ([]netlink.Route, error) { return n.Handle.Handle.RouteListFiltered(family, filter, mask) })
}

// EnsureRoute makes sure that want exists, replacing a route with the same destination and metric. The argument
// existing holds the routes listed before.
func (n *Namespace) EnsureRoute(want HostRoute, existing []netlink.Route) error {
	for _, route := range existing {
		if want.Matches(route) {
			return nil
		}
	}
	if err := n.RouteReplace(want.netlink()); err != nil {
		return fmt.Errorf("route to %s: %w", want.Dst, err)
	}
	return nil
}

// DeleteRoute deletes a listed route. It is no error if the route is gone.
func (n *Namespace) DeleteRoute(route netlink.Route) error {
	// Pass only the fields that identify a route: with the metrics and flags of a listing, the kernel would compare
	// those too.
	key := &netlink.Route{
		Dst: route.Dst, LinkIndex: route.LinkIndex, Gw: route.Gw, Via: route.Via, MultiPath: route.MultiPath,
		Family: route.Family,
		Table:  route.Table, Type: route.Type, Tos: route.Tos, Priority: route.Priority, Scope: route.Scope,
	}
	// the error of fib_table_delete and ip6_route_del
	if err := n.RouteDel(key); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("route to %s: delete: %w", route.Dst, err)
	}
	return nil
}
