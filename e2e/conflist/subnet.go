package conflist

import (
	"math/big"
	"math/bits"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// division says how a subnet is divided into blocks for nodes.
type division struct {
	subnet netip.Prefix
	// length is the prefix length of a block.
	length int
	// stride is the number of blocks that the file's own ranges span: each node gets that many.
	stride *big.Int
}

// divideSubnets gives each node its own block of every subnet, since a route must lead to the node. A range has the
// same position in each block.
func (p *planner) divideSubnets(sets [][]span) error {
	divisions := map[netip.Prefix]division{}
	all := slices.Concat(sets...)
	for _, s := range all {
		division, err := p.division(s, all)
		if err != nil {
			return err
		}
		divisions[s.subnet] = division
	}
	for node, d := range p.drafts {
		for _, set := range sets {
			var parts []part
			for _, s := range set {
				part := divisions[s.subnet].part(s, node)
				parts = append(parts, part)
				p.addPodPrefix(node, part.subnet)
			}
			d.share = append(d.share, parts)
		}
		p.note("node/%s: pods in %s, routed via the node", d.node.Name, join(p.plan.Nodes[node].PodPrefixes))
	}
	return nil
}

// division chooses the length of the blocks: the one that Kubernetes gives a node (/24, /64) if possible, larger blocks
// if a node wants more addresses, smaller ones if the subnet is small.
func (p *planner) division(s span, all []span) (division, error) {
	nodes := len(p.drafts)
	shortest := s.subnet.Bits() + bits.Len(uint(nodes-1))
	lengths := []int{24, 30}
	if s.family() == 6 {
		lengths = []int{64, 80, 96, 112, 126}
	}
	at := slices.IndexFunc(lengths, func(length int) bool { return length >= shortest })
	if at < 0 {
		return division{}, p.errorf(s.line, "subnet %s is too small to divide among %d nodes, which need a /%d each; "+
			"take a larger subnet or fewer nodes",
			s.subnet, nodes, lengths[len(lengths)-1])
	}
	d := division{subnet: s.subnet, length: lengths[at]}
	if s.family() == 4 {
		d.length = max(24, shortest)
	}
	for ; d.length >= shortest; d.length-- {
		d.stride = d.spread(all)
		blocks := new(big.Int).Lsh(big.NewInt(1), uint(d.length-s.subnet.Bits()))
		enough := new(big.Int).Mul(d.stride, big.NewInt(int64(nodes))).Cmp(blocks) <= 0
		if enough && (d.length == shortest || p.fits(d)) {
			return d, nil
		}
	}
	return division{}, p.errorf(s.line, "the ranges of subnet %s spread over too much of it to divide among %d "+
		"nodes; write one range per subnet, or use ${NODE_INDEX}",
		s.subnet, nodes)
}

// fits reports whether a block has room for what each node wants and for its gateway.
func (p *planner) fits(d division) bool {
	first, last := usable(netip.PrefixFrom(d.subnet.Addr(), d.length))
	room := count(netipx.IPRangeFrom(first, last)) - 1
	return !slices.ContainsFunc(p.drafts, func(n *draft) bool { return n.node.Addresses > room })
}

// block returns the number of the block that contains an address.
func (d division) block(a netip.Addr) *big.Int {
	return new(big.Int).Rsh(distance(d.subnet.Addr(), a), uint(a.BitLen()-d.length))
}

func (d division) spread(all []span) *big.Int {
	var low, high *big.Int
	for _, s := range all {
		if s.subnet != d.subnet {
			continue
		}
		block := d.block(s.ips.From())
		if low == nil || block.Cmp(low) < 0 {
			low = block
		}
		if high == nil || block.Cmp(high) > 0 {
			high = block
		}
	}
	return new(big.Int).Add(new(big.Int).Sub(high, low), big.NewInt(1))
}

// part moves a range into the node's block; the first node keeps the file's. The last block is followed by the first
// one.
func (d division) part(s span, node int) part {
	home := d.block(s.ips.From())
	index := new(big.Int).Add(home, new(big.Int).Mul(d.stride, big.NewInt(int64(node))))
	index.Mod(index, new(big.Int).Lsh(big.NewInt(1), uint(d.length-d.subnet.Bits())))
	width := uint(d.subnet.Addr().BitLen() - d.length)
	block := netip.PrefixFrom(plus(d.subnet.Addr(), new(big.Int).Lsh(index, width)), d.length)

	offset := distance(plus(d.subnet.Addr(), new(big.Int).Lsh(home, width)), s.ips.From())
	from := plus(block.Addr(), offset)
	_, last := usable(block)
	to := last
	if length := distance(s.ips.From(), s.ips.To()); length.Cmp(distance(from, last)) < 0 {
		to = plus(from, length)
	}
	var gateway addressSet
	gateway.add(block.Addr().Next())
	if last.Less(from) {
		return part{subnet: block}
	}
	return part{block, without(gateway.set(), netipx.IPRangeFrom(from, to))}
}
