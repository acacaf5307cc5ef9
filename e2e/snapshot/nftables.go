package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The lists of google/nftables drop every unknown expression (byteorder, socket, tproxy, ...) and refuse sets of
// unknown types. A comparison needs complete objects, so the dumps are read here, one for each kind of object. Parts
// without a rendering are shown as raw attributes.

// nftFamilies are nft's names of families.
var nftFamilies = map[uint8]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6",
	unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}

// attrs are the attributes of a netlink message by type. Reading one removes it, so that the remaining ones can be
// shown.
type attrs map[uint16][]byte

// attributesOf splits the attributes of a message of any netlink family.
func attributesOf(b []byte) ([]netlink.Attribute, error) { return netlink.UnmarshalAttributes(b) }

func parseAttrs(b []byte) (attrs, error) {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil, err
	}
	a := make(attrs, len(list))
	for _, attr := range list {
		a[attr.Type&^(netlink.Nested|netlink.NetByteOrder)] = attr.Data
	}
	return a, nil
}

func (a attrs) take(key uint16) []byte {
	value := a[key]
	delete(a, key)
	return value
}

// uint removes and returns an integer of any width; 0 if there is none.
func (a attrs) uint(key uint16) (n uint64) {
	for _, b := range a.take(key) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (a attrs) string(key uint16) string {
	return strings.TrimRight(string(a.take(key)), "\x00")
}

// nested removes and returns attributes within an attribute; none if there are none or they are malformed.
func (a attrs) nested(key uint16) attrs {
	inner, err := parseAttrs(a.take(key))
	if err != nil {
		return nil
	}
	return inner
}

// rest returns the attributes that were not read, without those that are zero.
func (a attrs) rest() words {
	var w words
	for _, key := range slices.Sorted(maps.Keys(a)) {
		zero := !slices.ContainsFunc(a[key], func(b byte) bool { return b != 0 })
		w.addf(!zero, "#%d=0x%x", key, a[key])
	}
	return w
}

// nftMessage is an object in a dump.
type nftMessage struct {
	family uint8
	attrs
}

// nftDump requests all objects of one type. Attributes, if any, restrict it.
func nftDump(conn *netlink.Conn, get int, family uint8, narrow ...netlink.Attribute) ([]nftMessage, error) {
	body, err := netlink.MarshalAttributes(narrow)
	if err != nil {
		return nil, err
	}
	request := netlink.Message{
		Header: netlink.Header{
			Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | get), Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, body...),
	}
	for range attempts {
		replies, err := conn.Execute(request)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(replies, func(m netlink.Message) bool {
			return m.Header.Flags&netlink.DumpInterrupted != 0
		}) {
			continue
		}
		messages := make([]nftMessage, 0, len(replies))
		for _, reply := range replies {
			if len(reply.Data) < 4 {
				continue
			}
			a, err := parseAttrs(reply.Data[4:])
			if err != nil {
				return nil, err
			}
			messages = append(messages, nftMessage{family: reply.Data[0], attrs: a})
		}
		return messages, nil
	}
	return nil, fmt.Errorf("dump interrupted %d times", attempts)
}

// noNftables reports whether err means that the kernel has no nf_tables at all.
func noNftables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

func (n network) takeNftables() ([]object, error) {
	// The socket belongs to the namespace of the thread.
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if noNftables(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tables, err := nftDump(conn, unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC)
	if noNftables(err) || err == nil && len(tables) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tables: %w", err)
	}
	var objects []object
	for _, t := range tables {
		objects = append(objects, nftTable(t))
	}
	sets, named, err := n.takeNftSets(conn)
	if err != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	objects = append(objects, named...)
	for _, d := range []struct {
		what string
		get  int
		see  func(nftMessage) object
	}{
		{"chains", unix.NFT_MSG_GETCHAIN, nftChain},
		{"rules", unix.NFT_MSG_GETRULE, func(m nftMessage) object { return n.nftRule(m, sets) }},
		{"objects", unix.NFT_MSG_GETOBJ, nftObject},
		{"flowtables", unix.NFT_MSG_GETFLOWTABLE, nftFlowtable},
	} {
		messages, err := nftDump(conn, d.get, unix.NFPROTO_UNSPEC)
		if errors.Is(err, unix.EOPNOTSUPP) {
			// The kernel was built without flow tables.
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.what, err)
		}
		for _, m := range messages {
			objects = append(objects, d.see(m))
		}
	}
	return objects, nil
}

// nftName returns what identifies an object: its type, family, table and own name.
func nftName(what string, m nftMessage, names ...string) string {
	w := words{what, nftFamilies[m.family]}
	w.add(names...)
	return w.String()
}

// nftTableOf removes and returns the table of an object; key is the number of the attribute with its name.
func nftTableOf(m nftMessage, key uint16) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamily(m.family), Name: m.string(key)}
}

// nftRemoval returns a function that makes a transaction in the thread's namespace. For deleting, unlike for listing,
// google/nftables need not know expressions.
func nftRemoval(fill func(*nftables.Conn) error) func() error {
	return func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		if err := fill(conn); err != nil {
			return err
		}
		return conn.Flush()
	}
}

// nftHooks are the hooks of the families by number; netdev has its own.
var nftHooks = []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

func nftTable(m nftMessage) object {
	table := nftTableOf(m, unix.NFTA_TABLE_NAME)
	seen := object{Item: Item{Name: nftName("table", m, table.Name)}}
	if flags := m.uint(unix.NFTA_TABLE_FLAGS); flags != 0 {
		seen.Text = fmt.Sprintf("flags %#x", flags)
	}
	seen.remove = nftRemoval(func(conn *nftables.Conn) error {
		conn.DelTable(table)
		return nil
	})
	return seen
}

func nftChain(m nftMessage) object {
	table, name := nftTableOf(m, unix.NFTA_CHAIN_TABLE), m.string(unix.NFTA_CHAIN_NAME)
	return object{
		Item: Item{Name: nftName("chain", m, table.Name, name), Text: chainText(m)},
		remove: nftRemoval(func(conn *nftables.Conn) error {
			conn.DelChain(&nftables.Chain{Table: table, Name: name})
			return nil
		}),
	}
}

// chainText returns the hook, type, priority and policy of a base chain; empty for other chains.
func chainText(m nftMessage) string {
	hook := m.nested(unix.NFTA_CHAIN_HOOK)
	if len(hook) == 0 {
		return ""
	}
	w := words{"type", m.string(unix.NFTA_CHAIN_TYPE)}
	number := hook.uint(unix.NFTA_HOOK_HOOKNUM)
	switch {
	case m.family == unix.NFPROTO_NETDEV:
		w.add("hook", [...]string{"ingress", "egress"}[number&1])
	case number < uint64(len(nftHooks)):
		w.add("hook", nftHooks[number])
	}
	w.addf(true, "priority %d", int32(hook.uint(unix.NFTA_HOOK_PRIORITY)))
	if device := hook.string(unix.NFTA_HOOK_DEV); device != "" {
		w.add("device", device)
	}
	policy := "accept"
	if m.uint(unix.NFTA_CHAIN_POLICY) == 0 {
		policy = "drop"
	}
	w.add("policy", policy)
	w.add(hook.rest()...)
	return w.String()
}

func (n network) nftRule(m nftMessage, sets map[string]nftSet) object {
	table, chain, handle := nftTableOf(m, unix.NFTA_RULE_TABLE), m.string(unix.NFTA_RULE_CHAIN),
		m.uint(unix.NFTA_RULE_HANDLE)
	seen := object{
		Item: Item{Name: nftName("rule", m, table.Name, chain)},
		remove: nftRemoval(func(conn *nftables.Conn) error {
			return conn.DelRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: chain}, Handle: handle})
		}),
	}
	r := nftRenderer{network: n, family: m.family, table: table.Name, sets: sets, registers: map[uint64]operand{}}
	expressions, err := netlink.UnmarshalAttributes(m.take(unix.NFTA_RULE_EXPRESSIONS))
	if err != nil {
		return seen
	}
	for _, e := range expressions {
		r.expression(e.Data)
	}
	if comment, ok := userdata.GetString(m.take(unix.NFTA_RULE_USERDATA), userdata.TypeComment); ok {
		r.out.addf(true, "comment %q", strings.TrimRight(comment, "\x00"))
	}
	seen.Text = r.out.String()
	return seen
}

// nftObjects are the types of named objects.
var nftObjects = map[uint64]string{
	1: "counter", 2: "quota", 3: "ct helper", 4: "limit", 5: "connlimit", 6: "tunnel", 7: "ct timeout", 8: "secmark",
	9: "ct expectation", 10: "synproxy",
}

func nftObject(m nftMessage) object {
	table, name := nftTableOf(m, unix.NFTA_OBJ_TABLE), m.string(unix.NFTA_OBJ_NAME)
	kind := m.uint(unix.NFTA_OBJ_TYPE)
	w := words{nftObjects[kind]}
	data := m.nested(unix.NFTA_OBJ_DATA)
	switch kind {
	case 1:
		// A counter contains only its counts.
		clear(data)
	case 2:
		data.take(unix.NFTA_QUOTA_CONSUMED)
	}
	w.add(data.rest()...)
	return object{
		Item: Item{Name: nftName("object", m, table.Name, name), Text: w.String()},
		remove: nftRemoval(func(conn *nftables.Conn) error {
			conn.DeleteObject(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjType(kind)})
			return nil
		}),
	}
}

// The attributes of a flow table (enum nft_flowtable_attributes), which x/sys does not have.
const (
	flowtableTable = 1
	flowtableName  = 2
	flowtableHook  = 3
	flowtableFlags = 7
)

func nftFlowtable(m nftMessage) object {
	table, name := nftTableOf(m, flowtableTable), m.string(flowtableName)
	hook := m.nested(flowtableHook)
	w := words{"hook ingress"}
	w.addf(true, "priority %d", int32(hook.uint(2)))
	devices, err := netlink.UnmarshalAttributes(hook.take(3))
	if err == nil {
		for _, device := range devices {
			w.add("device", strings.TrimRight(string(device.Data), "\x00"))
		}
	}
	w.addf(m.uint(flowtableFlags) != 0, "offload")
	return object{
		Item: Item{Name: nftName("flowtable", m, table.Name, name), Text: w.String()},
		remove: nftRemoval(func(conn *nftables.Conn) error {
			conn.DelFlowtable(&nftables.Flowtable{Table: table, Name: name})
			return nil
		}),
	}
}
