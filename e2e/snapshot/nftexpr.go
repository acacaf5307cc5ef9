package snapshot

import (
	"bytes"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// operand is the content of a register: its expression, nft's number of the type of its values, and their bytes.
type operand struct {
	text string
	kind uint64
	len  uint64
	// value contains the bytes that an immediate expression stored.
	value []byte
}

// nftRenderer renders the expressions of a rule, which the kernel evaluates one after the other with registers.
type nftRenderer struct {
	network
	family    uint8
	table     string
	sets      map[string]nftSet
	registers map[uint64]operand
	out       words
}

// register returns the number of a register in units of four bytes: 1 to 4 are the registers of 16 bytes, 8 and higher
// those of 4.
func register(number uint64) uint64 {
	if number < unix.NFT_REG32_00 {
		return (number - 1) * 4
	}
	return number - unix.NFT_REG32_00
}

// load returns the content of a register.
func (r *nftRenderer) load(number uint64) operand {
	if o, ok := r.registers[register(number)]; ok {
		return o
	}
	return operand{text: fmt.Sprintf("reg %d", number)}
}

// store sets a register.
func (r *nftRenderer) store(number uint64, o operand) {
	r.registers[register(number)] = o
}

// expression appends an expression. Attributes that its rendering does not show follow it by number.
func (r *nftRenderer) expression(b []byte) {
	e, err := parseAttrs(b)
	if err != nil {
		r.out.addf(true, "0x%x", b)
		return
	}
	name := e.string(unix.NFTA_EXPR_NAME)
	data := e.nested(unix.NFTA_EXPR_DATA)
	render, ok := nftExpressions[name]
	if !ok {
		r.out.add(name)
	} else {
		render(r, data)
	}
	r.out.add(data.rest()...)
}

// nftExpressions are the expressions with a rendering.
var nftExpressions = map[string]func(*nftRenderer, attrs){
	"meta": (*nftRenderer).meta, "ct": (*nftRenderer).ct, "payload": (*nftRenderer).payload, "fib": (*nftRenderer).fib,
	"cmp": (*nftRenderer).cmp, "range": (*nftRenderer).inRange, "bitwise": (*nftRenderer).bitwise,
	"immediate": (*nftRenderer).immediate,
	"lookup":    (*nftRenderer).lookup, "nat": (*nftRenderer).nat, "masq": (*nftRenderer).masq,
	"redir": (*nftRenderer).redir,
	"match": (*nftRenderer).xtables, "target": (*nftRenderer).xtables, "counter": (*nftRenderer).counter,
	"last":  (*nftRenderer).last,
	"quota": (*nftRenderer).quota, "limit": (*nftRenderer).limit, "log": (*nftRenderer).log,
}

// keyword is a word of meta or ct and the type of its values.
type keyword struct {
	word string
	kind uint64
}

var (
	metaKeys = map[uint64]keyword{
		unix.NFT_META_PROTOCOL: {"meta protocol", 10}, unix.NFT_META_MARK: {"meta mark", 19}, unix.NFT_META_IIF: {"iif", 20}, unix.NFT_META_OIF: {"oif", 20},
		unix.NFT_META_IIFNAME: {"iifname", 41}, unix.NFT_META_OIFNAME: {"oifname", 41},
		unix.NFT_META_NFPROTO: {"meta nfproto", 2}, unix.NFT_META_L4PROTO: {"meta l4proto", 12},
	}
	ctKeys = map[uint64]keyword{
		unix.NFT_CT_STATE: {"ct state", 26}, unix.NFT_CT_DIRECTION: {"ct direction", 0},
		unix.NFT_CT_STATUS: {"ct status", 19}, unix.NFT_CT_MARK: {"ct mark", 19},
		unix.NFT_CT_PROTO_SRC: {"ct proto-src", 13}, unix.NFT_CT_PROTO_DST: {"ct proto-dst", 13},
		unix.NFT_CT_SRC_IP: {"ct ip saddr", 7}, unix.NFT_CT_DST_IP: {"ct ip daddr", 7},
		unix.NFT_CT_SRC_IP6: {"ct ip6 saddr", 8}, unix.NFT_CT_DST_IP6: {"ct ip6 daddr", 8},
	}
)

func (r *nftRenderer) meta(a attrs) {
	r.keyed(a, "meta", metaKeys, a.uint(unix.NFTA_META_KEY), unix.NFTA_META_DREG, unix.NFTA_META_SREG)
}

func (r *nftRenderer) ct(a attrs) {
	r.keyed(a, "ct", ctKeys, a.uint(unix.NFTA_CT_KEY), unix.NFTA_CT_DREG, unix.NFTA_CT_SREG)
}

// keyed loads a key of meta or ct into a register, or sets it from one.
func (r *nftRenderer) keyed(a attrs, what string, keys map[uint64]keyword, key uint64, dreg, sreg uint16) {
	k, ok := keys[key]
	if !ok {
		k.word = fmt.Sprintf("%s key %d", what, key)
	}
	if source := a.uint(sreg); source != 0 {
		r.out.add(k.word, "set", r.typed(k.kind, source))
		return
	}
	if direction := a.take(unix.NFTA_CT_DIRECTION); what == "ct" && direction != nil {
		k.word = fmt.Sprintf("%s direction %d", k.word, direction[0])
	}
	length := uint64(4)
	if kind, ok := datatypes[k.kind]; ok && kind.bytes != 0 {
		length = uint64(kind.bytes)
	}
	r.store(a.uint(dreg), operand{text: k.word, kind: k.kind, len: length})
}

// header is a position in a packet.
type header struct{ base, offset, len uint64 }

// headers are the positions that have a name in nft. Network headers of IPv4 and IPv6 are distinguished by the length
// of their addresses.
var headers = map[header]keyword{
	{unix.NFT_PAYLOAD_LL_HEADER, 0, 6}: {"ether daddr", 9}, {unix.NFT_PAYLOAD_LL_HEADER, 6, 6}: {"ether saddr", 9},
	{unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4}: {"ip saddr", 7}, {unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4}: {
		"ip daddr",
		7,
	}, {unix.NFT_PAYLOAD_NETWORK_HEADER, 9, 1}: {"ip protocol", 12},
	{unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16}: {"ip6 saddr", 8}, {unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16}: {"ip6 daddr", 8},
	{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2}: {"th sport", 13}, {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2}: {"th dport", 13},
}

func (r *nftRenderer) payload(a attrs) {
	h := header{a.uint(unix.NFTA_PAYLOAD_BASE), a.uint(unix.NFTA_PAYLOAD_OFFSET), a.uint(unix.NFTA_PAYLOAD_LEN)}
	k, ok := headers[h]
	if full := (header{h.base, h.offset, 4}); !ok && h.len < 4 && r.family != unix.NFPROTO_IPV6 {
		// nft matches a prefix that ends at a byte boundary like this.
		k, ok = headers[full]
	}
	if !ok {
		// nft's syntax for raw payload, in bits.
		k.word = fmt.Sprintf("@%s,%d,%d", [...]string{"ll", "nh", "th", "ih"}[h.base&3], h.offset*8, h.len*8)
	}
	if source := a.uint(unix.NFTA_PAYLOAD_SREG); source != 0 {
		r.out.add(k.word, "set", r.typed(k.kind, source))
		return
	}
	r.store(a.uint(unix.NFTA_PAYLOAD_DREG), operand{text: k.word, kind: k.kind, len: h.len})
}

func (r *nftRenderer) fib(a attrs) {
	var w words
	w.addFlags(uint32(a.uint(unix.NFTA_FIB_FLAGS)), []flag{
		{unix.NFTA_FIB_F_SADDR, "saddr"},
		{unix.NFTA_FIB_F_DADDR, "daddr"},
		{unix.NFTA_FIB_F_MARK, "mark"},
		{unix.NFTA_FIB_F_IIF, "iif"},
		{unix.NFTA_FIB_F_OIF, "oif"},
		{unix.NFTA_FIB_F_PRESENT, "present"},
	})
	result := a.uint(unix.NFTA_FIB_RESULT)
	k := map[uint64]keyword{
		unix.NFT_FIB_RESULT_OIF: {"oif", 20}, unix.NFT_FIB_RESULT_OIFNAME: {"oifname", 41},
		unix.NFT_FIB_RESULT_ADDRTYPE: {"type", 19},
	}[result]
	r.store(a.uint(unix.NFTA_FIB_DREG), operand{
		text: fmt.Sprintf("fib %s %s", strings.Join(w, " . "), k.word), kind: k.kind, len: 4,
	})
}

// operators are nft's words for NFT_CMP_EQ and so on.
var operators = [...]string{"", "!= ", "< ", "<= ", "> ", ">= "}

func operator(number uint64) string {
	if number < uint64(len(operators)) {
		return operators[number]
	}
	return fmt.Sprintf("op %d ", number)
}

func (r *nftRenderer) cmp(a attrs) {
	o := r.load(a.uint(unix.NFTA_CMP_SREG))
	op := operator(a.uint(unix.NFTA_CMP_OP))
	value := a.nested(unix.NFTA_CMP_DATA).take(unix.NFTA_DATA_VALUE)
	r.out.add(o.text, op+r.value(o.kind, value))
}

func (r *nftRenderer) inRange(a attrs) {
	o := r.load(a.uint(unix.NFTA_RANGE_SREG))
	op := operator(a.uint(unix.NFTA_RANGE_OP))
	from, to := a.nested(unix.NFTA_RANGE_FROM_DATA).take(unix.NFTA_DATA_VALUE),
		a.nested(unix.NFTA_RANGE_TO_DATA).take(unix.NFTA_DATA_VALUE)
	r.out.add(o.text, op+r.value(o.kind, from)+"-"+r.value(o.kind, to))
}

func (r *nftRenderer) bitwise(a attrs) {
	o := r.load(a.uint(unix.NFTA_BITWISE_SREG))
	target, length := a.uint(unix.NFTA_BITWISE_DREG), a.uint(unix.NFTA_BITWISE_LEN)
	mask, xor := a.nested(unix.NFTA_BITWISE_MASK).take(unix.NFTA_DATA_VALUE),
		a.nested(unix.NFTA_BITWISE_XOR).take(unix.NFTA_DATA_VALUE)
	text := o.text
	if mask != nil {
		text += " & " + r.value(o.kind, mask)
		if ones, bits := net.IPMask(mask).Size(); bits != 0 && (o.kind == 7 || o.kind == 8) {
			text = fmt.Sprintf("%s & /%d", o.text, ones)
		}
	}
	if len(bytes.Trim(xor, "\x00")) > 0 {
		text += " ^ " + r.value(o.kind, xor)
	}
	// A shift, or an and, or, xor of two registers.
	if rest := a.rest(); len(rest) > 0 {
		text = fmt.Sprintf("(%s %s)", text, rest)
		clear(a)
	}
	r.store(target, operand{text: text, kind: o.kind, len: length})
}

func (r *nftRenderer) immediate(a attrs) {
	target := a.uint(unix.NFTA_IMMEDIATE_DREG)
	data := a.nested(unix.NFTA_IMMEDIATE_DATA)
	if target == unix.NFT_REG_VERDICT {
		r.out.add(r.data(data, 0))
		return
	}
	value := data.take(unix.NFTA_DATA_VALUE)
	r.store(target, operand{text: fmt.Sprintf("0x%x", value), len: uint64(len(value)), value: value})
}

// lookup renders a match against a set, or the value in a map.
func (r *nftRenderer) lookup(a attrs) {
	name := a.string(unix.NFTA_LOOKUP_SET)
	source := a.uint(unix.NFTA_LOOKUP_SREG)
	_, isMap := a[unix.NFTA_LOOKUP_DREG]
	target := a.uint(unix.NFTA_LOOKUP_DREG)
	inverted := a.uint(unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
	a.take(unix.NFTA_LOOKUP_SET_ID)

	set := r.sets[nftSetKey(r.family, r.table, name)]
	w := words{r.concatenation(source, set.keyLen)}
	w.addf(inverted, "!=")
	w.addf(isMap && target == unix.NFT_REG_VERDICT, "vmap")
	w.addf(isMap && target != unix.NFT_REG_VERDICT, "map")
	if set.anonymous {
		var elements []string
		for _, e := range set.elements {
			elements = append(elements, e.text)
		}
		w.add("{", strings.Join(elements, ", "), "}")
	} else {
		w.add("@" + name)
	}
	if isMap && target != unix.NFT_REG_VERDICT {
		r.store(target, operand{text: "(" + w.String() + ")", kind: set.dataType, len: set.dataLen})
		return
	}
	r.out.add(w...)
}

// concatenation returns the content of a number of bytes in the registers from source on.
func (r *nftRenderer) concatenation(source, length uint64) string {
	keys := []string{r.load(source).text}
	steps := func(o operand) uint64 { return max(1, (o.len+3)/4) }
	at := register(source) + steps(r.load(source))
	for end := register(source) + (length+3)/4; at < end; {
		o, ok := r.registers[at]
		if !ok {
			break
		}
		keys = append(keys, o.text)
		at += steps(o)
	}
	return strings.Join(keys, " . ")
}

// natFlags are NF_NAT_RANGE_*. Those for an address or a port are left out, since these are shown themselves.
var natFlags = []flag{
	{unix.NF_NAT_RANGE_PROTO_RANDOM, "random"},
	{unix.NF_NAT_RANGE_PERSISTENT, "persistent"},
	{unix.NF_NAT_RANGE_PROTO_RANDOM_FULLY, "fully-random"},
	{unix.NF_NAT_RANGE_NETMAP, "prefix"},
}

func (r *nftRenderer) nat(a attrs) {
	r.out.add([...]string{"snat", "dnat"}[a.uint(unix.NFTA_NAT_TYPE)&1])
	kind := uint64(7)
	if a.uint(unix.NFTA_NAT_FAMILY) == unix.NFPROTO_IPV6 {
		kind = 8
	}
	addr := r.between(kind, a.uint(unix.NFTA_NAT_REG_ADDR_MIN), a.uint(unix.NFTA_NAT_REG_ADDR_MAX))
	r.out.addf(addr != "", "to %s", addr)
	port := r.between(13, a.uint(unix.NFTA_NAT_REG_PROTO_MIN), a.uint(unix.NFTA_NAT_REG_PROTO_MAX))
	r.out.addf(port != "", "port %s", port)
	r.out.addFlags(uint32(a.uint(unix.NFTA_NAT_FLAGS)), natFlags)
}

func (r *nftRenderer) masq(a attrs) {
	r.out.add("masquerade")
	port := r.between(13, a.uint(unix.NFTA_MASQ_REG_PROTO_MIN), a.uint(unix.NFTA_MASQ_REG_PROTO_MAX))
	r.out.addf(port != "", "to port %s", port)
	r.out.addFlags(uint32(a.uint(unix.NFTA_MASQ_FLAGS)), natFlags)
}

func (r *nftRenderer) redir(a attrs) {
	r.out.add("redirect")
	port := r.between(13, a.uint(unix.NFTA_REDIR_REG_PROTO_MIN), a.uint(unix.NFTA_REDIR_REG_PROTO_MAX))
	r.out.addf(port != "", "to port %s", port)
	r.out.addFlags(uint32(a.uint(unix.NFTA_REDIR_FLAGS)), natFlags)
}

// between returns the content of one or two registers; empty if there is no first one.
func (r *nftRenderer) between(kind, low, high uint64) string {
	if low == 0 {
		return ""
	}
	text := r.typed(kind, low)
	if high != 0 && high != low {
		text += "-" + r.typed(kind, high)
	}
	return text
}

// typed returns the content of a register. An immediate value has the type of the expression that uses it, and may be
// padded.
func (r *nftRenderer) typed(kind, number uint64) string {
	o := r.load(number)
	if o.value == nil {
		return o.text
	}
	if size := datatypes[kind].bytes; size != 0 && size < len(o.value) {
		return r.value(kind, o.value[:size])
	}
	return r.value(kind, o.value)
}

// xtables renders a match or target of iptables-nft, with its data as the kernel keeps it.
func (r *nftRenderer) xtables(a attrs) {
	name := a.string(unix.NFTA_MATCH_NAME)
	r.out.addf(true, "xt %s", name)
	revision := a.uint(unix.NFTA_MATCH_REV)
	r.out.addf(revision != 0, "rev %d", revision)
	info := bytes.TrimRight(a.take(unix.NFTA_MATCH_INFO), "\x00")
	if name == "comment" {
		r.out.addf(true, "%q", info)
		return
	}
	r.out.addf(len(info) > 0, "0x%x", info)
}

// counter renders a counter without its counts.
func (r *nftRenderer) counter(a attrs) {
	clear(a)
	r.out.add("counter")
}

// last renders a last expression without its time.
func (r *nftRenderer) last(a attrs) {
	clear(a)
	r.out.add("last")
}

func (r *nftRenderer) quota(a attrs) {
	a.take(unix.NFTA_QUOTA_CONSUMED)
	r.out.addf(true, "quota %d bytes", a.uint(unix.NFTA_QUOTA_BYTES))
}

func (r *nftRenderer) limit(a attrs) {
	r.out.addf(true, "limit rate %d per %ds burst %d", a.uint(unix.NFTA_LIMIT_RATE), a.uint(unix.NFTA_LIMIT_UNIT),
		a.uint(unix.NFTA_LIMIT_BURST))
}

func (r *nftRenderer) log(a attrs) {
	r.out.addf(true, "log prefix %q", a.string(unix.NFTA_LOG_PREFIX))
}
