package snapshot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nftSet is a set or map.
type nftSet struct {
	keyLen, dataType, dataLen uint64
	anonymous, interval       bool
	elements                  []nftElement
}

// datatype is a type of values: nft's word, and the number of bytes of a value, 0 if that varies.
type datatype struct {
	word  string
	bytes int
}

// datatypes contains the types that plugins and kube-proxy use, by nft's numbers (enum datatypes of include/datatype.h
// of nftables).
var datatypes = map[uint64]datatype{
	2: {"nf_proto", 1}, 4: {"integer", 0}, 5: {"string", 0}, 6: {"ll_addr", 0}, 7: {"ipv4_addr", 4},
	8: {"ipv6_addr", 16}, 9: {"ether_addr", 6},
	10: {"ether_type", 2}, 12: {"inet_proto", 1}, 13: {"inet_service", 2}, 19: {"mark", 4}, 20: {"iface_index", 4},
	26: {"ct_state", 4}, 41: {"ifname", 16},
}

// verdictType is NFT_DATA_VERDICT.
const verdictType = 0xffffff00

// splitType splits a type into its parts: nft uses six bits for each part of a concatenation, the last one lowest.
func splitType(number uint64) []datatype {
	var parts []datatype
	for ; number != 0; number >>= 6 {
		part, ok := datatypes[number&0x3f]
		if !ok {
			part.word = fmt.Sprintf("type_%d", number&0x3f)
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return parts
}

// typeName returns nft's word for a type.
func typeName(number uint64) string {
	if number == verdictType {
		return "verdict"
	}
	var names []string
	for _, part := range splitType(number) {
		names = append(names, part.word)
	}
	return strings.Join(names, " . ")
}

// value returns bytes of a type as nft shows them.
func (n network) value(number uint64, b []byte) string {
	parts := splitType(number)
	if len(parts) < 2 {
		if len(parts) == 0 {
			return fmt.Sprintf("0x%x", b)
		}
		return n.scalar(parts[0].word, b)
	}
	var shown []string
	for _, part := range parts {
		// Each part begins at a register, that is at a multiple of four bytes.
		padded := (part.bytes + 3) &^ 3
		if part.bytes == 0 || padded > len(b) {
			return fmt.Sprintf("0x%x", b)
		}
		shown = append(shown, n.scalar(part.word, b[:part.bytes]))
		b = b[padded:]
	}
	return strings.Join(shown, " . ")
}

// scalar returns bytes of a type that is not a concatenation.
func (n network) scalar(word string, b []byte) string {
	switch {
	case word == "ipv4_addr" && len(b) == 4, word == "ipv6_addr" && len(b) == 16:
		return net.IP(b).String()
	case word == "ipv4_addr" && len(b) < 4:
		return fmt.Sprintf("%s/%d", net.IP(append(slices.Clone(b), make([]byte, 4-len(b))...)), 8*len(b))
	case word == "ether_addr" && len(b) == 6:
		return net.HardwareAddr(b).String()
	case word == "ifname":
		if name, _, found := bytes.Cut(b, []byte{0}); found || len(b) == unix.IFNAMSIZ {
			return fmt.Sprintf("%q", name)
		}
		return fmt.Sprintf("%q", string(b)+"*")
	case word == "iface_index" && len(b) == 4:
		return fmt.Sprintf("%q", n.name(int(binary.NativeEndian.Uint32(b))))
	case word == "inet_service" && len(b) == 2:
		return fmt.Sprint(binary.BigEndian.Uint16(b))
	case (word == "inet_proto" || word == "nf_proto") && len(b) == 1:
		return fmt.Sprint(b[0])
	case (word == "mark" || word == "ct_state") && len(b) == 4:
		return fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("0x%x", b)
}

// takeNftSets reads the sets and maps, by the key of nftSetKey, and returns the objects of those with a name of their
// own.
func (n network) takeNftSets(conn *netlink.Conn) (map[string]nftSet, []object, error) {
	messages, err := nftDump(conn, unix.NFT_MSG_GETSET, unix.NFPROTO_UNSPEC)
	if err != nil {
		return nil, nil, err
	}
	sets := make(map[string]nftSet, len(messages))
	var objects []object
	for _, m := range messages {
		table, name := m.string(unix.NFTA_SET_TABLE), m.string(unix.NFTA_SET_NAME)
		flags := m.uint(unix.NFTA_SET_FLAGS)
		keyType, dataType := m.uint(unix.NFTA_SET_KEY_TYPE), m.uint(unix.NFTA_SET_DATA_TYPE)
		set := nftSet{
			keyLen: m.uint(unix.NFTA_SET_KEY_LEN), dataType: dataType, dataLen: m.uint(unix.NFTA_SET_DATA_LEN),
			anonymous: flags&unix.NFT_SET_ANONYMOUS != 0, interval: flags&unix.NFT_SET_INTERVAL != 0,
		}
		elements, err := nftDump(conn, unix.NFT_MSG_GETSETELEM, m.family,
			netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(table + "\x00")},
			netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(name + "\x00")})
		if err != nil {
			return nil, nil, fmt.Errorf("elements of %s: %w", name, err)
		}
		for _, list := range elements {
			set.elements = append(set.elements, n.nftElements(list, keyType, dataType)...)
		}
		slices.SortFunc(set.elements, func(a, b nftElement) int { return cmp.Compare(a.text, b.text) })
		sets[nftSetKey(m.family, table, name)] = set
		if set.anonymous {
			// It is shown in the rule that it belongs to, as nft does: its name is a number.
			continue
		}
		owner := &nftables.Set{Table: &nftables.Table{Family: nftables.TableFamily(m.family), Name: table}, Name: name}
		objects = append(objects, object{
			Item: Item{Name: nftName("set", m, table, name), Text: setText(m, keyType, dataType, flags)},
			remove: nftRemoval(func(conn *nftables.Conn) error {
				conn.DelSet(owner)
				return nil
			}),
		})
		objects = append(objects, set.objects(nftName("element", m, table, name), owner)...)
	}
	return sets, objects, nil
}

// objects returns the elements of a named set.
func (s nftSet) objects(name string, owner *nftables.Set) []object {
	objects := make([]object, 0, len(s.elements))
	for _, e := range s.elements {
		seen := object{Item: Item{Name: name, Text: e.text}}
		if !e.IntervalEnd {
			seen.remove = nftRemoval(func(conn *nftables.Conn) error {
				return conn.SetDeleteElements(owner, s.withEnd(e))
			})
		}
		objects = append(objects, seen)
	}
	return objects
}

// withEnd returns an element and, in a set of intervals, the element that ends the interval: the next one, since
// intervals do not overlap.
func (s nftSet) withEnd(e nftElement) []nftables.SetElement {
	both := []nftables.SetElement{e.SetElement}
	if !s.interval || len(e.KeyEnd) > 0 {
		return both
	}
	var next *nftElement
	for _, other := range s.elements {
		if bytes.Compare(other.Key, e.Key) > 0 && (next == nil || bytes.Compare(other.Key, next.Key) < 0) {
			next = &other
		}
	}
	if next != nil && next.IntervalEnd {
		both = append(both, next.SetElement)
	}
	return both
}

// nftSetKey returns the key that identifies a set within a network namespace.
func nftSetKey(family uint8, table, name string) string {
	return fmt.Sprintf("%d %s %s", family, table, name)
}

// setText returns the type, flags and other properties of a set.
func setText(m nftMessage, keyType, dataType, flags uint64) string {
	w := words{"type", typeName(keyType)}
	w.addf(dataType != 0, ": %s", typeName(dataType))
	w.addFlags(uint32(flags), []flag{
		{unix.NFT_SET_CONSTANT, "constant"},
		{unix.NFT_SET_INTERVAL, "interval"},
		{unix.NFT_SET_TIMEOUT, "timeout"},
		{unix.NFT_SET_EVAL, "dynamic"},
	})
	timeout := m.uint(unix.NFTA_SET_TIMEOUT)
	w.addf(timeout != 0, "timeout %s", time.Duration(timeout)*time.Millisecond)
	size := m.nested(unix.NFTA_SET_DESC).uint(unix.NFTA_SET_DESC_SIZE)
	w.addf(size != 0, "size %d", size)
	return w.String()
}

// setElemKeyEnd is NFTA_SET_ELEM_KEY_END, which x/sys does not have.
const setElemKeyEnd = 10

// nftElement is an element of a set: its keys, and its text.
type nftElement struct {
	nftables.SetElement
	text string
}

// nftElements returns the elements in a message. The text of an element that expires says so at its end.
func (n network) nftElements(list nftMessage, keyType, dataType uint64) []nftElement {
	elements, err := netlink.UnmarshalAttributes(list.take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
	if err != nil {
		return nil
	}
	var shown []nftElement
	for _, element := range elements {
		e, err := parseAttrs(element.Data)
		if err != nil {
			continue
		}
		var w words
		var keys nftables.SetElement
		keys.Key = e.nested(unix.NFTA_SET_ELEM_KEY).take(unix.NFTA_DATA_VALUE)
		w.add(n.value(keyType, keys.Key))
		if keys.KeyEnd = e.nested(setElemKeyEnd).take(unix.NFTA_DATA_VALUE); keys.KeyEnd != nil {
			w.add("-", n.value(keyType, keys.KeyEnd))
		}
		if data := e.nested(unix.NFTA_SET_ELEM_DATA); len(data) > 0 {
			w.add(":", n.data(data, dataType))
		}
		keys.IntervalEnd = e.uint(unix.NFTA_SET_ELEM_FLAGS)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		w.addf(keys.IntervalEnd, "end")
		w.addf(e.take(unix.NFTA_SET_ELEM_TIMEOUT) != nil, "timeout")
		shown = append(shown, nftElement{SetElement: keys, text: w.String()})
	}
	return shown
}

// data returns a value or verdict.
func (n network) data(data attrs, number uint64) string {
	if verdict := data.nested(unix.NFTA_DATA_VERDICT); len(verdict) > 0 {
		return verdictText(verdict)
	}
	return n.value(number, data.take(unix.NFTA_DATA_VALUE))
}

// verdicts are the words of nft.
var verdicts = map[int32]string{
	unix.NFT_RETURN: "return", unix.NFT_GOTO: "goto", unix.NFT_JUMP: "jump", unix.NFT_BREAK: "break",
	unix.NFT_CONTINUE: "continue", 0: "drop", 1: "accept", 3: "queue",
}

func verdictText(verdict attrs) string {
	code := int32(verdict.uint(unix.NFTA_VERDICT_CODE))
	w := words{verdicts[code]}
	w.addf(verdicts[code] == "", "verdict %d", code)
	chain := verdict.string(unix.NFTA_VERDICT_CHAIN)
	w.addf(chain != "", "%s", chain)
	return strings.TrimSpace(w.String())
}
