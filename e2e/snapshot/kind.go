package snapshot

// Kind describes a kind of items to code that uses states.
type Kind struct {
	Name string
	// Network means that its items belong to a network namespace; otherwise they belong to the node.
	Network bool
	// WithLink means that the kernel removes its items together with their link.
	WithLink bool
	// Many means that a new namespace already has hundreds of its items, so that they are read only if they matter.
	Many bool
	// Traced means that plugins make its items for each attachment, and that they can be listed fast enough to do so
	// around each call.
	Traced bool
	// Quiet means that on a node where others work at the same time only runtimes and plugins make its items. Kubelets
	// and runtimes constantly start processes and make mounts, and proxies write rules.
	Quiet bool
}

// Kinds returns all kinds except Namespace, which is always taken, in the order in which changes must be reverted: the
// addresses and routes of a link are removed with it, and a forwarding sysctl sets others.
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
		// The smaller tables, which are empty on most nodes. A nexthop cannot be removed while routes use it.
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
