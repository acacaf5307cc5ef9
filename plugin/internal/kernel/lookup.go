package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// RouteTo returns the route by which the namespace reaches an address, or nil if there is none. If link is not 0, the
// route has to lead over it. The kernel looks the route up by its rules, in the same time however many routes there
// are.
func (n *Namespace) RouteTo(ip netip.Addr, link int) (*netlink.Route, error) {
	routes, err := n.RouteGetWithOptions(ip.AsSlice(), &netlink.RouteGetOptions{OifIndex: link, FIBMatch: true})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) ||
		errors.Is(err, unix.EINVAL) {
		return nil, nil // no route, or one that refuses: unreachable, prohibit, blackhole
	}
	if err != nil {
		return nil, fmt.Errorf("route to %s: %w", ip, err)
	}
	if len(routes) != 1 {
		return nil, nil
	}
	return &routes[0], nil
}

// IsLocal reports whether the namespace accepts packets to an address as its own. The kernel looks that up by its
// rules, like any route; the first rule is the one for such addresses.
func (n *Namespace) IsLocal(ip netip.Addr) (bool, error) {
	route, err := n.RouteTo(ip, 0)
	return route != nil && route.Type == unix.RTN_LOCAL, err
}

// localEvery is how often AwaitLocal looks.
const localEvery = time.Millisecond

// AwaitLocal waits until the namespace accepts packets to its addresses, and returns those to which it does not within
// a time. The kernel makes the local route of an IPv6 address from a work queue, even without duplicate address
// detection (addrconf_dad_start).
func (n *Namespace) AwaitLocal(within time.Duration, addrs ...netip.Addr) (missing []netip.Addr, err error) {
	for deadline := time.Now().Add(within); ; time.Sleep(localEvery) { // until the deadline
		missing, err = n.notLocal(addrs)
		if err != nil || len(missing) == 0 || time.Now().After(deadline) {
			return missing, err
		}
	}
}

func (n *Namespace) notLocal(addrs []netip.Addr) ([]netip.Addr, error) {
	var missing []netip.Addr
	for _, ip := range addrs {
		local, err := n.IsLocal(ip)
		if err != nil {
			return nil, err
		}
		if !local {
			missing = append(missing, ip)
		}
	}
	return missing, nil
}

// RouteFrom returns the route of a packet that comes in by a link, with a destination, a source and a mark. Nil means
// that there is no route.
func (n *Namespace) RouteFrom(link int, source, destination netip.Addr, mark uint32) (*netlink.Route, error) {
	routes, err := n.RouteGetWithOptions(destination.AsSlice(), &netlink.RouteGetOptions{
		IifIndex: link, SrcAddr: source.AsSlice(), Mark: mark, FIBMatch: true,
	})
	if err != nil || len(routes) != 1 {
		return nil, nil // whatever the reason is, such a packet goes nowhere
	}
	return &routes[0], nil
}

// HasRoutes reports whether a table has routes of either family. It reads at most the first part of a list.
func (n *Namespace) HasRoutes(table int) (bool, error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		messages, err := n.firstRoutes(family, table)
		if err != nil {
			return false, err
		}
		for _, m := range messages {
			if m.Header.Type == unix.RTM_NEWROUTE && tableOf(m.Data) == table {
				return true, nil
			}
		}
	}
	return false, nil
}

// DeleteRoutesTo deletes the host routes to an address from the main table, whatever their metrics. If link is not 0,
// it deletes only the routes over that link. It is no error if there are none. It lists nothing: without a metric the
// kernel deletes a route with any metric.
func (n *Namespace) DeleteRoutesTo(ip netip.Addr, link int) error {
	key := &netlink.Route{
		Dst: netipx.AddrIPNet(ip), LinkIndex: link, Table: unix.RT_TABLE_MAIN, Scope: netlink.SCOPE_NOWHERE,
	}
	for {
		err := n.RouteDel(key)
		if errors.Is(err, unix.ESRCH) { // the error of fib_table_delete and ip6_route_del
			return nil
		}
		if err != nil {
			return fmt.Errorf("route to %s: delete: %w", ip, err)
		}
	}
}

// AnyPriority stands for rules of every priority.
const AnyPriority = -1

// DeleteRulesOf deletes the rules of some priorities for packets that come in by a link, of either family and whatever
// table they lead to. It is no error if there are none, and nothing is listed.
func (n *Namespace) DeleteRulesOf(link string, priorities ...int) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		for _, priority := range priorities {
			rule := netlink.NewRule()
			rule.Family, rule.Priority, rule.IifName, rule.Table = family, priority, link, 0
			if err := n.deleteRules(rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteRulesFor deletes the rules of a priority from or to an address, whatever table they lead to.
func (n *Namespace) DeleteRulesFor(r Rule) error {
	r.Table = 0
	rule := r.netlink()
	rule.Type = 0
	return n.deleteRules(rule)
}

// deleteRules deletes rules until none matches.
func (n *Namespace) deleteRules(rule *netlink.Rule) error {
	for {
		if deleted, err := n.deleteOne(rule); err != nil || !deleted {
			return err
		}
	}
}

// deleteOne deletes the first rule that matches, and reports whether there is one. A selector that rule does not set
// matches any value.
func (n *Namespace) deleteOne(rule *netlink.Rule) (bool, error) {
	err := n.RuleDel(rule)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("rule %d: delete: %w", rule.Priority, err)
	}
	return true, nil
}

// Neighbour returns the hardware address of a link's permanent neighbour, or nil if the link has no such neighbour.
func (n *Namespace) Neighbour(link int, ip netip.Addr) (net.HardwareAddr, error) {
	replies, err := n.ask(unix.RTM_GETNEIGH, &netlink.Ndmsg{Family: uint8(familyOf(ip.Is6())), Index: uint32(link)},
		nl.NewRtAttr(unix.NDA_DST, ip.AsSlice()))
	if IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("neighbour %s: %w", ip, err)
	}
	for _, reply := range replies {
		neighbour, err := netlink.NeighDeserialize(reply)
		if err != nil {
			return nil, fmt.Errorf("neighbour %s: %w", ip, err)
		}
		if neighbour.State&unix.NUD_PERMANENT != 0 {
			return neighbour.HardwareAddr, nil
		}
	}
	return nil, nil
}

func familyOf(ipv6 bool) int {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// ask sends a request that the netlink library has no function for, and returns the payloads of the answers.
func (n *Namespace) ask(kind int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	request, err := n.request(kind, 0)
	if err != nil {
		return nil, err
	}
	for _, d := range data {
		request.AddData(d)
	}
	return request.Execute(unix.NETLINK_ROUTE, 0)
}

// request returns a request that goes to the namespace.
func (n *Namespace) request(kind, flags int) (*nl.NetlinkRequest, error) {
	if n.socket == nil {
		socket, err := nl.GetNetlinkSocketAt(n.ns, -1, unix.NETLINK_ROUTE)
		if err != nil {
			return nil, err
		}
		n.socket = &nl.SocketHandle{Socket: socket}
	}
	request := nl.NewNetlinkRequest(kind, flags)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: n.socket}
	return request, nil
}

// TableDefault returns the link of the first IPv4 default route of a table, or 0 if there is none. The kernel lists a
// table in order of its destinations, so the route is in the first part of the list, and the rest is not read.
func (n *Namespace) TableDefault(table int) (link int, err error) {
	messages, err := n.firstRoutes(unix.AF_INET, table)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWROUTE {
			break // an error, such as for a table that does not exist, or the end
		}
		route := nl.DeserializeRtMsg(m.Data)
		if route.Dst_len != 0 || route.Type != unix.RTN_UNICAST || tableOf(m.Data) != table {
			continue
		}
		if out := attribute(m.Data, unix.RTA_OIF); out != 0 {
			return out, nil
		}
	}
	return 0, nil
}

// firstRoutes returns the first part of a list of a table's routes, as much as the kernel answers with at once.
func (n *Namespace) firstRoutes(family uint8, table int) ([]syscall.NetlinkMessage, error) {
	socket, err := nl.GetNetlinkSocketAt(n.ns, -1, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	// Kernels before 4.20 have no filter: they list another table first, and nothing is found.
	_ = unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	request.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
	request.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table))))
	if err := socket.Send(request); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	messages, _, err := socket.Receive()
	return messages, err
}

func tableOf(route []byte) int {
	if table := attribute(route, unix.RTA_TABLE); table != 0 {
		return table
	}
	return int(nl.DeserializeRtMsg(route).Table)
}

// attribute returns a numeric attribute of a listed route, or 0 if the route does not have it.
func attribute(route []byte, kind uint16) int {
	for rest := route[unix.SizeofRtMsg:]; len(rest) >= unix.SizeofRtAttr; {
		length := int(nl.NativeEndian().Uint16(rest))
		if length < unix.SizeofRtAttr || length > len(rest) {
			break
		}
		if nl.NativeEndian().Uint16(rest[2:]) == kind && length == unix.SizeofRtAttr+4 {
			return int(nl.NativeEndian().Uint32(rest[unix.SizeofRtAttr:]))
		}
		rest = rest[min(len(rest), (length+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return 0
}
