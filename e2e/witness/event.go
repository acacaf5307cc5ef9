package witness

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

const (
	netfilterDrop   = 0 // NF_DROP
	netfilterAccept = 1 // NF_ACCEPT
)

// traced contains the addresses of a traced packet: only its first event in a chain contains its headers.
type traced struct{ source, destination string }

// rule identifies a rule; for the policy of a chain the handle is 0.
type rule struct {
	family       uint8
	table, chain string
	handle       uint64
}

// verdict is a Verdict whose rule has no text yet.
type verdict struct {
	Verdict
	rule
}

// event is the kernel's message about a packet in a chain.
type event struct {
	rule
	id, kind     uint32
	code, policy uint32
	mark         uint32
	header       []byte // of IP
}

// parseEvent reads the attributes of enum nft_trace_attributes.
func parseEvent(data []byte) (event, error) {
	var e event
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return e, err
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		switch d.Type() {
		case unix.NFTA_TRACE_TABLE:
			e.table = d.String()
		case unix.NFTA_TRACE_CHAIN:
			e.chain = d.String()
		case unix.NFTA_TRACE_RULE_HANDLE:
			e.handle = d.Uint64()
		case unix.NFTA_TRACE_TYPE:
			e.kind = d.Uint32()
		case unix.NFTA_TRACE_VERDICT:
			d.Nested(e.verdict)
		case unix.NFTA_TRACE_ID:
			e.id = d.Uint32()
		case unix.NFTA_TRACE_NETWORK_HEADER:
			e.header = d.Bytes()
		case unix.NFTA_TRACE_MARK:
			e.mark = d.Uint32()
		case unix.NFTA_TRACE_POLICY:
			e.policy = d.Uint32()
		}
	}
	return e, d.Err()
}

func (e *event) verdict(d *netlink.AttributeDecoder) error {
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		if d.Type() == unix.NFTA_VERDICT_CODE {
			e.code = d.Uint32()
		}
	}
	return nil
}

// note records an event. struct nfgenmsg, which precedes its attributes, contains the family of the chain.
func (t *Trace) note(family uint8, data []byte) {
	e, err := parseEvent(data)
	if err != nil {
		return
	}
	e.family = family
	if source, destination, ok := addressesOf(e.header); ok {
		t.packets[e.id] = traced{source, destination}
	}
	v := verdict{rule: e.rule, Verdict: Verdict{
		Chain: fmt.Sprintf("%s %s %s", snapshot.NftFamily(family), e.table, e.chain), Mark: e.mark,
		Source: t.packets[e.id].source, Destination: t.packets[e.id].destination,
	}}
	switch {
	case e.kind == unix.NFT_TRACETYPE_POLICY && e.policy == netfilterDrop, e.kind == unix.NFT_TRACETYPE_RULE &&
		e.code&0xffff == netfilterDrop:
		v.Action = Dropped
	case e.kind == unix.NFT_TRACETYPE_RULE && e.code == netfilterAccept:
		v.Action = Translated // if its text says so
	default:
		return
	}
	at := slices.IndexFunc(t.verdicts, func(o verdict) bool { v.Times = o.Times; return o == v })
	switch {
	case at >= 0:
		t.verdicts[at].Times++
	case len(t.verdicts) < maxVerdicts:
		v.Times = 1
		t.verdicts = append(t.verdicts, v)
	}
}

// addressesOf returns the addresses in an IP header.
func addressesOf(header []byte) (source, destination string, ok bool) {
	switch {
	case len(header) >= 20 && header[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(header[12:])).String(), netip.AddrFrom4([4]byte(header[16:])).String(), true
	case len(header) >= 40 && header[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(header[8:])).String(), netip.AddrFrom16([16]byte(header[24:])).String(), true
	}
	return "", "", false
}
