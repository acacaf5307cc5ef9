package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// network is the state of a machine's network when the keeper started.
type network struct {
	state  snapshot.State
	links  []netlink.Link
	addrs  []netlink.Addr
	routes []netlink.Route
	rules  []netlink.Rule
}

// kinds returns the kinds of state that belong to a network, in the order in which changes are undone. Mounts,
// processes and files are not among them, since agents have their own.
func kinds() []string {
	return snapshot.KindsThat(func(k snapshot.Kind) bool { return k.Network })
}

func take(ctx context.Context) (snapshot.State, error) {
	return snapshot.Take(ctx, snapshot.Options{Kinds: kinds()})
}

// looks limits how often whole takes a snapshot of a network that keeps changing.
const looks = 10

// whole returns a snapshot during which nothing changed. Kinds are read one after the other: the kernel may give a new
// link its address after the addresses were read and before the routes are.
func whole(ctx context.Context) (snapshot.State, error) {
	before, err := take(ctx)
	for range looks {
		if err != nil {
			break
		}
		var now snapshot.State
		now, err = take(ctx)
		if err == nil && len(snapshot.Diff(before, now)) == 0 {
			break
		}
		before = now
	}
	return before, err
}

// remember reads the network twice: as a snapshot to compare with, and in the form from which removed objects can be
// made again, for which a snapshot does not contain enough.
func remember(ctx context.Context) (n *network, err error) {
	n = &network{}
	if n.state, err = whole(ctx); err != nil {
		return nil, err
	}
	if n.links, err = netlinksafe.LinkList(); err != nil {
		return nil, err
	}
	if n.addrs, err = netlinksafe.AddrList(nil, netlink.FAMILY_ALL); err != nil {
		return nil, err
	}
	if n.routes, err = routes(); err != nil {
		return nil, err
	}
	n.rules, err = netlinksafe.RuleList(netlink.FAMILY_ALL)
	return n, err
}

// routes returns the routes of all tables except the kernel's own table, whose routes follow from the addresses.
func routes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlinksafe.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		all = append(all, slices.DeleteFunc(list, func(r netlink.Route) bool {
			return r.Protocol == unix.RTPROT_KERNEL
		})...)
	}
	return all, nil
}

// restoreTime limits a restoration. The kernel takes longest to end namespaces, whose links then come back or vanish.
const restoreTime = 15 * time.Second

// restore undoes all changes since remember, and returns those that it could not undo. It makes the kernel forget the
// connections and neighbours of the given networks.
func (n *network) restore(ctx context.Context, networks []netip.Prefix) ([]string, error) {
	if err := forget(networks); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(restoreTime)
	quiet, last := 0, ""
	for {
		now, err := take(ctx)
		if err != nil {
			return nil, err
		}
		changes := slices.DeleteFunc(snapshot.Diff(n.state, now), lasts)
		left := texts(changes)
		if len(left) == 0 {
			return nil, nil
		}
		// A difference that several rounds did not change stays.
		if text := strings.Join(left, "\n"); text == last {
			quiet++
		} else {
			quiet, last = 0, text
		}
		if quiet == 10 || time.Now().After(deadline) {
			return left, nil
		}
		err = n.undo(ctx, changes)
		if err != nil && quiet == 9 {
			left = append(left, err.Error())
			return left, nil
		}
		if quiet > 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// lasts reports whether a change comes with a module that the kernel loaded, or is made by the kernel itself.
func lasts(c snapshot.Change) bool {
	return c.Op == snapshot.Added && snapshot.Revertible(c) != nil
}

func texts(changes []snapshot.Change) []string {
	var texts []string
	for _, c := range changes {
		texts = append(texts, c.String())
	}
	return texts
}

// undo undoes changes once. Names come first, since everything else refers to them; the kernel's own consequences of
// other changes come last.
func (n *network) undo(ctx context.Context, changes []snapshot.Change) error {
	errs := []error{n.restoreNames()}
	order := kinds()
	slices.SortStableFunc(changes, func(a, b snapshot.Change) int {
		return slices.Index(order, a.Item.Kind) - slices.Index(order, b.Item.Kind)
	})
	for _, c := range changes {
		if snapshot.Revertible(c) != nil {
			continue
		}
		if err := snapshot.Revert(ctx, c, snapshot.Options{}); err != nil && !errors.Is(err, snapshot.ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, n.restoreLinks(), n.restoreAddresses(), n.restoreRoutes(), n.restoreRules())...)
}

// restoreNames renames interfaces to their previous names.
func (n *network) restoreNames() error {
	var errs []error
	for _, link := range n.links {
		was := link.Attrs()
		if now, err := netlink.LinkByIndex(was.Index); err == nil && now.Attrs().Name != was.Name &&
			now.Type() == link.Type() {
			errs = append(errs, new(agent.Server).RenameLink(agent.RenameLinkArgs{
				Name: now.Attrs().Name, NewName: was.Name,
			}, nil))
		}
	}
	return errors.Join(errs...)
}

// restoreLinks removes interfaces from bridges, and sets them up or down, as they were before.
func (n *network) restoreLinks() error {
	var errs []error
	for _, link := range n.links {
		was := link.Attrs()
		now, err := netlink.LinkByName(was.Name)
		if err != nil {
			continue // a removed link cannot be made again; it is one of the remaining differences
		}
		if was.MasterIndex == 0 && now.Attrs().MasterIndex != 0 {
			errs = append(errs, netlink.LinkSetNoMaster(now))
		}
		switch up := was.Flags&net.FlagUp != 0; {
		case up && now.Attrs().Flags&net.FlagUp == 0:
			errs = append(errs, netlink.LinkSetUp(now))
		case !up && now.Attrs().Flags&net.FlagUp != 0:
			errs = append(errs, netlink.LinkSetDown(now))
		}
	}
	return errors.Join(errs...)
}

// restoreAddresses adds removed addresses.
func (n *network) restoreAddresses() error {
	now, err := netlinksafe.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	var errs []error
	for _, was := range n.addrs {
		if slices.ContainsFunc(now, func(a netlink.Addr) bool { return a.LinkIndex == was.LinkIndex && a.Equal(was) }) {
			continue
		}
		link, err := netlink.LinkByIndex(was.LinkIndex)
		if err != nil || was.IP.IsLinkLocalUnicast() && was.IP.To4() == nil {
			continue // removed, or made by the kernel
		}
		if err := netlink.AddrAdd(link, &was); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("address %s: %w", was.IPNet, err))
		}
	}
	return errors.Join(errs...)
}

// restoreRoutes adds removed routes, and replaces routes in their place.
func (n *network) restoreRoutes() error {
	now, err := routes()
	if err != nil {
		return err
	}
	var errs []error
	for _, was := range n.routes {
		if slices.ContainsFunc(now, was.Equal) {
			continue
		}
		if err := netlink.RouteReplace(&was); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", was.Dst, err))
		}
	}
	return errors.Join(errs...)
}

// restoreRules adds removed rules.
func (n *network) restoreRules() error {
	now, err := netlinksafe.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	var errs []error
	for _, was := range n.rules {
		if slices.ContainsFunc(now, func(r netlink.Rule) bool { return reflect.DeepEqual(r, was) }) {
			continue
		}
		if err := netlink.RuleAdd(&was); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("rule %s: %w", was, err))
		}
	}
	return errors.Join(errs...)
}

// learned returns the neighbours that the kernel learned. If the list changes during the dump, one may be missing; it
// is forgotten another time.
func learned() ([]netlink.Neigh, error) {
	// netlinksafe has no list of neighbours; the callers repeat one that was interrupted.
	list, err := netlink.NeighList(0, netlink.FAMILY_ALL) //nolint:forbidigo // see above
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return list, err
}

// forget removes the connections of networks, and the neighbours in them that the kernel learned.
func forget(networks []netip.Prefix) error {
	if len(networks) == 0 {
		return nil
	}
	neighbours, err := learned()
	if err != nil {
		return err
	}
	for _, neighbour := range neighbours {
		learned := neighbour.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0
		if learned && inNetworks(networks, neighbour.IP) {
			// The kernel may have removed it meanwhile.
			_ = netlink.NeighDel(&neighbour)
		}
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		// An error is ignored: a kernel without connection tracking has no connections to forget.
		_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, within(networks))
	}
	return nil
}

// within selects the connections of which one end is in one of the networks.
type within []netip.Prefix

// MatchConntrackFlow reports whether a connection must be forgotten.
func (w within) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range []net.IP{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		if inNetworks(w, ip) {
			return true
		}
	}
	return false
}

func inNetworks(networks []netip.Prefix, ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	return ok && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

func parseNetworks(texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return networks, nil
}
