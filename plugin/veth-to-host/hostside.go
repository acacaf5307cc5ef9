package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// Priorities of the rules on the node. Unnumbered-ptp plugins have always used the last one.
const (
	// Replies to packets that the node forwarded to a pod follow the node's routes instead of going back into the pod.
	priorityMark = 512
	// Packets to an address that has its own route on the node (another pod of this plugin, of ptp or of calico) go
	// there directly. The kernel also uses this rule to look up reverse paths.
	priorityDirect = 1023
	// All other packets go back into the pod and leave by its underlay link.
	priorityBack = 1024
)

// markRule returns the only rule on the node that all attachments share; each family has one.
func markRule(mark uint32, ipv6 bool) kernel.Rule {
	return kernel.Rule{IPv6: ipv6, Priority: priorityMark, Mark: mark, Mask: mark, Table: mainTable}
}

const mainTable = 254 // RT_TABLE_MAIN

// directRule returns the rule that looks up host routes of the main table, and no others.
func directRule(link string, ipv6 bool) kernel.Rule {
	longest := 31 // one less than the length of a host route
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

// hostRoutes returns the routes on the node of an attachment. The routes to the pod's addresses come first, since the
// next hop of table N is reached by one of them.
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
			routes = append(routes, route{
				Dst: defaultRoute(ipv6), Via: pod, Link: a.Veth.Host, Table: a.Table,
			}.normal())
		}
	}
	return routes
}

// hostSysctls returns settings of the node's end that are made before it is up. They keep packets from a pod from
// configuring the node, and give the link no link-local address, which would only cause traffic between the two ends.
func (a attachment) hostSysctls() []kernel.Sysctl {
	settings := []kernel.Sysctl{
		{Family: "ipv4", Key: "forwarding", Value: "1"},
		{Family: "ipv4", Key: "accept_redirects", Value: "0"},
		{Family: "ipv4", Key: "send_redirects", Value: "0"},
		{Family: "ipv6", Key: "accept_ra", Value: "0"},
		{Family: "ipv6", Key: "autoconf", Value: "0"},
		{Family: "ipv6", Key: "accept_redirects", Value: "0"},
		{Family: "ipv6", Key: "addr_gen_mode", Value: "1"},
	}
	if len(a.Sources) > 0 {
		settings = append(settings, quiet())
	}
	return settings
}

// validMark returns the setting with which the kernel uses the mark when it looks up the reverse path of packets that
// arrive on hostInterface. Without it, strict reverse-path filtering finds rule 1024 of the pod that a node port leads
// to, and drops the packet (fib_validate_source looks up the reverse path as if the packet came from the outgoing
// link).
func validMark() kernel.Sysctl {
	return kernel.Sysctl{Family: "ipv4", Key: "src_valid_mark", Value: "1"}
}

// hostSide makes the parts of attachments that are on the node. For existing attachments it works from one listing.
type hostSide struct {
	host   *kernel.Namespace
	routes *routes
	rules  []netlink.Rule
	byLink map[string][]netlink.Rule        // the rules by their incoming link
	owner  map[netip.Addr]record.Attachment // by address, the newest record that has it
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
	h := &hostSide{
		host: host, routes: all, rules: rules, byLink: map[string][]netlink.Rule{},
		owner: map[netip.Addr]record.Attachment{},
	}
	for _, e := range entries { // in order of their sequence numbers
		for _, ip := range e.State.Addresses {
			h.owner[ip] = e.Attachment
		}
	}
	for _, rule := range rules {
		h.byLink[rule.IifName] = append(h.byLink[rule.IifName], rule)
	}
	return h, nil
}

// owns returns a function that reports whether an address still belongs to an attachment: if two records contain it, it
// belongs to the newer one.
func (h *hostSide) owns(e entry) func(netip.Addr) bool {
	return func(ip netip.Addr) bool { return h.owner[ip] == e.Attachment }
}

// ensureAnew makes the node's side of an attachment whose veth was just made. Nothing of it exists yet, and its
// addresses are its own.
func (h *hostSide) ensureAnew(e entry) error {
	a := e.State
	link, err := h.ensureLink(a)
	if err != nil {
		return err
	}
	if err := ensureNeighbours(h.host, link, a.Addresses, a.Veth.PodMAC, nil); err != nil {
		return err
	}
	for _, r := range a.hostRoutes(func(netip.Addr) bool { return true }) {
		if err := h.host.RouteReplace(r.netlink(link.Attrs().Index)); err != nil {
			return fmt.Errorf("route %s: %w", r, err)
		}
	}
	for _, r := range a.hostRules() {
		if err := h.host.EnsureRule(r, nil); err != nil {
			return err
		}
	}
	return nil
}

// ensureLink configures the node's end of a veth and brings it up.
func (h *hostSide) ensureLink(a attachment) (netlink.Link, error) {
	link, err := h.host.LinkByName(a.Veth.Host)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", a.Veth.Host, err)
	}
	if err := h.host.EnsureSysctls(a.Veth.Host, a.hostSysctls()...); err != nil {
		return nil, err
	}
	if !kernel.IsUp(link) {
		if err := h.host.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("link %s: bring up: %w", a.Veth.Host, err)
		}
	}
	return link, nil
}

// ensure makes everything on the node that belongs to one attachment, if it is missing: link up, neighbours, routes,
// rules.
func (h *hostSide) ensure(e entry) error {
	a := e.State
	link, err := h.ensureLink(a)
	if err != nil {
		return err
	}
	h.routes.indexes[a.Veth.Host] = link.Attrs().Index
	h.routes.names[link.Attrs().Index] = a.Veth.Host
	existing, err := h.host.Permanent(link.Attrs().Index)
	if err != nil {
		return err
	}
	if err := ensureNeighbours(h.host, link, a.Addresses, a.Veth.PodMAC, existing); err != nil {
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

// restore restores what was removed from recorded attachments. For example, removing the address of hostInterface
// deletes the routes that have it as their source.
func (h *hostSide) restore(entries []entry) {
	for _, e := range entries {
		if !h.stands(e) {
			h.repair(e)
		}
	}
}

// repair restores an attachment other than that of the call. Errors are only logged, so that the call and the other
// attachments go on.
func (h *hostSide) repair(e entry) {
	if err := h.ensure(e); err != nil {
		log.Printf("attachment %s: restore: %v", e.Attachment, err)
	}
}

// stands reports whether an attachment has its routes and rules on the node. It does not query the kernel, since an ADD
// asks this about every other pod. A link that was down has lost its neighbours and its routes too.
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

// ensureNeighbours makes permanent neighbours that are missing. The node's addresses are not on its end of the veth, so
// nobody would answer for them over IPv6, nor over IPv4 with arp_ignore; and with a permanent neighbour nobody has to
// ask. existing contains the neighbours that were listed.
func ensureNeighbours(n *kernel.Namespace, link netlink.Link, addrs []netip.Addr, mac string,
	existing map[netip.Addr]net.HardwareAddr,
) error {
	hw, err := net.ParseMAC(mac)
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

// clear removes from the node what an earlier owner of the address or the name left: a stale rule would send this pod's
// packets to an unused table, and a stale route would send the node's packets to a link that has nobody behind it.
func (h *hostSide) clear(e entry) error {
	if err := h.host.DeleteRulesOf(e.State.Veth.Host, kernel.AnyPriority); err != nil {
		return err
	}
	var errs []error
	for _, ip := range e.State.Addresses {
		errs = append(errs, h.host.DeleteRoutesTo(ip, 0))
	}
	return errors.Join(errs...)
}

// restoreLost restores other attachments if some have lost routes or rules. Routes vanish with an address of the node,
// and rules may all be deleted at once; both affect all attachments with that source address, so it looks at one
// attachment per source address. If only one pod's routes are missing, only its CHECK and GC notice.
func restoreLost(host *kernel.Namespace, s *store, e entry) error {
	values, err := s.Values(lostKind)
	if err != nil {
		return err
	}
	for _, value := range values {
		witness, err := s.Other(lostKind+"/"+value, e.Attachment)
		if err != nil {
			return err
		}
		if witness == nil {
			continue
		}
		stands, err := stands(host, s, *witness)
		if err != nil {
			return err
		}
		if stands {
			continue
		}
		entries, _, err := s.List()
		if err != nil {
			return err
		}
		h, err := readHostSide(host, entries)
		if err != nil {
			return err
		}
		h.restore(record.Without(entries, e.Attachment))
		return nil
	}
	return nil
}

// stands reports whether the packets of an attachment take its routes on the node, by its rules. It lists nothing.
func stands(host *kernel.Namespace, s *store, e entry) (bool, error) {
	a := e.State
	link, err := host.LinkByName(a.Veth.Host)
	if kernel.IsNotFound(err) {
		return true, nil // the veth vanished with the pod's namespace; nothing can be restored
	}
	if err != nil {
		return false, fmt.Errorf("link %s: %w", a.Veth.Host, err)
	}
	mac, err := net.ParseMAC(a.Veth.PodMAC)
	if err != nil {
		return false, err
	}
	for _, ip := range a.Addresses {
		if newer, err := hasNewerOwner(s, e, ip); err != nil || newer {
			return err == nil, err
		}
		got, err := host.Neighbour(link.Attrs().Index, ip)
		if err != nil || !bytes.Equal(got, mac) {
			return false, err
		}
	}
	return takesItsRoutes(host, link, a)
}

// takesItsRoutes reports whether the kernel would route packets of a pod as intended: to another pod by rule 1023 and
// its host route, to any other address by rule 1024 and table N, and with the mark by rule 512 and the main table.
func takesItsRoutes(host *kernel.Namespace, link netlink.Link, a attachment) (bool, error) {
	index := link.Attrs().Index
	for _, want := range a.hostRoutes(func(netip.Addr) bool { return true }) {
		ip := firstOf(a.Addresses, want.isIPv6())
		to := want.Dst.Addr()
		if want.Dst.Bits() == 0 {
			to = nowhere(want.isIPv6())
		}
		got, err := host.RouteFrom(index, ip, to, 0)
		if err != nil || got == nil {
			return false, err
		}
		if r, ok := routeOf(*got, a.Veth.Host); !ok || got.LinkIndex != index || r != want {
			return false, nil
		}
		if want.Dst.Bits() != 0 {
			continue
		}
		if got, err = host.RouteFrom(index, ip, to, a.Mark); err != nil || got != nil && got.Table == a.Table {
			return false, err
		}
	}
	return true, nil
}

// nowhere returns an address that no host has (RFC 5737 and RFC 3849), to which packets take the default route.
func nowhere(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.MustParseAddr("2001:db8::1")
	}
	return netip.MustParseAddr("192.0.2.1")
}

// ensureShared makes the rules for the mark and sets hostInterface's sysctl.
func (h *hostSide) ensureShared(a attachment) error {
	for _, ipv6 := range a.families() {
		if err := h.host.EnsureRule(markRule(a.Mark, ipv6), h.rules); err != nil { // an existing rule stays
			return err
		}
	}
	return h.host.EnsureSysctls(a.HostInterface, validMark())
}

// removeShared removes the rules for a mark if no other record needs them.
func removeShared(host *kernel.Namespace, s *store, mark uint32, of record.Attachment) error {
	var errs []error
	for _, ipv6 := range []bool{false, true} {
		other, err := s.Other(markKey(mark, ipv6), of)
		if err == nil && other == nil {
			err = host.RemoveRule(markRule(mark, ipv6))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
