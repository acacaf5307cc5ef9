package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// Priorities of the rules on the node. The last is the one that unnumbered-ptp plugins have always used.
const (
	// Replies to what the node forwarded to a pod go where the node's routes say, not back into the pod.
	priorityMark = 512
	// What has a route of its own on the node (another pod of this plugin, or one of ptp or calico) goes there directly.
	// The kernel looks here for reverse paths as well.
	priorityDirect = 1023
	// All else goes back into the pod, whose underlay link is the way to it.
	priorityBack = 1024
)

// markRule is the one rule on the node that all attachments share, one for each family.
func markRule(mark uint32, ipv6 bool) kernel.Rule {
	return kernel.Rule{IPv6: ipv6, Priority: priorityMark, Mark: mark, Mask: mark, Table: mainTable}
}

const mainTable = 254 // RT_TABLE_MAIN

// directRule lets host routes of the main table decide, and no others.
func directRule(link string, ipv6 bool) kernel.Rule {
	longest := 31 // one less than that of a host route
	if ipv6 {
		longest = 127
	}
	return kernel.Rule{IPv6: ipv6, Priority: priorityDirect, IifName: link, Table: mainTable, SuppressPrefix: longest}
}

func (a attachment) hostRules() []kernel.Rule {
	var rules []kernel.Rule
	for _, ipv6 := range a.families() {
		rules = append(rules, directRule(a.Veth.Host, ipv6),
			kernel.Rule{IPv6: ipv6, Priority: priorityBack, IifName: a.Veth.Host, Table: a.Table})
	}
	return rules
}

// hostRoutes returns the node's routes of an attachment, those to the pod's addresses first: the next hop of table N is
// reached by one of them.
func (a attachment) hostRoutes(owns func(netip.Addr) bool) []route {
	var routes []route
	for _, ip := range a.Addresses {
		if owns(ip) {
			r := hostRoute(ip, a.Veth.Host)
			r.Src = a.node(ip.Is6())
			routes = append(routes, r)
		}
	}
	for _, ipv6 := range a.families() {
		if pod := firstOf(a.Addresses, ipv6); owns(pod) {
			routes = append(routes, route{Dst: defaultRoute(ipv6), Via: pod, Link: a.Veth.Host, Table: a.Table}.normal())
		}
	}
	return routes
}

// hostSysctls are settings of the node's end, before it is up. Nothing that a pod says may configure the node, and a
// link-local address would only make the two ends talk about themselves.
func (a attachment) hostSysctls() []kernel.Sysctl {
	return []kernel.Sysctl{
		{Family: "ipv4", Key: "forwarding", Value: "1"},
		{Family: "ipv4", Key: "accept_redirects", Value: "0"},
		{Family: "ipv4", Key: "send_redirects", Value: "0"},
		{Family: "ipv6", Key: "accept_ra", Value: "0"},
		{Family: "ipv6", Key: "autoconf", Value: "0"},
		{Family: "ipv6", Key: "accept_redirects", Value: "0"},
		{Family: "ipv6", Key: "addr_gen_mode", Value: "1"},
	}
}

// validMark makes the kernel take the mark into account when it looks for the reverse path of what comes in on
// hostInterface. Else strict reverse-path filtering meets rule 1024 of the pod that a node port leads to, and drops the
// packet (fib_validate_source looks up the way back as if from the outgoing link).
func validMark() kernel.Sysctl {
	return kernel.Sysctl{Family: "ipv4", Key: "src_valid_mark", Value: "1"}
}

// hostSide changes what attachments have on the node, from one listing.
type hostSide struct {
	host    *kernel.Namespace
	routes  *routes
	rules   []netlink.Rule
	byLink  map[string][]netlink.Rule // the rules by the link that they are for
	entries []entry
}

func readHostSide(host *kernel.Namespace, entries []entry) (*hostSide, error) {
	all, err := readRoutes(host)
	if err != nil {
		return nil, err
	}
	rules, err := host.Rules()
	if err != nil {
		return nil, err
	}
	h := &hostSide{host: host, routes: all, rules: rules, byLink: map[string][]netlink.Rule{}, entries: entries}
	for _, rule := range rules {
		h.byLink[rule.IifName] = append(h.byLink[rule.IifName], rule)
	}
	return h, nil
}

// owns returns which addresses of an attachment are still its own: of two records with one, the younger has it.
func (h *hostSide) owns(e entry) func(netip.Addr) bool {
	return func(ip netip.Addr) bool { return !newerOwner(h.entries, e, ip) }
}

// holds reports whether any of the records holds an address.
func (h *hostSide) holds(ip netip.Addr) bool {
	return slices.ContainsFunc(h.entries, func(e entry) bool { return e.State.has(ip) })
}

// ensure makes sure of what an attachment has on the node beside the shared things: link up, neighbours, routes, rules.
func (h *hostSide) ensure(e entry) error {
	a := e.State
	link, err := h.host.LinkByName(a.Veth.Host)
	if err != nil {
		return fmt.Errorf("link %s: %w", a.Veth.Host, err)
	}
	for _, s := range a.hostSysctls() {
		if err := kernel.EnsureSysctl(a.Veth.Host, s); err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
			return fmt.Errorf("link %s: sysctl %s.%s=%s: %w", a.Veth.Host, s.Family, s.Key, s.Value, err)
		}
	}
	if !kernel.IsUp(link) {
		if err := h.host.LinkSetUp(link); err != nil {
			return fmt.Errorf("link %s: bring up: %w", a.Veth.Host, err)
		}
	}
	h.routes.indexes[a.Veth.Host] = link.Attrs().Index
	h.routes.names[link.Attrs().Index] = a.Veth.Host
	if err := ensureNeighbours(h.host, link, a.Addresses, a.Veth.PodMAC); err != nil {
		return err
	}
	for _, r := range a.hostRoutes(h.owns(e)) {
		if err := h.routes.ensure(r); err != nil {
			return err
		}
	}
	for _, r := range a.hostRules() {
		if err := h.host.EnsureRule(r, h.byLink[a.Veth.Host]); err != nil {
			return err
		}
	}
	return nil
}

// restore brings back what somebody removed from under recorded attachments: taking hostInterface's address away deletes
// the routes that have it as their source, for one.
func (h *hostSide) restore(entries []entry) {
	for _, e := range entries {
		if !h.stands(e) {
			h.repair(e)
		}
	}
}

// repair makes sure of an attachment that no call is about: what cannot be restored stops neither the others nor the call.
func (h *hostSide) repair(e entry) {
	if err := h.ensure(e); err != nil {
		log.Printf("attachment %s: restore: %v", e.Attachment, err)
	}
}

// stands reports whether an attachment has its routes and rules on the node. It asks the kernel nothing, since an ADD looks
// so at every other pod. A link that was down for a while has lost its neighbours, and its routes too.
func (h *hostSide) stands(e entry) bool {
	for _, r := range e.State.hostRoutes(h.owns(e)) {
		if !h.routes.has(r) {
			return false
		}
	}
	for _, r := range e.State.hostRules() {
		if !slices.ContainsFunc(h.byLink[e.State.Veth.Host], r.Matches) {
			return false
		}
	}
	return h.routes.up[e.State.Veth.Host]
}

// ensureNeighbours makes sure of permanent neighbours: the node's addresses are on no veth, so over IPv6, and over IPv4
// with arp_ignore, nobody would answer for them; and no end ever has to ask.
func ensureNeighbours(n *kernel.Namespace, link netlink.Link, addrs []netip.Addr, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	existing, err := n.Permanent(link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, ip := range addrs {
		if err := n.EnsureNeighbour(link.Attrs().Index, ip, hw, existing); err != nil {
			return err
		}
	}
	return nil
}

// clear removes from the node what an earlier owner of an address or of a name left: a stale rule would send this pod's
// packets to a table of long ago, and a stale route the node's packets to nobody.
func (h *hostSide) clear(e entry) error {
	var errs []error
	wanted := e.State.hostRules()
	for _, rule := range h.rules {
		if rule.IifName == e.State.Veth.Host && !slices.ContainsFunc(wanted, func(r kernel.Rule) bool { return r.Matches(rule) }) {
			errs = append(errs, h.host.DeleteRule(rule))
		}
	}
	for _, listed := range h.routes.listed {
		dst, ok := kernel.Destination(listed)
		if ok && listed.Table == mainTable && dst.IsSingleIP() && e.State.has(dst.Addr()) &&
			h.routes.names[listed.LinkIndex] != e.State.Veth.Host {
			errs = append(errs, h.host.DeleteRoute(listed))
		}
	}
	return errors.Join(errs...)
}

// removeVeth removes a veth with all that hangs on it: routes and neighbours go with their link, rules do not. One that
// somebody else has made under the name stays: it has neither the hardware address nor the rule of this plugin's.
func removeVeth(host *kernel.Namespace, rules []netlink.Rule, v kernel.Veth) error {
	link, err := host.LinkByName(v.Host)
	if err != nil && !kernel.IsNotFound(err) {
		return fmt.Errorf("link %s: %w", v.Host, err)
	}
	if err == nil && link.Type() == "veth" && (link.Attrs().HardwareAddr.String() == v.HostMAC || hasDirectRule(rules, v.Host)) {
		if err := host.LinkDel(link); err != nil {
			// The pod's namespace may have taken it along; its rules, by which GC knows it, go only after it.
			if _, still := host.LinkByName(v.Host); !kernel.IsNotFound(still) {
				return fmt.Errorf("link %s: delete: %w", v.Host, err)
			}
		}
	}
	return removeRules(host, rules, v.Host)
}

func hasDirectRule(rules []netlink.Rule, link string) bool {
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool {
		return directRule(link, r.Family == netlink.FAMILY_V6).Matches(r)
	})
}

// removeRules removes the rules of a link's name.
func removeRules(host *kernel.Namespace, rules []netlink.Rule, name string) error {
	var errs []error
	for _, rule := range rules {
		if rule.IifName == name && (rule.Priority == priorityDirect || rule.Priority == priorityBack) {
			errs = append(errs, host.DeleteRule(rule))
		}
	}
	return errors.Join(errs...)
}

// ensureShared makes sure of the rules for the mark, and of hostInterface's setting.
func (h *hostSide) ensureShared(a attachment) error {
	for _, ipv6 := range a.families() {
		if err := h.host.EnsureRule(markRule(a.Mark, ipv6), h.rules); err != nil {
			return err
		}
	}
	s := validMark()
	if err := kernel.EnsureSysctl(a.HostInterface, s); err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
		return fmt.Errorf("link %s: sysctl %s.%s=%s: %w", a.HostInterface, s.Family, s.Key, s.Value, err)
	}
	return nil
}

// removeShared removes the rules for a mark that none of the records needs.
func (h *hostSide) removeShared(mark uint32) error {
	var errs []error
	for _, ipv6 := range []bool{false, true} {
		if slices.ContainsFunc(h.entries, func(e entry) bool { return e.State.Mark == mark && slices.Contains(e.State.families(), ipv6) }) {
			continue
		}
		for _, rule := range h.rules {
			if markRule(mark, ipv6).Matches(rule) {
				errs = append(errs, h.host.DeleteRule(rule))
			}
		}
	}
	return errors.Join(errs...)
}
