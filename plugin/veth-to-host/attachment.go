package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// attachment is the content of a record: everything that DEL and GC need to know without prevResult, and that CHECK
// compares with.
type attachment struct {
	Netns         string       `json:"netns"`
	HostInterface string       `json:"hostInterface"`
	Link          string       `json:"link"` // the underlay link in the pod
	LinkMAC       string       `json:"linkMAC"`
	Veth          kernel.Veth  `json:"veth"`
	Addresses     []netip.Addr `json:"addresses"`
	// Sources are all addresses that the pod may send with; a record of an earlier version has none.
	Sources []netip.Addr `json:"sources,omitempty"`
	// Raw says that the node's table had the chain guard-raw; a record of an earlier version does not.
	Raw bool `json:"raw,omitempty"`
	// Node has for each family the address by which the pod knows the node. It is also the source address of the node's
	// connections that come back through the pod.
	Node       []netip.Addr `json:"node"`
	Table      int          `json:"table"`
	Mark       uint32       `json:"mark"`
	Ports      []portRange  `json:"ports"`
	Masquerade bool         `json:"masquerade"`
	Pod        podState     `json:"pod"`
}

type (
	entry = record.Entry[attachment]
	store = record.Store[attachment]
)

// Keys returns the keys by which a record can be found. The kind lost has the node's addresses: the routes with such a
// source address vanish when the address is removed.
func (a attachment) Keys() []string {
	keys := []string{linkKey(a.Veth.Host), tableKey(a.Table), netnsKey(a.Netns)}
	for _, ip := range a.Addresses {
		keys = append(keys, addressKey(ip))
	}
	for _, ipv6 := range a.families() {
		keys = append(keys, markKey(a.Mark, ipv6), lostKind+"/"+a.node(ipv6).String())
	}
	return keys
}

const (
	markKind = "mark"
	lostKind = "lost"
)

func addressKey(ip netip.Addr) string { return "address/" + ip.String() }
func linkKey(name string) string      { return "link/" + name }
func tableKey(table int) string       { return fmt.Sprintf("table/%d", table) }
func netnsKey(path string) string {
	sum := sha256.Sum256([]byte(path))
	return "netns/" + hex.EncodeToString(sum[:8])
}

func markKey(mark uint32, ipv6 bool) string {
	family := "IPv4"
	if ipv6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s/%#x %s", markKind, mark, family)
}

func (a attachment) has(ip netip.Addr) bool { return slices.Contains(a.Addresses, ip) }

// node returns the node's address of a family, or the zero value if the pod has no address of that family.
func (a attachment) node(ipv6 bool) netip.Addr {
	return firstOf(a.Node, ipv6)
}

func firstOf(addrs []netip.Addr, ipv6 bool) netip.Addr {
	for _, ip := range addrs {
		if ip.Is6() == ipv6 {
			return ip
		}
	}
	return netip.Addr{}
}

// families returns the families of the pod's addresses; true means IPv6.
func (a attachment) families() []bool {
	var families []bool
	for _, ipv6 := range []bool{false, true} {
		if firstOf(a.Addresses, ipv6).IsValid() {
			families = append(families, ipv6)
		}
	}
	return families
}

func openStore(create bool) (*store, error) {
	return verb.OpenStore[attachment](pluginName, create)
}

// identity derives names and hardware addresses from the attachment, so that a veth can be attributed to its attachment
// even if the record was lost. Attempt is increased if something else has the name.
type identity struct {
	record.Attachment
	attempt int
}

func (i identity) sum(what string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s %q %q %q %d", what, i.Network, i.ContainerID, i.IfName, i.attempt))
}

// name returns the name of the node's end of the veth.
func (i identity) name() string {
	sum := i.sum("name")
	return vethPrefix + hex.EncodeToString(sum[:vethDigits/2])
}

func (i identity) mac(what string) net.HardwareAddr {
	sum := i.sum(what)
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac
}

const (
	pluginName = "veth-to-host"
	vethPrefix = "veth"
	vethDigits = 8
	// The number of names that are tried. With 32 bits, not even the second one is ever in use in practice.
	maxAttempts = 16
)

// hasNewerOwner reports whether another, newer record contains ip.
func hasNewerOwner(s *store, e entry, ip netip.Addr) (bool, error) {
	holders, err := s.Holders(addressKey(ip))
	return slices.ContainsFunc(holders, func(other entry) bool {
		return other.Attachment != e.Attachment && other.Sequence > e.Sequence
	}), err
}

// others returns the records other than e that have a key.
func others(s *store, key string, of record.Attachment) ([]entry, error) {
	holders, err := s.Holders(key)
	return slices.DeleteFunc(holders, func(e entry) bool { return e.Attachment == of }), err
}

// anyOther returns the record of any other attachment, or nil if there is none. Every record has at least a mark.
func anyOther(s *store, of record.Attachment) (*entry, error) {
	marks, err := s.Values(markKind)
	for _, mark := range marks {
		if other, err := s.Other(markKind+"/"+mark, of); other != nil || err != nil {
			return other, err
		}
	}
	return nil, err
}
