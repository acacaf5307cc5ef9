package snapshot

// Kind is a kind of items, and what those who look at states must know of it.
type Kind struct {
	Name string
	// Network says that its items are of a network namespace; else they are of the node.
	Network bool
	// WithLink says that the kernel takes its items away with the link that they are on.
	WithLink bool
	// Many says that a namespace has hundreds of its items from the start, so that one looks at them only where they
	// matter.
	Many bool
	// Traced says that plugins make its items for each attachment, and that they are listed fast enough to look at them
	// around each call.
	Traced bool
	// Quiet says that nobody but runtimes and plugins makes its items on a node where others work at the same time:
	// kubelets and runtimes start processes and mount all the while, and proxies write rules.
	Quiet bool
}

// Kinds returns all kinds but Namespace, which is always taken, in the order in which changes must be reverted: with a
// link go its addresses and routes, and a forwarding sysctl sets others.
func Kinds() []Kind {
	return []Kind{
		{Name: Link, Network: true, WithLink: true, Traced: true, Quiet: true},
		{Name: Nftables, Network: true, Traced: true},
		{Name: Iptables, Network: true, Traced: true},
		{Name: Qdisc, Network: true, WithLink: true},
		{Name: Rule, Network: true, Traced: true, Quiet: true},
		{Name: Route, Network: true, WithLink: true, Traced: true, Quiet: true},
		{Name: Neighbour, Network: true, WithLink: true, Traced: true, Quiet: true},
		{Name: Address, Network: true, WithLink: true, Traced: true, Quiet: true},
		// The smaller tables, empty on most nodes. A nexthop is held by routes.
		{Name: Nexthop, Network: true, WithLink: true},
		{Name: Forwarding, Network: true, WithLink: true},
		{Name: Group, Network: true, WithLink: true},
		{Name: Xfrm, Network: true},
		{Name: IPSet, Network: true},
		{Name: Label, Network: true},
		{Name: Zone, Network: true},
		{Name: Sysctl, Network: true, WithLink: true, Many: true},
		{Name: Mount},
		{Name: Process, Traced: true},
		{Name: File, Traced: true, Quiet: true},
	}
}

// KindsThat returns the names of the kinds that match, in the order of Kinds.
func KindsThat(match func(Kind) bool) []string {
	var names []string
	for _, k := range Kinds() {
		if match(k) {
			names = append(names, k.Name)
		}
	}
	return names
}
