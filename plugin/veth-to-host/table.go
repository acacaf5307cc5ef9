package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// table is the wanted state of an nftables table of this plugin. Tables of others are never written to: for example,
// iptables refuses to list a table of its own that has native expressions.
type table struct {
	*nftables.Table
	sets     []*nftables.Set
	elements map[string]map[string]nftables.SetElement // by set and key
	chains   []*nftables.Chain
	rules    map[string][]*nftables.Rule // by chain
}

func newTable(name string) *table {
	return &table{
		Table:    &nftables.Table{Name: name, Family: nftables.TableFamilyINet},
		elements: map[string]map[string]nftables.SetElement{},
		rules:    map[string][]*nftables.Rule{},
	}
}

func (t *table) set(s *nftables.Set) *nftables.Set {
	s.Table = t.Table
	t.sets = append(t.sets, s)
	t.elements[s.Name] = map[string]nftables.SetElement{}
	return s
}

func elementKey(e nftables.SetElement) string { return string(e.Key) + "-" + string(e.KeyEnd) }

func (t *table) element(s *nftables.Set, e nftables.SetElement) {
	t.elements[s.Name][elementKey(e)] = e
}

func (t *table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook,
	priority nftables.ChainPriority,
) *nftables.Chain {
	c := &nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: hook, Priority: &priority}
	t.chains = append(t.chains, c)
	return c
}

// rule appends a rule whose comment is a hash of its expressions. Rules are recognised by this comment.
func (t *table) rule(c *nftables.Chain, parts ...[]expr.Any) {
	exprs := concat(parts...)
	sum := sha256.New()
	for _, e := range exprs {
		raw, _ := expr.Marshal(byte(t.Family), e) // cannot fail: all sizes are fixed
		sum.Write(raw)
	}
	t.rules[c.Name] = append(t.rules[c.Name], &nftables.Rule{
		Table: t.Table, Chain: c, Exprs: exprs, UserData: ruleTag(hex.EncodeToString(sum.Sum(nil)[:4])),
	})
}

func ruleTag(sum string) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, pluginName+" "+sum)
}

// exists reports whether the kernel has a table of that name.
func (t *table) exists(conn *nftables.Conn) (bool, error) {
	_, err := conn.ListTableOfFamily(t.Name, t.Family)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("nftables: %w", err)
	}
	return err == nil, nil
}

// remove removes the table if it exists.
func (t *table) remove(conn *nftables.Conn) error {
	conn.DelTable(t.Table)
	if err := t.flush(conn); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// make makes the table in one transaction, and replaces an existing one. It reads nothing first. It deletes nothing
// that does not exist, not even in a transaction that makes it: closing the socket would wait until RCU readers are
// done (see lateSockets).
func (t *table) make(conn *nftables.Conn) error {
	if err := t.create(conn, conn.CreateTable); !errors.Is(err, unix.EEXIST) {
		return err
	}
	conn.DelTable(t.Table)
	return t.create(conn, conn.AddTable)
}

// flush commits the transaction. If it fails, the kernel reports an error for each message: if the table cannot be
// made, the messages for its contents fail too, since there is no table.
func (t *table) flush(conn *nftables.Conn) error {
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: table %s: %w", t.Name, err)
	}
	return nil
}

// ensure makes the kernel's table equal to this one, in one transaction, so that no packet meets half of it. If sets,
// chains and rules are equal, only elements change.
func (t *table) ensure(conn *nftables.Conn) error {
	exists, err := t.exists(conn)
	if err != nil {
		return err
	}
	if exists {
		why, err := t.difference(conn)
		if err != nil {
			return err
		}
		if why == "" {
			return t.ensureElements(conn)
		}
		conn.DelTable(t.Table)
	}
	return t.create(conn, conn.AddTable)
}

func (t *table) create(conn *nftables.Conn, add func(*nftables.Table) *nftables.Table) error {
	add(t.Table)
	for _, s := range t.sets {
		if err := conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", s.Name, err)
		}
		if err := change(conn.SetAddElements, s, values(t.elements[s.Name])); err != nil {
			return err
		}
	}
	for _, c := range t.chains {
		conn.AddChain(c)
		for _, r := range t.rules[c.Name] {
			conn.AddRule(r)
		}
	}
	return t.flush(conn)
}

func (t *table) ensureElements(conn *nftables.Conn) error {
	for _, s := range t.sets {
		missing, extra, err := t.compareElements(conn, s)
		if err != nil {
			return err
		}
		if err := change(conn.SetDeleteElements, s, extra); err != nil {
			return err
		}
		if err := change(conn.SetAddElements, s, missing); err != nil {
			return err
		}
	}
	return t.flush(conn)
}

// compareElements returns the elements that the kernel's set lacks, and those that it has in addition or with other
// values.
func (t *table) compareElements(conn *nftables.Conn,
	s *nftables.Set,
) (missing, extra []nftables.SetElement, err error) {
	all, err := listElements(conn, s)
	if err != nil {
		return nil, nil, fmt.Errorf("nftables: set %s: %w", s.Name, err)
	}
	same := map[string]bool{}
	for _, e := range all {
		want, ok := t.elements[s.Name][elementKey(e)]
		if ok && bytes.Equal(want.Val, e.Val) {
			same[elementKey(e)] = true
		} else {
			extra = append(extra, nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd, Val: e.Val})
		}
	}
	for key, e := range t.elements[s.Name] {
		if !same[key] {
			missing = append(missing, e)
		}
	}
	return missing, extra, nil
}

// listElements lists the elements of a set until two lists in a row have as many.
func listElements(conn *nftables.Conn, s *nftables.Set) (all []nftables.SetElement, err error) {
	for range listed {
		before := len(all)
		if all, err = conn.GetSetElements(s); err != nil || len(all) == before {
			break
		}
	}
	return all, err
}

func values(elements map[string]nftables.SetElement) []nftables.SetElement {
	var all []nftables.SetElement
	for _, e := range elements {
		all = append(all, e)
	}
	return all
}

// change adds or deletes elements. A netlink attribute is at most 64 KiB long, so many elements take several messages.
func change(do func(*nftables.Set, []nftables.SetElement) error, s *nftables.Set,
	elements []nftables.SetElement,
) error {
	for part := range slices.Chunk(elements, 256) {
		if err := do(s, part); err != nil {
			return fmt.Errorf("nftables: set %s: %w", s.Name, err)
		}
	}
	return nil
}

// listed is how often a list is asked for that may have been interrupted by changes of others: the library does not
// say so (NLM_F_DUMP_INTR), and objects may be missing from the list.
const listed = 5

// difference describes how the kernel's table differs from this one, apart from elements; "" means that it does not.
func (t *table) difference(conn *nftables.Conn) (why string, err error) {
	for range listed {
		if why, err = t.compare(conn); err != nil || why == "" {
			break
		}
	}
	return why, err
}

// compare lists the kernel's table once.
func (t *table) compare(conn *nftables.Conn) (string, error) {
	sets, err := conn.GetSets(t.Table)
	if err != nil {
		return "", fmt.Errorf("nftables: table %s: %w", t.Name, err)
	}
	for _, want := range t.sets {
		if !slices.ContainsFunc(sets, func(s *nftables.Set) bool { return s.Name == want.Name }) {
			return fmt.Sprintf("set %s is missing", want.Name), nil
		}
	}
	return t.differentRules(conn)
}

// differentRules describes how the rules of the kernel's table differ from those of this one. It reads no other table.
func (t *table) differentRules(conn *nftables.Conn) (string, error) {
	all, err := ruleTags(conn, t.Table)
	if err != nil {
		return "", fmt.Errorf("nftables: table %s: rules: %w", t.Name, err)
	}
	for _, want := range t.chains {
		tags, wanted := all[want.Name], t.tags(want)
		if slices.Equal(tags, wanted) {
			continue
		}
		if exists, err := t.hasChain(conn, want.Name); err != nil {
			return "", fmt.Errorf("nftables: table %s: chain %s: %w", t.Name, want.Name, err)
		} else if !exists {
			return fmt.Sprintf("chain %s is missing", want.Name), nil
		}
		own := 0
		for i, tag := range tags {
			if i < len(wanted) && tag == wanted[i] {
				own++
			}
		}
		return fmt.Sprintf("chain %s: want %d rules of this plugin, got %d and %d others", want.Name, len(wanted), own,
			len(tags)-own), nil
	}
	return "", nil
}

func (t *table) tags(c *nftables.Chain) []string {
	var tags []string
	for _, r := range t.rules[c.Name] {
		tag, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		tags = append(tags, tag)
	}
	return tags
}

// hasChain reports whether the kernel's table has a chain. The library's ListChain hides the error number.
func (t *table) hasChain(conn *nftables.Conn, name string) (bool, error) {
	_, err := request(conn, t.Family, unix.NFT_MSG_GETCHAIN, 0, []netlink.Attribute{
		{Type: unix.NFTA_CHAIN_TABLE, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_CHAIN_NAME, Data: []byte(name + "\x00")},
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// ruleTags returns the comments of a table's rules by chain. It does not use nftables.GetRules, which fails at a "ct"
// expression with a direction: the kernel sends the direction in one byte, and the library expects four. For a table
// that does not exist it returns none.
func ruleTags(conn *nftables.Conn, t *nftables.Table) (map[string][]string, error) {
	replies, err := request(conn, t.Family, unix.NFT_MSG_GETRULE, netlink.Dump, []netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")},
	})
	tags := map[string][]string{}
	for _, attrs := range replies {
		chain, tag := "", ""
		for _, attr := range attrs {
			switch attr.Type {
			case unix.NFTA_RULE_CHAIN:
				chain = strings.TrimRight(string(attr.Data), "\x00")
			case unix.NFTA_RULE_USERDATA:
				tag, _ = userdata.GetString(attr.Data, userdata.TypeComment)
			}
		}
		tags[chain] = append(tags[chain], tag)
	}
	return tags, err
}

// request sends an nf_tables request for which the library has no function, and returns the attributes of each answer.
func request(conn *nftables.Conn, family nftables.TableFamily, kind uint16, flags netlink.HeaderFlags,
	attrs []netlink.Attribute,
) ([][]netlink.Attribute, error) {
	socket, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: conn.NetNS})
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	header := []byte{byte(family), unix.NFNETLINK_V0, 0, 0} // struct nfgenmsg
	replies, err := socket.Execute(netlink.Message{
		Header: netlink.Header{
			Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags,
		},
		Data: append(header, data...),
	})
	if err != nil {
		return nil, err
	}
	var all [][]netlink.Attribute
	for _, reply := range replies {
		attrs, err := netlink.UnmarshalAttributes(reply.Data[len(header):])
		if err != nil {
			return nil, err
		}
		all = append(all, attrs)
	}
	return all, nil
}

// elementKeyEnd is NFTA_SET_ELEM_KEY_END, for which x/sys has no name.
const elementKeyEnd = 10

// hasElement reports whether the kernel's set has an element, with the same value in a map. It queries only that
// element.
func (t *table) hasElement(conn *nftables.Conn, s *nftables.Set, e nftables.SetElement) (bool, error) {
	value := func(data []byte) []byte { return nested(netlink.Attribute{Type: unix.NFTA_DATA_VALUE, Data: data}) }
	element := []netlink.Attribute{{Type: unix.NFTA_SET_ELEM_KEY | unix.NLA_F_NESTED, Data: value(e.Key)}}
	if e.KeyEnd != nil {
		element = append(element, netlink.Attribute{Type: elementKeyEnd | unix.NLA_F_NESTED, Data: value(e.KeyEnd)})
	}
	replies, err := request(conn, t.Family, unix.NFT_MSG_GETSETELEM, 0, []netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(s.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_ELEMENTS | unix.NLA_F_NESTED, Data: nested(netlink.Attribute{
			Type: unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED, Data: nested(element...),
		})},
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("nftables: set %s: %w", s.Name, err)
	}
	// The answer contains the whole element with its value in a map.
	return slices.ContainsFunc(replies, func(attrs []netlink.Attribute) bool {
		return slices.ContainsFunc(attrs, func(a netlink.Attribute) bool {
			return a.Type == unix.NFTA_SET_ELEM_LIST_ELEMENTS && (e.Val == nil || bytes.Contains(a.Data, value(e.Val)))
		})
	}), nil
}

func nested(attrs ...netlink.Attribute) []byte {
	data, _ := netlink.MarshalAttributes(attrs) // cannot fail: all are short
	return data
}
