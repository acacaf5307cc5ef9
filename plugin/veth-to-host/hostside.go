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

// Priorities of the rules on the node. The last is the one that unnumbered-ptp plugins have always used.
const (
	// Replies to what the node forwarded to a pod go where the node's routes say, not back into the pod.
	priorityMark = 512
	// What has a route of its own on the node (another pod of this plugin, or one of ptp or calico) goes there
	// directly. The kernel looks here for reverse paths as well.
	priorityDirect = 1023
	// All else goes back into the pod, whose underlay link is the way to it.
	priorityBack = 1024
)

// markRule returns the one rule on the node that all attachments share, one for each family.
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
			routes = append(routes, route{
				Dst: defaultRoute(ipv6), Via: pod, Link: a.Veth.Host, Table: a.Table,
			}.normal())
		}
	}
	return routes
}

// hostSysctls returns settings of the node's end, before it is up. Nothing that a pod says may configure the node, and
// a link-local address would only make the two ends talk about themselves.
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

// hostSide changes what attachments have on the node, from one listing where it is about those that stand already.
type hostSide struct {
	host   *kernel.Namespace
	routes *routes
	rules  []netlink.Rule
	byLink map[string][]netlink.Rule        // the rules by the link that they are for
	owner  map[netip.Addr]record.Attachment // by address, the youngest record's
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
	for _, e := range entries { // in order of their sequence
		for _, ip := range e.State.Addresses {
			h.owner[ip] = e.Attachment
		}
	}
	for _, rule := range rules {
		h.byLink[rule.IifName] = append(h.byLink[rule.IifName], rule)
	}
	return h, nil
}

// owns returns which addresses of an attachment are still its own: of two records with one, the younger has it.
func (h *hostSide) owns(e entry) func(netip.Addr) bool {
	return func(ip netip.Addr) bool { return h.owner[ip] == e.Attachment }
}

// ensureAnew makes what an attachment has on the node whose veth was just made: nothing of it is there, and its
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

// ensureLink makes sure of the node's end of a veth.
func (h *hostSide) ensureLink(a attachment) (netlink.Link, error) {
	link, err := h.host.LinkByName(a.Veth.Host)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", a.Veth.Host, err)
	}
	for _, s := range a.hostSysctls() {
		if err := kernel.EnsureSysctl(a.Veth.Host, s); err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
			return nil, fmt.Errorf("link %s: sysctl %s.%s=%s: %w", a.Veth.Host, s.Family, s.Key, s.Value, err)
		}
	}
	if !kernel.IsUp(link) {
		if err := h.host.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("link %s: bring up: %w", a.Veth.Host, err)
		}
	}
	return link, nil
}

// ensure makes sure of what an attachment has on the node beside the shared things: link up, neighbours, routes, rules.
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

// restore brings back what somebody removed from under recorded attachments: taking hostInterface's address away
// deletes the routes that have it as their source, for one.
func (h *hostSide) restore(entries []entry) {
	for _, e := range entries {
		if !h.stands(e) {
			h.repair(e)
		}
	}
}

// repair makes sure of an attachment that no call is about: what cannot be restored stops neither the others nor the
// call.
func (h *hostSide) repair(e entry) {
	if err := h.ensure(e); err != nil {
		log.Printf("attachment %s: restore: %v", e.Attachment, err)
	}
}

// stands reports whether an attachment has its routes and rules on the node. It asks the kernel nothing, since an ADD
// looks so at every other pod. A link that was down for a while has lost its neighbours, and its routes too.
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
// with arp_ignore, nobody would answer for them; and no end ever has to ask. Existing are those that were listed.
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

// clear removes from the node what an earlier owner of an address or of a name left: a stale rule would send this pod's
// packets to a table of long ago, and a stale route the node's packets to nobody.
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

// restoreLost brings back what others have lost, where something shows that they have. What goes with an address of the
// node, or with all rules, is lost by all whose source it is, so one of each is looked at. That one pod's alone is
// missing, only its CHECK and GC find out.
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

// stands reports whether packets of an attachment take its routes on the node, by its rules. It lists nothing.
func stands(host *kernel.Namespace, s *store, e entry) (bool, error) {
	a := e.State
	link, err := host.LinkByName(a.Veth.Host)
	if kernel.IsNotFound(err) {
		return true, nil // the pod went with its namespace, and nothing can be restored
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

// takesItsRoutes asks the kernel where packets of a pod go: to another pod by rule 1023 and its host route, to anywhere
// else by rule 1024 and table N, and with the mark by rule 512 and the main table.
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

// nowhere returns an address that nobody has (RFC 5737 and RFC 3849): the way to it is the default route.
func nowhere(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.MustParseAddr("2001:db8::1")
	}
	return netip.MustParseAddr("192.0.2.1")
}

// removeVeth removes a veth with all that hangs on it: routes and neighbours go with their link, rules do not. One that
// somebody else has made under the name stays: it has neither the hardware address nor the rule of this plugin's.
func removeVeth(host *kernel.Namespace, v kernel.Veth) error {
	link, err := host.LinkByName(v.Host)
	if err != nil && !kernel.IsNotFound(err) {
		return fmt.Errorf("link %s: %w", v.Host, err)
	}
	if err == nil && link.Type() == "veth" {
		own := link.Attrs().HardwareAddr.String() == v.HostMAC
		if !own {
			rules, err := host.Rules()
			if err != nil {
				return err
			}
			own = hasDirectRule(rules, v.Host)
		}
		if own {
			if err := host.LinkDel(link); err != nil {
				// The pod's namespace may have taken it along; its rules, by which GC knows it, go only after it.
				if _, still := host.LinkByName(v.Host); !kernel.IsNotFound(still) {
					return fmt.Errorf("link %s: delete: %w", v.Host, err)
				}
			}
		}
	}
	return host.DeleteRulesOf(v.Host, priorityDirect, priorityBack)
}

func hasDirectRule(rules []netlink.Rule, link string) bool {
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool {
		return directRule(link, r.Family == netlink.FAMILY_V6).Matches(r)
	})
}

// ensureShared makes sure of the rules for the mark, and of hostInterface's setting.
func (h *hostSide) ensureShared(a attachment) error {
	for _, ipv6 := range a.families() {
		if err := h.host.EnsureRule(markRule(a.Mark, ipv6), h.rules); err != nil { // one that is there stays
			return err
		}
	}
	s := validMark()
	if err := kernel.EnsureSysctl(a.HostInterface, s); err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
		return fmt.Errorf("link %s: sysctl %s.%s=%s: %w", a.HostInterface, s.Family, s.Key, s.Value, err)
	}
	return nil
}

// removeShared removes the rules for a mark that no other record needs.
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
