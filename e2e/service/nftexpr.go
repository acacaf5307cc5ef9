package service

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Offsets of the addresses in the headers of RFC 791 and RFC 8200.
const (
	ipv4SourceOffset      = 12
	ipv4DestinationOffset = 16
	ipv6SourceOffset      = 8
	ipv6DestinationOffset = 24
)

// register returns the 32-bit register that is a number of bytes after the beginning of register 1. A concatenated
// value occupies consecutive registers.
func register(bytes uint32) uint32 { return unix.NFT_REG32_00 + bytes/4 }

// concat joins the parts of a key or value, each filled up to whole registers.
func concat(parts ...[]byte) []byte {
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
		all = append(all, make([]byte, -len(part)&3)...)
	}
	return all
}

func portNumber(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

func protocolNumber(protocol string) []byte {
	if protocol == UDP {
		return []byte{unix.IPPROTO_UDP}
	}
	return []byte{unix.IPPROTO_TCP}
}

func native(value uint32) []byte { return binary.NativeEndian.AppendUint32(nil, value) }

func element(key []byte, verdict *expr.Verdict) nftables.SetElement {
	return nftables.SetElement{Key: key, VerdictData: verdict}
}

func (t *table) addrType() nftables.SetDatatype {
	if t.ipv6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// keyType joins types. The error there is, more types than 32 bits can name, would be the same on every run.
func (t *table) keyType(types ...nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	joined, err := nftables.ConcatSetType(types...)
	t.note(err)
	return joined
}

func (t *table) note(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *table) chain(name string) { t.conn.AddChain(t.regular(name)) }

// regular refers to a chain that is not at a hook.
func (t *table) regular(name string) *nftables.Chain {
	return &nftables.Chain{Name: name, Table: t.table}
}

func (t *table) baseChain(
	name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority,
) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return t.conn.AddChain(&nftables.Chain{
		Name: name, Table: t.table, Type: kind, Hooknum: hook, Priority: priority, Policy: &policy,
	})
}

func (t *table) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: slices.Concat(parts...)})
}

// set makes a set. Duplicates are removed, since services may share a cluster IP and an endpoint.
func (t *table) set(name string, keys [][]byte, types ...nftables.SetDatatype) {
	slices.SortFunc(keys, slices.Compare[[]byte])
	keys = slices.CompactFunc(keys, slices.Equal[[]byte])
	var elements []nftables.SetElement
	for _, key := range keys {
		elements = append(elements, nftables.SetElement{Key: key})
	}
	t.addSet(&nftables.Set{
		Table: t.table, Name: name, KeyType: t.keyType(types...), Concatenation: len(types) > 1,
	}, elements)
}

func (t *table) verdictMap(name string, elements []nftables.SetElement, types ...nftables.SetDatatype) {
	t.addSet(&nftables.Set{
		Table: t.table, Name: name, IsMap: true, DataType: nftables.TypeVerdict, KeyType: t.keyType(types...),
		Concatenation: true,
	}, elements)
}

func (t *table) addSet(set *nftables.Set, elements []nftables.SetElement) {
	t.note(t.conn.AddSet(set, elements))
}

// destination loads the destination address.
func (t *table) destination(into uint32) []expr.Any {
	offset, bytes := uint32(ipv4DestinationOffset), uint32(4)
	if t.ipv6 {
		offset, bytes = ipv6DestinationOffset, 16
	}
	return []expr.Any{
		&expr.Payload{DestRegister: into, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: bytes},
	}
}

// service loads the key of serviceIPsMap: destination address, protocol, destination port.
func (t *table) service() []expr.Any {
	n := t.addrType().Bytes
	return slices.Concat(t.destination(1), transport(register(n), register(n+4)))
}

// connection loads the key of hairpinSet: source address, destination address, protocol, destination port.
func (t *table) connection() []expr.Any {
	n := t.addrType().Bytes
	return slices.Concat(t.source(1), t.destination(register(n)), transport(register(2*n), register(2*n+4)))
}

// source loads the source address into a register.
func (t *table) source(into uint32) []expr.Any {
	offset, bytes := uint32(ipv4SourceOffset), uint32(4)
	if t.ipv6 {
		offset, bytes = ipv6SourceOffset, 16
	}
	return []expr.Any{
		&expr.Payload{DestRegister: into, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: bytes},
	}
}

// nodePort loads the key of serviceNodePortsMap: protocol, destination port.
func nodePort() []expr.Any { return transport(1, register(4)) }

func transport(protocol, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protocol},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func isProtocol(protocol string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: protocolNumber(protocol)},
	}
}

func inSet(name string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: name}}
}

// verdictOf applies the verdict in the map, and does nothing if the map does not contain the key.
func verdictOf(name string) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: 1, SetName: name, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT},
	}
}

func jump(chain string) []expr.Any { return jumpTo(expr.VerdictJump, chain) }

func jumpTo(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

// reject answers with port unreachable, which is code 3 of ICMP and 4 of ICMPv6. For a connecting socket both mean that
// the connection was refused.
func (t *table) reject() []expr.Any {
	code := uint8(3)
	if t.ipv6 {
		code = 4
	}
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{FullyRandom: true}} }

// addressIsLocal matches packets from (source) or to an address of the node.
func addressIsLocal(source bool) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: source, FlagDADDR: !source, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(unix.RTN_LOCAL)},
	}
}

func ctState(bit uint32) []expr.Any {
	return append([]expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}, hasBit(bit)...)
}

// wasTranslated matches connections whose destination was changed: IPS_DST_NAT of
// linux/netfilter/nf_conntrack_common.h.
func wasTranslated() []expr.Any {
	return append([]expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}}, hasBit(1<<5)...)
}

func isMarked() []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}}, hasBit(masqueradeMark)...)
}

func hasBit(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(bit), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)},
	}
}

// setMark sets the mark. The other bits belong to others and do not change.
func setMark() []expr.Any { return changeMark(^uint32(masqueradeMark)) }

func toggleMark() []expr.Any { return changeMark(^uint32(0)) }

func changeMark(keep uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(keep), Xor: native(masqueradeMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}
