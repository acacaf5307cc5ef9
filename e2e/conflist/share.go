package conflist

import (
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
)

// openShare limits a node's share of an IPv6 range without an end, so that reports and loops stay readable.
const openShare = 1 << 16

// share contains the parts of the ranges that one node gets, in the order of ipam.sets.
type share [][]part

// part is a node's part of one range.
type part struct {
	subnet netip.Prefix
	// ips are in ascending order and do not include a gateway.
	ips []netipx.IPRange
}

func (s share) ranges() []netipx.IPRange {
	var ranges []netipx.IPRange
	for _, set := range s {
		for _, part := range set {
			ranges = append(ranges, part.ips...)
		}
	}
	return ranges
}

// shares gives each node its own addresses. An administrator must do the same by hand, since host-local knows only one
// node.
func (p *planner) shares() error {
	first := p.drafts[0].ipam
	var err error
	switch divide := p.alike() && len(p.drafts) > 1 && len(first.sets) > 0; {
	case divide && p.plan.Routed:
		err = p.divideSubnets(first.sets)
	case divide:
		p.divideRanges(first.sets)
	default:
		p.ownRanges()
	}
	if err != nil {
		return err
	}
	for i, d := range p.drafts {
		if err := p.limit(d, &p.plan.Nodes[i]); err != nil {
			return err
		}
	}
	return p.disjoint()
}

// divideRanges cuts each range into one slice per node. The remainder goes to the last nodes, one address each; in the
// next range of the set it goes to the nodes before them.
func (p *planner) divideRanges(sets [][]span) {
	nodes := len(p.drafts)
	taken := p.taken()
	for _, set := range sets {
		parts := make([][]part, nodes)
		extra := nodes - 1
		for _, s := range set {
			rest := without(taken, s.ips)
			size := total(rest) / nodes
			left := total(rest) % nodes
			if s.open && s.family() == 6 && size > openShare {
				rest, size, left = aligned(rest, nodes), openShare, 0
			}
			sizes := make([]int, nodes)
			for i := range sizes {
				sizes[i] = size
			}
			for ; left > 0; left-- {
				sizes[extra]++
				extra = (extra + nodes - 1) % nodes
			}
			for i := range parts {
				var mine []netipx.IPRange
				mine, rest = take(rest, sizes[i])
				parts[i] = append(parts[i], part{s.subnet, mine})
			}
		}
		for i, d := range p.drafts {
			d.share = append(d.share, parts[i])
		}
	}
}

// aligned moves the start of the ranges to a multiple of openShare, if enough addresses are left for the nodes, so that
// a slice is easy to read: ::1:0-::1:ffff.
func aligned(ranges []netipx.IPRange, nodes int) []netipx.IPRange {
	last := ranges[len(ranges)-1]
	step := big.NewInt(openShare)
	up := new(big.Int).Add(number(last.From()), new(big.Int).Sub(step, big.NewInt(1)))
	up.Sub(up, new(big.Int).Mod(up, step))
	from := plus(netip.IPv6Unspecified(), up)
	if rest := netipx.IPRangeFrom(from, last.To()); last.Contains(from) && count(rest)/openShare >= nodes {
		return []netipx.IPRange{rest}
	}
	return ranges
}

// ownRanges leaves each node the ranges of its file, for a single node or a file that distinguishes nodes by
// placeholders.
func (p *planner) ownRanges() {
	taken := p.taken()
	for i, d := range p.drafts {
		for _, set := range d.ipam.sets {
			var parts []part
			for _, s := range set {
				var gateway addressSet
				gateway.builder.AddSet(taken)
				gateway.add(s.gateway)
				parts = append(parts, part{s.subnet, without(gateway.set(), s.ips)})
				p.addPodPrefix(i, s.subnet)
			}
			d.share = append(d.share, parts)
		}
	}
	p.separate()
}

// taken returns every address of the lab itself on the pods' networks, and the base and broadcast addresses of IPv4
// networks, which host-local assigns if a range contains them.
func (p *planner) taken() *netipx.IPSet {
	var taken addressSet
	for _, s := range p.spans() {
		if s.subnet.Addr().Is4() && s.subnet.Bits() < 31 {
			taken.add(s.subnet.Addr(), netipx.PrefixLastIP(s.subnet))
		}
	}
	own := slices.Concat(p.plan.Router, p.plan.LANHost)
	for _, node := range p.plan.Nodes {
		own = append(own, node.Addresses...)
	}
	for _, prefix := range own {
		taken.add(prefix.Addr())
	}
	return taken.set()
}

func (p *planner) addPodPrefix(node int, prefix netip.Prefix) {
	if have := &p.plan.Nodes[node].PodPrefixes; p.plan.Routed && !slices.Contains(*have, prefix) {
		*have = append(*have, prefix)
	}
}

// limit reduces a node's share to the number of addresses that it wants, and records the number that it has.
func (p *planner) limit(d *draft, node *NodePlan) error {
	if len(d.ipam.fixed) > 0 {
		node.PoolSize = 1
		p.note("node/%s: static gives every pod the same addresses: one pod at a time", node.Name)
		return nil
	}
	for i, set := range d.share {
		want := d.node.Addresses
		if want == 0 {
			want = math.MaxInt
		}
		size := 0
		for j := range set {
			set[j].ips, _ = take(set[j].ips, want-size)
			size += min(total(set[j].ips), math.MaxInt-size)
		}
		if size == 0 {
			s := d.ipam.sets[i][0]
			return p.errorf(s.line, "range %s has no address left for node/%s (%d nodes); take a larger range or "+
				"fewer nodes", s.ips, node.Name, len(p.drafts))
		}
		if node.PoolSize == 0 || size < node.PoolSize {
			node.PoolSize = size
		}
	}
	if p.changed(d) && !p.plan.Routed {
		p.note("node/%s: its share of the addresses is %s", node.Name, join(d.share.ranges()))
	}
	if node.PoolSize > 0 && node.PoolSize < d.node.Addresses {
		p.note("node/%s: want addresses for %d pods, got %d", node.Name, d.node.Addresses, node.PoolSize)
	}
	return nil
}

// changed reports whether the node's ranges differ from those of the file.
func (p *planner) changed(d *draft) bool {
	for i, set := range d.share {
		for j, part := range set {
			if !part.whole(d.ipam.sets[i][j]) {
				return true
			}
		}
	}
	return false
}

// whole reports whether a part contains all addresses of a range that host-local assigns.
func (part part) whole(s span) bool {
	var gateway addressSet
	gateway.add(s.gateway)
	return part.subnet == s.subnet && slices.Equal(part.ips, without(gateway.set(), s.ips))
}

// disjoint returns an error if placeholders give two nodes the same address.
func (p *planner) disjoint() error {
	for i, a := range p.drafts {
		for _, b := range p.drafts[i+1:] {
			for _, r := range a.share.ranges() {
				for _, other := range b.share.ranges() {
					if r.Overlaps(other) {
						return fmt.Errorf("%s: node/%s has %s and node/%s has %s; give each node addresses of its own",
							p.file.Path, a.node.Name, r, b.node.Name, other)
					}
				}
			}
		}
	}
	return nil
}

// separate makes routes for the ranges only, if placeholders give nodes different ranges of one subnet.
func (p *planner) separate() {
	nodes := p.plan.Nodes
	shared := false
	for i, node := range nodes {
		for _, other := range nodes[i+1:] {
			shared = shared || slices.ContainsFunc(node.PodPrefixes, func(prefix netip.Prefix) bool {
				return slices.ContainsFunc(other.PodPrefixes, prefix.Overlaps)
			})
		}
	}
	for i := range nodes {
		if !shared {
			return
		}
		nodes[i].PodPrefixes = nil
		for _, r := range p.drafts[i].share.ranges() {
			nodes[i].PodPrefixes = append(nodes[i].PodPrefixes, r.Prefixes()...)
		}
	}
}

func join[T fmt.Stringer](list []T) string {
	words := make([]string, 0, len(list))
	for _, item := range list {
		word := item.String()
		if first, last, ok := strings.Cut(word, "-"); ok && first == last {
			word = first // a range of one address
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}
