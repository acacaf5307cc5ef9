package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

const (
	pluginName = "routed-eni"
	vethDigits = 11
	mainTable  = unix.RT_TABLE_MAIN
)

// attachment is the content of a record: everything that DEL and GC need without prevResult, and that CHECK compares
// with.
type attachment struct {
	Netns string      `json:"netns"`
	Veth  kernel.Veth `json:"veth"`
	// Alias of the node's end names its attachment.
	Alias   string     `json:"alias"`
	Address netip.Addr `json:"address"`
	// Table is the routing table of the ENI that has the address. The primary ENI has the main table.
	Table int `json:"table"`
	// Metric of the pod's routes, above the metric of routes over other links to the same destinations.
	Metric int `json:"metric"`
	// PodTable is the routing table of the pod for what it sends with this address, if another interface has the
	// preferred routes; else 0.
	PodTable int `json:"podTable,omitempty"`
}

type (
	entry = record.Entry[attachment]
	store = record.Store[attachment]
)

// Keys returns the keys by which records are found: the address.
func (a attachment) Keys() []string { return []string{addressKey(a.Address)} }

func addressKey(ip netip.Addr) string { return "address/" + ip.String() }

func openStore(create bool) (*store, error) {
	return verb.OpenStore[attachment](pluginName, create)
}

func (a attachment) isIPv6() bool { return a.Address.Is6() }

// gateway returns the pod's next hop. The node does not have this address for IPv4; the permanent neighbour is enough.
func (a attachment) gateway() netip.Addr {
	if a.isIPv6() {
		return netip.MustParseAddr("fe80::1")
	}
	return netip.MustParseAddr("169.254.1.1")
}

// identity derives names and hardware addresses from the network, the container and the interface, so that a veth is
// recognised as this attachment's even if its record is lost. The pod's permanent neighbour relies on fixed hardware
// addresses: udev's MACAddressPolicy does not change an address that was set when the link was made.
type identity struct{ record.Attachment }

func (i identity) sum(what string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s %q %q %q", what, i.Network, i.ContainerID, i.IfName))
}

func (i identity) mac(what string) string {
	sum := i.sum(what)
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac.String()
}

// name returns the name of the node's end of the veth.
func (i identity) name(prefix string) string {
	sum := i.sum("name")
	return prefix + hex.EncodeToString(sum[:])[:vethDigits]
}

const maxAlias = 255 // IFALIASZ without the terminating zero

// alias returns the alias of the node's end, which names the attachment. It is empty if that would be too long.
func (i identity) alias() string {
	if alias := pluginName + " " + i.String(); len(alias) <= maxAlias {
		return alias
	}
	return ""
}

func (i identity) veth(prefix string, mtu int) kernel.Veth {
	return kernel.Veth{
		Host: i.name(prefix), HostMAC: i.mac("host"), Pod: i.IfName, PodMAC: i.mac("pod"), MTU: mtu,
	}
}

// fromAlias returns the attachment that a link's alias names.
func fromAlias(alias string) (record.Attachment, bool) {
	text, ok := strings.CutPrefix(alias, pluginName+" ")
	parts := strings.Split(text, "/")
	if !ok || len(parts) != 3 {
		return record.Attachment{}, false
	}
	return record.Attachment{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

// hasNewerOwner reports whether a newer record holds the address of e, because ipamd has given it to another pod.
func hasNewerOwner(s *store, e entry) (bool, error) {
	holders, err := s.Holders(addressKey(e.State.Address))
	return slices.ContainsFunc(holders, func(other entry) bool {
		return other.Attachment != e.Attachment && other.Sequence > e.Sequence
	}), err
}

// isHeld reports whether any record holds an address.
func isHeld(s *store, ip netip.Addr) (bool, error) {
	holders, err := s.Holders(addressKey(ip))
	return len(holders) > 0, err
}
