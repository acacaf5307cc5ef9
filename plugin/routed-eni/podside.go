package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

const (
	linkScope = unix.RT_SCOPE_LINK
	// The metric that the kernel gives an IPv6 route without one (IP6_RT_PRIO_USER).
	ipv6Metric = 1024
)

// gatewayRoute returns the route to the next hop, which is on the link.
func (a attachment) gatewayRoute(link int) kernel.HostRoute {
	return kernel.HostRoute{Dst: a.gateway(), Link: link, Metric: a.Metric}
}

func (a attachment) defaultRoute(link int) *netlink.Route {
	return &netlink.Route{
		Dst: defaultDestination(a), Gw: a.gateway().AsSlice(), LinkIndex: link, Table: mainTable, Priority: a.Metric,
	}
}

// freeMetric returns the lowest metric that no other route of the pod to the same destinations has, so that the routes
// of the pod's first interface stay and are preferred.
func freeMetric(pod *kernel.Namespace, a attachment) (int, error) {
	listed, err := pod.MainRoutes()
	if err != nil {
		return 0, err
	}
	taken := map[int]bool{}
	for _, r := range listed {
		if dst, ok := kernel.Destination(r); ok && dst.Addr().Is6() == a.isIPv6() &&
			(dst.Bits() == 0 || dst.IsSingleIP() && dst.Addr() == a.gateway()) {
			taken[r.Priority] = true
		}
	}
	metric := firstMetric(a)
	for taken[metric] {
		metric++
	}
	return metric, nil
}

// firstMetric returns the metric of the routes of a pod's first interface.
func firstMetric(a attachment) int {
	if a.isIPv6() {
		return ipv6Metric
	}
	return 0
}

// podRule returns the rule in the pod by which what it sends with this address leaves by the interface that has it: the
// node drops what arrives from another pod's interface, and the pod's reverse path filter what came by this one.
func (a attachment) podRule() kernel.Rule { return fromRule(a.Address, a.PodTable) }

// preferOwn gives the pod the rule and its table, if another interface has the preferred routes.
func (a attachment) preferOwn(pod *kernel.Namespace, link int) error {
	if a.PodTable == 0 {
		return nil
	}
	gateway := &netlink.Route{Dst: netipx.AddrIPNet(a.gateway()), LinkIndex: link, Table: a.PodTable}
	if !a.isIPv6() {
		gateway.Scope = linkScope
	}
	for _, route := range []*netlink.Route{gateway, {
		Dst: defaultDestination(a), Gw: a.gateway().AsSlice(), LinkIndex: link, Table: a.PodTable,
	}} {
		if err := pod.RouteReplace(route); err != nil {
			return fmt.Errorf("in the pod: table %d: route to %s: %w", a.PodTable, route.Dst, err)
		}
	}
	return pod.EnsureRule(a.podRule(), nil)
}

// forgetInPod removes the rule for an address from a pod that still exists. Its table goes with the link.
func forgetInPod(host *kernel.Namespace, netns string, ip netip.Addr) error {
	pod, err := verb.OpenPod(host, netns)
	if err != nil {
		return nil //nolint:nilerr // the pod is gone, and with it the rule
	}
	defer pod.Close()
	if err := pod.DeleteRulesFor(fromRule(ip, 0)); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	return nil
}

// podSysctls returns the sysctls of links on which IPv6 may be switched off. The kernel delivers a pod's packets to
// itself over lo.
func podSysctls(a attachment) map[string]kernel.Sysctl {
	if !a.isIPv6() {
		return nil
	}
	on := kernel.Sysctl{Family: "ipv6", Key: "disable_ipv6", Value: "0"}
	return map[string]kernel.Sysctl{a.Veth.Pod: on, "lo": on}
}

// connectPod gives the pod's end its address, the routes and the permanent neighbour.
func connectPod(pod *kernel.Namespace, a attachment) error {
	link, err := pod.LinkByName(a.Veth.Pod)
	if err != nil {
		return fmt.Errorf("link %s of the pod: %w", a.Veth.Pod, err)
	}
	for name, s := range podSysctls(a) {
		if err := pod.EnsureSysctl(name, s); err != nil {
			return fmt.Errorf("address %s: IPv6 on link %s of the pod: %w", a.Address, name, err)
		}
	}
	if err := pod.LinkSetUp(link); err != nil {
		return fmt.Errorf("link %s of the pod: bring up: %w", a.Veth.Pod, err)
	}
	// Nobody else on the link has an address: looking for duplicates would only make it unusable for a second.
	addr := &netlink.Addr{IPNet: netipx.AddrIPNet(a.Address)}
	if a.isIPv6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := pod.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("link %s of the pod: address %s: %w", a.Veth.Pod, a.Address, err)
	}
	mac, err := net.ParseMAC(a.Veth.HostMAC)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := pod.EnsureNeighbour(index, a.gateway(), mac, nil); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	if err := pod.EnsureRoute(a.gatewayRoute(index), nil); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	if err := pod.RouteAdd(a.defaultRoute(index)); err != nil {
		return fmt.Errorf("in the pod: default route: %w", err)
	}
	if err := a.preferOwn(pod, index); err != nil {
		return err
	}
	return awaitLocal(pod, a.Address)
}

// localWithin is how long the kernel may take to accept an IPv6 address.
const localWithin = 5 * time.Second

// awaitLocal returns as soon as the pod accepts packets to its address as local.
func awaitLocal(pod *kernel.Namespace, ip netip.Addr) error {
	missing, err := pod.AwaitLocal(localWithin, ip)
	if err != nil || len(missing) == 0 {
		return err
	}
	return chain.TryAgain("address %s of the pod is not in use after %s", ip, localWithin)
}

// defaultMTU is the MTU of ENIs on nearly all machines, for a node that has no default route yet.
const defaultMTU = 9001

// uplinkMTU returns the MTU of the ENI by which the pod's packets leave: larger packets would be fragmented or dropped
// there.
func uplinkMTU(host *kernel.Namespace, a attachment) (int, error) {
	for _, table := range []int{a.Table, mainTable} {
		index, err := defaultLink(host, table, a.isIPv6())
		if err != nil {
			return 0, err
		}
		if index == 0 {
			continue
		}
		link, err := host.LinkByIndex(index)
		if err != nil {
			return 0, errors.Join(fmt.Errorf("link of the default route in table %d", table), err)
		}
		return link.Attrs().MTU, nil
	}
	return defaultMTU, nil
}

// defaultLink returns the link of a table's first default route, or 0 if it has none. It lists routes only for IPv6,
// and only if the node's own default route uses another link: in a list of IPv6 routes the kernel puts the shortest
// destinations last.
func defaultLink(host *kernel.Namespace, table int, ipv6 bool) (int, error) {
	if !ipv6 {
		return host.TableDefault(table)
	}
	isDefault := func(r netlink.Route) bool {
		dst, ok := kernel.Destination(r)
		return ok && dst.Bits() == 0 && dst.Addr().Is6() && r.Table == table && r.LinkIndex != 0 &&
			r.Type == unix.RTN_UNICAST
	}
	out, err := host.RouteTo(documentation(), 0)
	if err != nil {
		return 0, err
	}
	if out != nil && isDefault(*out) {
		return out.LinkIndex, nil
	}
	listed, err := host.AllRoutes()
	if err != nil {
		return 0, err
	}
	if i := slices.IndexFunc(listed, isDefault); i >= 0 {
		return listed[i].LinkIndex, nil
	}
	return 0, nil
}

// documentation returns an address that nobody has (RFC 3849), so that only the default route leads there.
func documentation() netip.Addr { return netip.MustParseAddr("2001:db8::1") }
