package eni

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Guard makes the node drop what pods with IPv6 addresses must not send, which is all that IPv6 needs here: the
// reverse path filter of the kernel knows IPv4 alone. It may be repeated at any time.
func (n *Node) Guard() error { return ensureTable(guardOf(n.opts)) }

// guardOf returns the table of Guard.
func guardOf(opts Options) *table {
	t := &table{
		Table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv6}, rules: map[string][]*nftables.Rule{},
	}
	if !opts.CheckSources && !opts.NoMetadata {
		return t
	}
	pods, drop := iifname([]byte(opts.VethPrefix)), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	guard := t.chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	if opts.CheckSources {
		t.rule(guard, pods, foreignSource(), drop)
		// Every link has a route to all link-local addresses. A pod needs its own only to tell the node its MAC: it
		// knows its next hop by a permanent neighbour. With others it fills the node's table (net/ipv6/ndisc.c,
		// ndisc_recv_ns).
		for _, other := range [][]expr.Any{otherThan(unix.IPPROTO_ICMPV6), otherICMPv6(neighbourAdvertisement)} {
			t.rule(guard, pods, linkLocalSource(), other, drop)
		}
	}
	if opts.NoMetadata {
		t.rule(guard, pods, destination(netip.MustParsePrefix("fd00:ec2::254/128")), drop)
	}
	return t
}

// neighbourAdvertisement is a type of ICMPv6 (RFC 4861, section 4.4).
const neighbourAdvertisement = 136

// linkLocalSource returns a match for packets from an address of fe80::/10.
func linkLocalSource() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
		equals([]byte{0xfe, 0x80}),
	}
}

// otherThan returns a match for packets of other protocols.
func otherThan(protocol byte) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyL4PROTO), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{protocol}},
	}
}

// otherICMPv6 returns a match for messages of ICMPv6 of other types.
func otherICMPv6(kind byte) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyL4PROTO), equals([]byte{unix.IPPROTO_ICMPV6}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{kind}},
	}
}
