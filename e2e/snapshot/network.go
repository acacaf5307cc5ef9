package snapshot

import (
	"context"
	"fmt"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// families are the families of addresses, routes and rules.
var families = [...]int{netlink.FAMILY_V4, netlink.FAMILY_V6}

// network is one network namespace: the one of the calling thread at the time of openNetwork.
type network struct {
	handle netlinksafe.Handle
	links  []netlink.Link
	names  map[int]string
}

// takeNetwork reads the network namespace of the calling thread, which must be locked to its goroutine.
func takeNetwork(ctx context.Context, opts Options) ([]Item, error) {
	n, err := openNetwork()
	if err != nil {
		return nil, err
	}
	defer n.handle.Close()
	objects, err := n.read(ctx, opts)
	return itemsOf(objects), err
}

// openNetwork lists the links of the calling thread's namespace. The caller closes its handle.
func openNetwork() (network, error) {
	handle, err := netlinksafe.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return network{}, fmt.Errorf("open a netlink socket: %w", err)
	}
	links, err := handle.LinkList()
	if err != nil {
		handle.Close()
		return network{}, fmt.Errorf("list links: %w", err)
	}
	n := network{handle: handle, links: links, names: make(map[int]string, len(links))}
	for _, link := range links {
		n.names[link.Attrs().Index] = link.Attrs().Name
	}
	return n, nil
}

// read reads the kinds that opts wants.
func (n network) read(ctx context.Context, opts Options) ([]object, error) {
	return readAll(ctx, opts, n.readers())
}

// readers returns a reader for each kind of a network.
func (n network) readers() []reader {
	return []reader{
		{Link, n.takeLinks},
		{Address, n.takeAddresses},
		{Route, n.takeRoutes},
		{Rule, n.takeRules},
		{Neighbour, n.takeNeighbours},
		{Qdisc, n.takeQdiscs},
		{Nftables, n.takeNftables},
		{Iptables, takeIptables},
		{Sysctl, takeSysctls},
		{Forwarding, n.takeForwarding},
		{Group, n.takeGroups},
		{Nexthop, n.takeNexthops},
		{Xfrm, n.takeXfrm},
		{IPSet, n.takeIPSets},
		{Label, n.takeLabels},
		{Zone, n.takeZones},
	}
}

// name returns the name of the link with an index. A link that was added after the list of links was read has no name;
// the next snapshot has it.
func (n network) name(index int) string {
	if name, ok := n.names[index]; ok {
		return name
	}
	return "(unknown)"
}

// words is a line that is being built.
type words []string

// add appends words.
func (w *words) add(s ...string) {
	*w = append(*w, s...)
}

// addf appends a formatted word if ok is true.
func (w *words) addf(ok bool, format string, args ...any) {
	if ok {
		*w = append(*w, fmt.Sprintf(format, args...))
	}
}

func (w words) String() string {
	return strings.Join(w, " ")
}

// flag is a bit and its name.
type flag struct {
	bit  uint32
	word string
}

// addFlags appends the names of the bits that are set.
func (w *words) addFlags(bits uint32, flags []flag) {
	for _, f := range flags {
		w.addf(bits&f.bit != 0, "%s", f.word)
	}
}
