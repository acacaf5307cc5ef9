package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/cnitest/cnitest/plugin/internal/record"
)

// nodeTable is the plugin's table on the node: three rules for marks and three for source addresses, however many pods
// there are. What belongs to one attachment are elements of its sets.
type nodeTable struct {
	*table
	links, leaving, source4, source6, served4, served6 *nftables.Set
}

const nodeTableName = "cni-" + pluginName

// newNodeTable returns the table for records, all of which have the same mark.
func newNodeTable(entries []entry) *nodeTable {
	t := &nodeTable{table: newTable(nodeTableName)}
	port := nftables.TypeInetService
	t.links = t.set(&nftables.Set{Name: "links", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian})
	t.leaving = t.set(&nftables.Set{
		Name: "leaving", KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName),
		Concatenation: true,
	})
	t.source4 = t.set(&nftables.Set{
		Name: "source4", KeyType: nftables.TypeIFName,
		KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.TypeIPAddr, IsMap: true,
	})
	t.source6 = t.set(&nftables.Set{
		Name: "source6", KeyType: nftables.TypeIFName,
		KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.TypeIP6Addr, IsMap: true,
	})
	t.served4 = t.set(&nftables.Set{
		Name: "served4", KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, port), Concatenation: true,
		Interval: true,
	})
	t.served6 = t.set(&nftables.Set{
		Name: "served6", KeyType: nftables.MustConcatSetType(nftables.TypeIP6Addr, port), Concatenation: true,
		Interval: true,
	})
	if len(entries) > 0 {
		t.markReplies(entries[0].State.Mark)
		t.chooseSource()
	}
	for _, e := range entries {
		t.addElements(e.State)
	}
	return t
}

// markReplies marks connections that the node forwards to a pod, whoever sends and by whatever service, and the replies
// to them: those follow the node's routes (rule 512), where all else that a pod sends goes back into it.
//
// The chain comes after the translation of destinations, so that a pod's address is to be seen. What port was asked for
// is known to connection tracking alone by then.
func (t *nodeTable) markReplies(mark uint32) {
	pre := t.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		*nftables.ChainPriorityNATDest+1)
	t.rule(pre, loadMeta(expr.MetaKeyIIFNAME, register1), inSet(t.links), direction(directionReply), marked(mark, mark),
		setMark(mark, mark))
	for _, served := range []struct {
		set  *nftables.Set
		ipv6 bool
		port uint32
	}{{t.served4, false, registerAfterIPv4}, {t.served6, true, registerAfterIPv6}} {
		t.rule(pre, family(served.ipv6), loadDestination(served.ipv6),
			[]expr.Any{&expr.Ct{Key: expr.CtKeyPROTODST, Register: served.port, Direction: directionOriginal}},
			inSet(served.set), setMark(mark, mark), setConnMark(mark, mark))
	}
}

// chooseSource gives what comes from a pod the node's address: whoever is asked has to answer by way of this node. It
// names the address, since masquerading on a link without one takes that of the node's first NIC, and comes before the
// masquerading of others, who would do just that.
//
// What goes to another pod on this node keeps the pod's address: that pod has no other way back. Such pods are behind
// veths, but a veth is also the way back into the pod itself, and in a lab hostInterface may be one.
func (t *nodeTable) chooseSource() {
	post := t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		*nftables.ChainPriorityNATSource-1)
	t.rule(post, loadMeta(metaKeyOIFKIND, register1), equals(linkName("veth")),
		loadMeta(expr.MetaKeyIIFNAME, register1), loadMeta(expr.MetaKeyOIFNAME, registerAfterName), notInSet(t.leaving),
		verdict(expr.VerdictAccept))
	t.rule(post, family(false), loadMeta(expr.MetaKeyIIFNAME, register1), mapped(t.source4), sourceNAT(false))
	t.rule(post, family(true), loadMeta(expr.MetaKeyIIFNAME, register1), mapped(t.source6), sourceNAT(true))
}

func (t *nodeTable) addElements(a attachment) {
	link := linkName(a.Veth.Host)
	t.element(t.links, nftables.SetElement{Key: link})
	for _, out := range []string{a.Veth.Host, a.HostInterface} {
		t.element(t.leaving, nftables.SetElement{Key: slices.Concat(link, linkName(out))})
	}
	for _, ipv6 := range a.families() {
		if source := a.node(ipv6); a.Masquerade {
			t.element(pick(ipv6, t.source6, t.source4), nftables.SetElement{Key: link, Val: source.AsSlice()})
		}
	}
	for _, ip := range a.Addresses {
		for _, ports := range a.Ports {
			t.element(pick(ip.Is6(), t.served6, t.served4), nftables.SetElement{
				Key: slices.Concat(ip.AsSlice(), portKey(ports.First)), KeyEnd: slices.Concat(ip.AsSlice(),
					portKey(ports.Last)),
			})
		}
	}
}

// portKey returns a port as a part of a key: parts are padded to four bytes.
func portKey(port uint16) []byte {
	key := make([]byte, 4)
	binary.BigEndian.PutUint16(key, port)
	return key
}

func pick(ipv6 bool, six, four *nftables.Set) *nftables.Set {
	if ipv6 {
		return six
	}
	return four
}

// ensureInNodeTable puts an attachment into the node's table. The whole table is made anew from all records where it is
// another than it has to be, and where one of the elements is in the way.
func ensureInNodeTable(s *store, e entry) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := newNodeTable([]entry{e})
	why, err := t.differentRules(conn)
	if err != nil {
		return err
	}
	if why == "" {
		if err = t.changeElements(conn, conn.SetAddElements); err == nil {
			return nil
		}
	}
	entries, _, listErr := s.List()
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	return syncNodeTable(entries)
}

// removeFromNodeTable takes an attachment out of the node's table, or removes the table with the last one. Where the
// table has not just its elements any more, or a younger attachment has the same address, it is made what the other
// records say.
func removeFromNodeTable(s *store, e entry) error {
	other, err := anyOther(s, e.Attachment)
	if err != nil {
		return err
	}
	gone, err := unheld(s, e.State.Addresses, e.Attachment)
	if err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := newNodeTable([]entry{e})
	switch {
	case other == nil:
		return t.remove(conn)
	case len(gone) == len(e.State.Addresses):
		if t.changeElements(conn, conn.SetDeleteElements) == nil {
			return nil
		}
	}
	entries, _, err := s.List()
	if err != nil {
		return err
	}
	return syncNodeTable(record.Without(entries, e.Attachment))
}

// removeUnrecordedElements removes what an attachment without a record, whose veth has a name, may have in the node's
// table. Where one of its elements is there, the table is made what the records say.
func removeUnrecordedElements(s *store, of record.Attachment, veth string) error {
	other, err := anyOther(s, of)
	if err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := newNodeTable(nil)
	if other == nil {
		return t.remove(conn)
	}
	has, err := t.hasElement(conn, t.links, nftables.SetElement{Key: linkName(veth)})
	if err != nil || !has {
		return err
	}
	entries, _, err := s.List()
	if err != nil {
		return err
	}
	return syncNodeTable(record.Without(entries, of))
}

// changeElements adds or deletes the table's elements in one transaction.
func (t *table) changeElements(conn *nftables.Conn, do func(*nftables.Set, []nftables.SetElement) error) error {
	for _, s := range t.sets {
		if err := change(do, s, values(t.elements[s.Name])); err != nil {
			return err
		}
	}
	return t.flush(conn)
}
