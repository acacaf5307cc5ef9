package main

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// These functions return the parts of this plugin's nftables rules. Each part loads into the first register unless its
// comment names another one.

// Registers for keys of several parts: nf_tables numbers its registers of 4 bytes from 8 on; register 1 overlaps the
// first four of them.
const (
	register1         = 1
	registerAfterIPv4 = 9
	registerAfterIPv6 = 12
	registerAfterName = 12
)

// metaKeyOIFKIND loads the kind of the outgoing link (NFT_META_OIFKIND); the library has no name for it.
const metaKeyOIFKIND expr.MetaKey = 27

func concat(parts ...[]expr.Any) []expr.Any {
	var rule []expr.Any
	for _, part := range parts {
		rule = append(rule, part...)
	}
	return rule
}

// linkName returns a name padded to IFNAMSIZ, as nf_tables compares it.
func linkName(name string) []byte {
	padded := make([]byte, 16)
	copy(padded, name)
	return padded
}

func loadMeta(key expr.MetaKey, register uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}}
}

func equals(data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: register1, Data: data}}
}

func iifname(name string) []expr.Any {
	return concat(loadMeta(expr.MetaKeyIIFNAME, register1), equals(linkName(name)))
}

func oifname(name string) []expr.Any {
	return concat(loadMeta(expr.MetaKeyOIFNAME, register1), equals(linkName(name)))
}

// family returns a match for the packets of one family; rules in an inet table see both.
func family(ipv6 bool) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if ipv6 {
		proto = unix.NFPROTO_IPV6
	}
	return concat(loadMeta(expr.MetaKeyNFPROTO, register1), equals([]byte{proto}))
}

func sourceAddress(ipv6 bool, register uint32) []expr.Any {
	if ipv6 {
		return loadHeader(register, 8, 16)
	}
	return loadHeader(register, 12, 4)
}

func destinationAddress(ipv6 bool, register uint32) []expr.Any {
	if ipv6 {
		return loadHeader(register, 24, 16)
	}
	return loadHeader(register, 16, 4)
}

func loadHeader(register, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{
		DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length,
	}}
}

// prefixOf returns a match for an IPv4 address, loaded before, that is in a prefix.
func prefixOf(p netip.Prefix) []expr.Any {
	return concat([]expr.Any{&expr.Bitwise{
		SourceRegister: register1, DestRegister: register1, Len: 4,
		Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4),
	}}, equals(p.Addr().AsSlice()))
}

// inSet returns a match for a key, loaded before, that is in a set.
func inSet(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetID: set.ID, SetName: set.Name}}
}

func notInSet(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetID: set.ID, SetName: set.Name, Invert: true}}
}

// mapped returns an expression that replaces the key with its value in a map, and ends the rule if the map does not
// contain the key.
func mapped(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{
		SourceRegister: register1, DestRegister: register1, IsDestRegSet: true, SetID: set.ID, SetName: set.Name,
	}}
}

func direction(d byte) []expr.Any {
	return concat([]expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register1}}, equals([]byte{d}))
}

const (
	directionOriginal = 0 // IP_CT_DIR_ORIGINAL
	directionReply    = 1 // IP_CT_DIR_REPLY
)

// localSource returns a match for packets with an address of the node as their source.
func localSource() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register1, ResultADDRTYPE: true, FlagSADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

func otherThanLocalDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// linkOfSource loads the name of the link by which the node reaches a packet's source.
func linkOfSource() []expr.Any {
	return []expr.Any{&expr.Fib{Register: register1, ResultOIFNAME: true, FlagSADDR: true}}
}

func loadConnMark() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: register1}}
}

func storeConnMark() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: register1, SourceRegister: true}}
}

func storeMark() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: register1, SourceRegister: true}}
}

// bits returns an expression that keeps the bits of mask and then flips the bits of flip.
func bits(mask, flip uint32) []expr.Any {
	return []expr.Any{&expr.Bitwise{
		SourceRegister: register1, DestRegister: register1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(flip),
	}}
}

// marked returns a match for connections whose mark under mask is value.
func marked(value, mask uint32) []expr.Any {
	return concat(loadConnMark(), bits(mask, 0), equals(binaryutil.NativeEndian.PutUint32(value)))
}

// setMark returns expressions that set the bits of mask in a packet's mark to value. The other bits belong to others
// and do not change.
func setMark(value, mask uint32) []expr.Any {
	return concat(loadMeta(expr.MetaKeyMARK, register1), bits(^mask, value), storeMark())
}

func setConnMark(value, mask uint32) []expr.Any {
	return concat(loadConnMark(), bits(^mask, value), storeConnMark())
}

// newConnection returns a match for the first packets of a connection.
func newConnection() []expr.Any {
	none := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register1},
		&expr.Bitwise{
			SourceRegister: register1, DestRegister: register1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: none,
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register1, Data: none},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind}}
}

// sourceNAT returns an expression that translates the source to the address in the first register.
func sourceNAT(ipv6 bool) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if ipv6 {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: register1, RegAddrMax: register1},
	}
}
