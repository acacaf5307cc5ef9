package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/cnitest/cnitest/plugin/internal/record"
)

// nodeTable is the plugin's table on the node. It has twelve rules that drop or accept, five for marks and three for
// source addresses, however many pods there are. Only elements of its sets belong to single attachments.
//
// A pod that is reached by every port has its address in the sets open, which are hash tables. The sets served have
// ranges of ports, and with each change of such a set the kernel copies it and looks through its elements.
type nodeTable struct {
	*table
	guard
	links, leaving, source4, source6, open4, open6, served4, served6 *nftables.Set
}

const (
	nodeTableName = "cni-" + pluginName
	markChain     = "prerouting"
)

// newNodeTable returns the table for entries, all of which have the same mark.
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
	t.open4 = t.set(&nftables.Set{Name: "open4", KeyType: nftables.TypeIPAddr})
	t.open6 = t.set(&nftables.Set{Name: "open6", KeyType: nftables.TypeIP6Addr})
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
	if guarded := guardedEntries(entries); len(guarded) > 0 {
		t.addGuard()
		t.addSources(guarded)
	}
	return t
}

// markReplies adds rules that mark the connections which the node forwards to a pod, whoever sent the first packet and
// whichever service was used, and the replies to them. The replies follow the node's routes (rule 512); all other
// packets of a pod go back into it.
//
// The chain runs after the translation of destinations, since it compares the pod's address. The original port is then
// known to connection tracking only.
func (t *nodeTable) markReplies(mark uint32) {
	pre := t.chain(markChain, nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		*nftables.ChainPriorityNATDest+1)
	t.rule(pre, loadMeta(expr.MetaKeyIIFNAME, register1), inSet(t.links), direction(directionReply), marked(mark, mark),
		setMark(mark, mark))
	for _, served := range []struct {
		set  *nftables.Set
		ipv6 bool
		port uint32
	}{{t.served4, false, registerAfterIPv4}, {t.served6, true, registerAfterIPv6}} {
		t.rule(pre, family(served.ipv6), destinationAddress(served.ipv6, register1),
			[]expr.Any{&expr.Ct{Key: expr.CtKeyPROTODST, Register: served.port, Direction: directionOriginal}},
			inSet(served.set), setMark(mark, mark), setConnMark(mark, mark))
	}
	for _, open := range []*nftables.Set{t.open4, t.open6} {
		ipv6 := open == t.open6
		// The mark of the connection comes first: it ends the rule for packets that are not tracked.
		t.rule(pre, family(ipv6), destinationAddress(ipv6, register1), inSet(open), setConnMark(mark, mark),
			setMark(mark, mark))
	}
}

// chooseSource adds rules that give packets from a pod the node's address as source, so that answers come back to this
// node. They name the address: masquerading on a link without an address uses an address of the node's first NIC. They
// run before the masquerading of others for the same reason.
//
// Packets to another pod of this node keep the source: that pod can only reply to the pod's address. Such pods are
// behind veths; but the veth of the pod itself is one as well, and in a lab hostInterface may be one.
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
			if ports.isEveryPort() {
				t.element(pick(ip.Is6(), t.open6, t.open4), nftables.SetElement{Key: ip.AsSlice()})
			} else {
				t.element(pick(ip.Is6(), t.served6, t.served4), served(ip, ports))
			}
		}
	}
}

func served(ip netip.Addr, ports portRange) nftables.SetElement {
	return nftables.SetElement{
		Key:    slices.Concat(ip.AsSlice(), portKey(ports.First)),
		KeyEnd: slices.Concat(ip.AsSlice(), portKey(ports.Last)),
	}
}

// portKey returns a port as a part of a key. Parts are padded to four bytes.
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

// ensureInNodeTable adds an attachment to the node's table. It rebuilds the whole table from all records if the table
// differs from what it must be, or if the table already has one of the elements with another value.
func ensureInNodeTable(s *store, e entry) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	inPod, err := others(s, netnsKey(e.State.Netns), e.Attachment)
	if err != nil {
		return err
	}
	t := newNodeTable(append(inPod, e))
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

// removeFromNodeTable removes an attachment from the node's table, and the table with the last attachment. It rebuilds
// the table from the other records if the elements are not those of this attachment, if a newer attachment has the
// same address, or if the pod has other attachments, whose links carry this one's addresses, too.
func removeFromNodeTable(s *store, e entry, sockets *lateSockets) error {
	other, err := anyOther(s, e.Attachment)
	if err != nil {
		return err
	}
	gone, err := unheld(s, e.State.Addresses, e.Attachment)
	if err != nil {
		return err
	}
	inPod, err := others(s, netnsKey(e.State.Netns), e.Attachment)
	if err != nil {
		return err
	}
	conn, err := sockets.open()
	if err != nil {
		return err
	}
	t := newNodeTable([]entry{e})
	switch {
	case other == nil:
		return t.remove(conn)
	case len(gone) == len(e.State.Addresses) && len(inPod) == 0:
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

// removeUnrecordedElements removes elements of the node's table that an attachment without a record may have; veth is
// the name of its link. If one of them exists, the table is rebuilt from the records.
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
