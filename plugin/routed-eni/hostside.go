package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// Priorities of a pod's rules, the same as in amazon's plugin. The rules of ipamd are between them.
const (
	priorityTo   = 512
	priorityFrom = 1536
)

// toRule returns the rule by which all packets to a pod use the main table, where its host route is.
func toRule(ip netip.Addr, table int) kernel.Rule {
	return kernel.Rule{IPv6: ip.Is6(), Priority: priorityTo, To: netip.PrefixFrom(ip, ip.BitLen()), Table: table}
}

// fromRule returns the rule by which packets from a pod use the table of its ENI: the cloud drops them on other ENIs.
func fromRule(ip netip.Addr, table int) kernel.Rule {
	return kernel.Rule{IPv6: ip.Is6(), Priority: priorityFrom, From: netip.PrefixFrom(ip, ip.BitLen()), Table: table}
}

func (a attachment) hostRules() []kernel.Rule {
	rules := []kernel.Rule{toRule(a.Address, mainTable)}
	if a.Table != mainTable {
		rules = append(rules, fromRule(a.Address, a.Table))
	}
	return rules
}

// isPodRule reports whether a rule belongs to a pod with that address, whatever table it leads to, if any.
func isPodRule(r kernel.Rule, ip netip.Addr) bool {
	r.Refuse = 0
	return r == toRule(ip, r.Table) || r == fromRule(ip, r.Table)
}

func (a attachment) hostRoute(link int) kernel.HostRoute {
	return kernel.HostRoute{Dst: a.Address, Link: link}
}

// hostSysctls returns the settings of the node's end, made before it is up. No packet of a pod may configure the node.
func (a attachment) hostSysctls() []kernel.Sysctl {
	settings := []kernel.Sysctl{
		{Family: "ipv4", Key: "accept_redirects", Value: "0"},
		{Family: "ipv6", Key: "accept_ra", Value: "0"},
		{Family: "ipv6", Key: "accept_redirects", Value: "0"},
		{Family: "ipv6", Key: "addr_gen_mode", Value: "1"}, // the kernel makes no address
	}
	if a.isIPv6() {
		settings = append(settings, kernel.Sysctl{Family: "ipv6", Key: "disable_ipv6", Value: "0"})
	}
	return settings
}

// quiet returns the setting that keeps a pod from filling the node's neighbour table, which is one for all links, by
// asking in the name of many machines: with 8 the node answers no ARP request and learns nothing (ip-sysctl.rst). The
// pod has a permanent neighbour and need not ask. CHECK does not look at it, since pods of earlier versions lack it.
func quiet() kernel.Sysctl { return kernel.Sysctl{Family: "ipv4", Key: "arp_ignore", Value: "8"} }

// hostSide is the state of pods on the node. For existing pods it is read from one listing.
type hostSide struct {
	host   *kernel.Namespace
	routes []netlink.Route // of the main table
	rules  []netlink.Rule
}

func readHostSide(host *kernel.Namespace) (*hostSide, error) {
	routes, err := host.MainRoutes()
	if err != nil {
		return nil, err
	}
	rules, err := host.Rules()
	if err != nil {
		return nil, err
	}
	return &hostSide{host, routes, rules}, nil
}

// ensure makes sure of the route and the rules of an attachment on the node, and removes those of an earlier owner of
// its address: a stale rule would send this pod's packets out of another ENI, and a stale route would send the node's
// packets to nobody.
func (h *hostSide) ensure(a attachment) error {
	link, err := h.ensureLink(a)
	if err != nil {
		return err
	}
	if err := h.ensureRoute(a.hostRoute(link.Attrs().Index)); err != nil {
		return err
	}
	return h.ensureRules(a)
}

// ensureAnew does the same for an attachment whose veth was just made, without a list: every route and rule for its
// address belonged to an earlier owner.
func (h *hostSide) ensureAnew(a attachment) error {
	link, err := h.ensureLink(a)
	if err != nil {
		return err
	}
	if err := h.host.DeleteRoutesTo(a.Address, 0); err != nil {
		return err
	}
	if err := h.host.EnsureRoute(a.hostRoute(link.Attrs().Index), nil); err != nil {
		return err
	}
	if err := deleteRules(h.host, a.Address); err != nil {
		return err
	}
	for _, r := range a.hostRules() {
		if err := h.host.EnsureRule(r, nil); err != nil {
			return err
		}
	}
	return nil
}

// deleteRules deletes the rules of pods that had an address, whatever tables they lead to.
func deleteRules(host *kernel.Namespace, ip netip.Addr) error {
	return errors.Join(host.DeleteRulesFor(toRule(ip, 0)), host.DeleteRulesFor(fromRule(ip, 0)))
}

// ensureLink makes sure of the node's end of the veth.
func (h *hostSide) ensureLink(a attachment) (netlink.Link, error) {
	link, err := h.host.LinkByName(a.Veth.Host)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", a.Veth.Host, err)
	}
	if link.Attrs().Alias != a.Alias { // the kernel ignores an alias when it makes a link (rtnl_create_link)
		if err := h.host.LinkSetAlias(link, a.Alias); err != nil {
			return nil, fmt.Errorf("link %s: alias: %w", a.Veth.Host, err)
		}
	}
	for _, s := range append(a.hostSysctls(), quiet()) {
		if err := h.host.EnsureSysctl(a.Veth.Host, s); err != nil && (!errors.Is(err, kernel.ErrNoSysctl) ||
			a.isIPv6()) {
			return nil, fmt.Errorf("link %s: sysctl %s.%s=%s: %w", a.Veth.Host, s.Family, s.Key, s.Value, err)
		}
	}
	if !kernel.IsUp(link) {
		if err := h.host.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("link %s: bring up: %w", a.Veth.Host, err)
		}
	}
	if a.isIPv6() {
		// The node sends neighbour solicitations for the pod from this address. Each veth has it, but only this one
		// leads to the pod.
		if err := h.host.EnsureLinkLocal(link, a.gateway()); err != nil {
			return nil, err
		}
	}
	return link, nil
}

func (h *hostSide) ensureRoute(want kernel.HostRoute) error {
	if err := h.host.EnsureRoute(want, h.routes); err != nil {
		return err
	}
	var errs []error
	for _, route := range h.routes {
		// Another address on this link does no harm, and is removed with the link.
		if isTo(route, want.Dst) && route.LinkIndex != want.Link {
			errs = append(errs, h.host.DeleteRoute(route))
		}
	}
	return errors.Join(errs...)
}

func isTo(route netlink.Route, ip netip.Addr) bool {
	dst, ok := kernel.Destination(route)
	return ok && dst.IsSingleIP() && dst.Addr() == ip
}

func (h *hostSide) ensureRules(a attachment) error {
	want := a.hostRules()
	for _, r := range want {
		if err := h.host.EnsureRule(r, h.rules); err != nil {
			return err
		}
	}
	return h.removeRules(a.Address, want...)
}

// removeRules removes the rules for an address, except those to keep.
func (h *hostSide) removeRules(ip netip.Addr, keep ...kernel.Rule) error {
	var errs []error
	for _, rule := range h.rules {
		if r, ok := kernel.ReadRule(rule); ok && isPodRule(r, ip) && !slices.Contains(keep, r) {
			errs = append(errs, h.host.DeleteRule(rule))
		}
	}
	return errors.Join(errs...)
}

// addressesBehind returns the addresses to which the node has host routes over a link.
func (h *hostSide) addressesBehind(link netlink.Link) []netip.Addr {
	var ips []netip.Addr
	for _, route := range h.routes {
		if dst, ok := kernel.Destination(route); ok && dst.IsSingleIP() && route.LinkIndex == link.Attrs().Index {
			ips = append(ips, dst.Addr())
		}
	}
	return ips
}

// hasMAC reports whether a link has a hardware address.
func hasMAC(link netlink.Link, mac string) bool {
	want, err := net.ParseMAC(mac)
	return err == nil && bytes.Equal(link.Attrs().HardwareAddr, want)
}
