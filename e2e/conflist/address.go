package conflist

import (
	"math"
	"math/big"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// usable returns the first and the last address of a subnet that host-local assigns: it leaves out the base address
// and, for IPv4, the broadcast address.
func usable(subnet netip.Prefix) (first, last netip.Addr) {
	first = subnet.Addr().Next()
	last = netipx.PrefixLastIP(subnet)
	if subnet.Addr().Is4() {
		last = last.Prev()
	}
	return first, last
}

// count returns the number of addresses of a range, at most MaxInt.
func count(r netipx.IPRange) int {
	n := new(big.Int).Sub(number(r.To()), number(r.From()))
	if n.Add(n, big.NewInt(1)); n.IsInt64() && n.Int64() < math.MaxInt {
		return int(n.Int64())
	}
	return math.MaxInt
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

// plus returns the address that follows a by n. The caller knows that it exists.
func plus(a netip.Addr, n *big.Int) netip.Addr {
	sum := new(big.Int).Add(number(a), n)
	moved, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, a.BitLen()/8)))
	return moved
}

// distance returns the difference of two addresses, positive if b follows a.
func distance(a, b netip.Addr) *big.Int { return new(big.Int).Sub(number(b), number(a)) }

// addressSet is a set under construction; its zero value is empty.
type addressSet struct{ builder netipx.IPSetBuilder }

func (s *addressSet) add(addrs ...netip.Addr) {
	for _, a := range addrs {
		s.builder.Add(a)
	}
}

func (s *addressSet) addRange(r netipx.IPRange) { s.builder.AddRange(r) }

func (s *addressSet) addPrefix(p netip.Prefix) { s.builder.AddPrefix(p) }

// set returns the present set. The builder refuses only invalid ranges, and none is made here.
func (s *addressSet) set() *netipx.IPSet {
	set, err := s.builder.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return set
}

// without returns the ranges without the taken addresses, in ascending order.
func without(taken *netipx.IPSet, ranges ...netipx.IPRange) []netipx.IPRange {
	var rest addressSet
	for _, r := range ranges {
		rest.addRange(r)
	}
	rest.builder.RemoveSet(taken)
	return rest.set().Ranges()
}

func total(ranges []netipx.IPRange) int {
	sum := 0
	for _, r := range ranges {
		if n := count(r); sum > math.MaxInt-n {
			return math.MaxInt
		} else {
			sum += n
		}
	}
	return sum
}

// take splits off the first n addresses of the ranges.
func take(ranges []netipx.IPRange, n int) (head, tail []netipx.IPRange) {
	tail = slices.Clone(ranges)
	for n > 0 && len(tail) > 0 {
		r := tail[0]
		size := count(r)
		if size <= n {
			head, tail, n = append(head, r), tail[1:], n-size
			continue
		}
		cut := plus(r.From(), big.NewInt(int64(n)))
		head = append(head, netipx.IPRangeFrom(r.From(), cut.Prev()))
		tail[0] = netipx.IPRangeFrom(cut, r.To())
		n = 0
	}
	return head, tail
}
