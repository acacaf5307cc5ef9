package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// readAddresses returns the addresses that get a route. It reads each link in the pod that has such an address, since
// prevResult may be out of date: the hardware address may have been changed after the result was made.
//
// The link that CNI_IFNAME names has to be a macvlan in mode bridge on the master. Other links may be of any kind, and
// are left out if the child cannot reach them.
func readAddresses(host, pod *kernel.Namespace, c *child, prev *current.Result, ifName string) ([]address, error) {
	var addrs []address
	links := map[string]netlink.Link{}
	for _, given := range podAddresses(prev, ifName) {
		link, seen := links[given.link]
		if !seen {
			var err error
			if link, err = reachable(host, pod, c, given.link, given.link == ifName); err != nil {
				return nil, err
			}
			links[given.link] = link
		}
		if link != nil {
			addrs = append(addrs, address{IP: given.Addr(), Link: given.link, MAC: link.Attrs().HardwareAddr.String()})
		}
	}
	if len(addrs) == 0 {
		return nil, chain.BadConfig("prevResult has no address on %s to route to: give the plugin that makes the "+
			"link an ipam", ifName)
	}
	return addrs, nil
}

// reachable returns a link in the pod if the child reaches it. Otherwise it returns an error if the link is required,
// and else nil.
func reachable(host, pod *kernel.Namespace, c *child, name string, required bool) (netlink.Link, error) {
	link, err := pod.LinkByName(name)
	if kernel.IsNotFound(err) {
		return nil, chain.BadConfig("prevResult names link %s, which is not in the pod", name)
	}
	if err != nil {
		return nil, fmt.Errorf("link %s of the pod: %w", name, err)
	}
	why, err := obstacle(host, pod, c, link)
	switch {
	case err != nil:
		return nil, err
	case why == "":
		return link, nil
	case required:
		return nil, chain.BadConfig("link %s of the pod is %s", name, why)
	}
	return nil, nil
}

// obstacle returns why the child cannot reach a link in the pod, or "" if it can.
func obstacle(host, pod *kernel.Namespace, c *child, link netlink.Link) (string, error) {
	macvlan, ok := link.(*netlink.Macvlan)
	if !ok {
		return fmt.Sprintf("of kind %s, and route is for macvlan alone: other kinds need no child to reach their node",
			kind(link)), nil
	}
	on, err := pod.IsParent(link, c.lower.Attrs().Index, host)
	if err != nil {
		return "", err
	}
	if !on {
		return fmt.Sprintf("a macvlan of another device than master %q: set the same master in macvlan and route",
			c.master.Attrs().Name), nil
	}
	switch macvlan.Mode {
	case netlink.MACVLAN_MODE_BRIDGE:
		return "", nil
	case netlink.MACVLAN_MODE_PRIVATE, netlink.MACVLAN_MODE_VEPA:
		return fmt.Sprintf("a macvlan in mode %s, which delivers nothing between two macvlans of one master: set "+
			"mode bridge in macvlan",
			modeName(macvlan.Mode)), nil
	case netlink.MACVLAN_MODE_PASSTHRU:
		return "a macvlan in mode passthru, which takes the whole master and leaves no room for the child: set mode " +
			"bridge in macvlan", nil
	}
	return fmt.Sprintf("a macvlan in mode %s: set mode bridge in macvlan", modeName(macvlan.Mode)), nil
}

// planPodRoutes returns the routes to the node that the pod lacks. Routes of the conflist stay as they are. Routes over
// another link of the pod stay too, unless their address is on the master of this link.
func planPodRoutes(pod *kernel.Namespace, n *node, c *child, prev *current.Result, addrs []address,
	ifName string,
) ([]podRoute, error) {
	listed, err := pod.MainRoutes()
	if err != nil {
		return nil, err
	}
	var subnets []netip.Prefix
	for _, given := range podAddresses(prev, ifName) {
		if given.link == addrs[0].Link {
			subnets = append(subnets, given.Prefix)
		}
	}
	link, err := pod.LinkByName(addrs[0].Link)
	if err != nil {
		return nil, err
	}
	var lacking []podRoute
	for _, r := range n.podRoutes(subnets, addrs[0].Link, c.linkLocal()) {
		if !leadsTo(listed, link, r, onLink(subnets, r.Dst)) {
			r.Metric = freeMetric(listed, link, r)
			lacking = append(lacking, r)
		}
	}
	return lacking, nil
}

// freeMetric returns the route's metric, or the next one that no route over another link of the pod has for this
// address: a route replaces any route with the same address and metric, whatever its device, so net1 would replace the
// route of eth0.
func freeMetric(listed []netlink.Route, link netlink.Link, r podRoute) int {
	for _, route := range listed {
		dst, ok := kernel.Destination(route)
		same := ok && dst.IsSingleIP() && dst.Addr() == r.Dst && route.Priority == r.Metric
		if same && route.LinkIndex != link.Attrs().Index {
			r.Metric++
			return freeMetric(listed, link, r)
		}
	}
	return r.Metric
}

// leadsTo reports whether the pod does not need r, because it reaches the address of the node by another route already.
func leadsTo(listed []netlink.Route, link netlink.Link, r podRoute, connected bool) bool {
	elsewhere := false
	for _, route := range listed {
		dst, ok := kernel.Destination(route)
		if !ok || dst.Bits() == 0 || !dst.Contains(r.Dst) || route.Type != unix.RTN_UNICAST {
			continue
		}
		if route.LinkIndex != link.Attrs().Index {
			elsewhere = true
		} else if dst.IsSingleIP() && !r.on(link).Matches(route) {
			return true
		}
	}
	if elsewhere {
		return r.Metric == metricOther
	}
	return connected && !r.Via.IsValid()
}

func (r podRoute) on(link netlink.Link) kernel.HostRoute {
	return kernel.HostRoute{Dst: r.Dst, Link: link.Attrs().Index, Via: r.Via, Metric: r.Metric}
}

func addPodRoutes(pod *kernel.Namespace, routes []podRoute) error {
	if len(routes) == 0 {
		return nil
	}
	listed, err := pod.MainRoutes()
	if err != nil {
		return err
	}
	for _, r := range routes {
		link, err := pod.LinkByName(r.Link)
		if err != nil {
			return fmt.Errorf("link %s of the pod: %w", r.Link, err)
		}
		if err := pod.EnsureRoute(r.on(link), listed); err != nil {
			return fmt.Errorf("in the pod: %w", err)
		}
	}
	return nil
}

// removePodRoutes removes an attachment's routes from its pod, if it is still the same pod: a namespace of that path
// may belong to another by now, and the hardware address of the link tells.
func removePodRoutes(host *kernel.Namespace, a attachment) error {
	if len(a.PodRoutes) == 0 || len(a.Addresses) == 0 || a.Netns == "" {
		return nil
	}
	pod, err := kernel.Open(a.Netns)
	switch {
	case kernel.Exhausted(err):
		return err
	case err != nil:
		return nil // gone, and the routes with it
	}
	defer pod.Close()
	if pod.Is(host) {
		return nil
	}
	link, err := pod.LinkByName(a.PodRoutes[0].Link)
	if err != nil && !kernel.IsNotFound(err) {
		return err
	}
	if err != nil || link.Attrs().HardwareAddr.String() != a.Addresses[0].MAC {
		return nil
	}
	listed, err := pod.MainRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range slices.Backward(a.PodRoutes) {
		for _, route := range listed {
			if r.on(link).Matches(route) {
				errs = append(errs, pod.DeleteRoute(route))
			}
		}
	}
	return errors.Join(errs...)
}
