package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The parts that this plugin's nftables rules are made of. Each loads into the first register unless it says otherwise.

// Registers for keys made of several parts: nf_tables counts 16 registers of 4 bytes from 8 on, and 1 is the first
// four.
const (
	register1         = 1
	registerAfterIPv4 = 9
	registerAfterIPv6 = 12
	registerAfterName = 12
)

// metaKeyOIFKIND is the kind of the outgoing link (NFT_META_OIFKIND), which the library has no name for.
const metaKeyOIFKIND expr.MetaKey = 27

func concat(parts ...[]expr.Any) []expr.Any {
	var rule []expr.Any
	for _, part := range parts {
		rule = append(rule, part...)
	}
	return rule
}

// linkName returns a name as nf_tables compares it: padded to IFNAMSIZ.
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

// family lets rules of an inet table pass for packets of one family.
func family(ipv6 bool) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if ipv6 {
		proto = unix.NFPROTO_IPV6
	}
	return concat(loadMeta(expr.MetaKeyNFPROTO, register1), equals([]byte{proto}))
}

func loadDestination(ipv6 bool) []expr.Any {
	if ipv6 {
		return []expr.Any{
			&expr.Payload{DestRegister: register1, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		}
	}
	return []expr.Any{&expr.Payload{DestRegister: register1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}}
}

// inSet lets a rule pass if the key, loaded before, is in a set.
func inSet(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetID: set.ID, SetName: set.Name}}
}

func notInSet(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetID: set.ID, SetName: set.Name, Invert: true}}
}

// mapped replaces the key by what a map has for it, and ends the rule where it has nothing.
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

func loadConnMark() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: register1}}
}

func storeConnMark() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: register1, SourceRegister: true}}
}

func storeMark() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: register1, SourceRegister: true}}
}

// bits keeps the bits of mask and then flips those of flip.
func bits(mask, flip uint32) []expr.Any {
	return []expr.Any{&expr.Bitwise{
		SourceRegister: register1, DestRegister: register1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(flip),
	}}
}

// marked lets a rule pass for connections whose mark has a value under a mask.
func marked(value, mask uint32) []expr.Any {
	return concat(loadConnMark(), bits(mask, 0), equals(binaryutil.NativeEndian.PutUint32(value)))
}

// setMark gives packets a mark under a mask and leaves the other bits alone, which are others'.
func setMark(value, mask uint32) []expr.Any {
	return concat(loadMeta(expr.MetaKeyMARK, register1), bits(^mask, value), storeMark())
}

func setConnMark(value, mask uint32) []expr.Any {
	return concat(loadConnMark(), bits(^mask, value), storeConnMark())
}

// newConnection lets a rule pass for the first packets of a connection.
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

// sourceNAT translates the source to the address in the first register.
func sourceNAT(ipv6 bool) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if ipv6 {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: register1, RegAddrMax: register1},
	}
}
