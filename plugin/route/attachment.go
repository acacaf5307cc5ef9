package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

const pluginName = "route"

// attachment is the content of a record: everything that DEL and GC need without prevResult.
type attachment struct {
	Netns     string     `json:"netns"`
	Master    string     `json:"master"`
	Child     string     `json:"child"`
	Addresses []address  `json:"addresses"`
	PodRoutes []podRoute `json:"podRoutes,omitempty"`
}

// address is one address of a pod, with the link in the pod that has it.
type address struct {
	IP   netip.Addr `json:"ip"`
	Link string     `json:"link"`
	MAC  string     `json:"mac"`
	// Source is the node's address that is the source of its route. The zero value means that the master has no address
	// of that family.
	Source netip.Addr `json:"source,omitzero"`
}

// podRoute is a host route in the pod to an address of its node.
type podRoute struct {
	Dst    netip.Addr `json:"dst"`
	Via    netip.Addr `json:"via,omitzero"`
	Link   string     `json:"link"`
	Metric int        `json:"metric"`
}

// If a pod has two macvlans, it reaches an address of the node over the macvlan on the NIC with that address: the node
// answers from that NIC, and drops packets that come in by another (rp_filter).
const (
	metricMaster = 100
	metricOther  = 1024
)

type (
	entry = record.Entry[attachment]
	store = record.Store[attachment]
)

func (a attachment) has(ip netip.Addr) bool {
	return slices.ContainsFunc(a.Addresses, func(own address) bool { return own.IP == ip })
}

func (a attachment) hasIPv4() bool {
	return slices.ContainsFunc(a.Addresses, func(own address) bool { return own.IP.Is4() })
}

func (a attachment) hasIPv6() bool {
	return slices.ContainsFunc(a.Addresses, func(own address) bool { return own.IP.Is6() })
}

// Keys returns the keys by which records are found: the child, the addresses, and the groups of routes that are lost
// together. Routes of one family with one source form a group: they are lost with the child, with the master's address,
// or with all neighbours.
func (a attachment) Keys() []string {
	keys := []string{childKey(a.Child)}
	for _, addr := range a.Addresses {
		keys = append(keys, addressKey(addr.IP))
		if shared := lostTogether(a.Child) + addr.family() + " " + addr.Source.String(); !slices.Contains(keys,
			shared) {
			keys = append(keys, shared)
		}
	}
	return keys
}

const lostKind = "lost"

func childKey(name string) string      { return "child/" + name }
func addressKey(ip netip.Addr) string  { return "address/" + ip.String() }
func lostTogether(child string) string { return lostKind + "/" + child + " " }
func (a address) family() string {
	if a.IP.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// groups returns the keys of the groups of routes over a child that are lost together.
func groups(s *store, child string) ([]string, error) {
	values, err := s.Values(lostKind)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, value := range values {
		if key := lostKind + "/" + value; strings.HasPrefix(key, lostTogether(child)) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func openStore(create bool) (*store, error) {
	return verb.OpenStore[attachment](pluginName, create)
}

// newerOwner returns the newest other record that holds ip and is newer than e, or nil.
func newerOwner(s *store, e entry, ip netip.Addr) (*entry, error) {
	holders, err := s.Holders(addressKey(ip))
	for _, other := range slices.Backward(holders) {
		if other.Attachment != e.Attachment && other.Sequence > e.Sequence {
			return &other, err
		}
	}
	return nil, err
}

// podAddress is an address that prevResult gives to the pod.
type podAddress struct {
	netip.Prefix
	link string
}

// podAddresses returns all addresses that prevResult gives to links in the pod, each once. Results before 0.3.0 name no
// link: their addresses are on the link that CNI_IFNAME names. Link-local addresses need no route.
func podAddresses(prev *current.Result, ifName string) []podAddress {
	var addrs []podAddress
	for _, ip := range prev.IPs {
		link := ifName
		if ip.Interface != nil {
			if prev.Interfaces[*ip.Interface].Sandbox == "" {
				continue // a link on the node
			}
			link = prev.Interfaces[*ip.Interface].Name
		}
		prefix, ok := netipx.FromStdIPNet(&ip.Address)
		known := slices.ContainsFunc(addrs, func(a podAddress) bool { return a.Addr() == prefix.Addr() })
		if ok && !known && !prefix.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, podAddress{prefix, link})
		}
	}
	return addrs
}

// hostLinks returns the links on the node that prevResult names.
func hostLinks(prev *current.Result) []string {
	var names []string
	for _, link := range prev.Interfaces {
		if link.Sandbox == "" && link.Name != "" {
			names = append(names, link.Name)
		}
	}
	return names
}

func (r podRoute) String() string {
	if !r.Via.IsValid() {
		return fmt.Sprintf("%s dev %s", r.Dst, r.Link)
	}
	return fmt.Sprintf("%s via %s dev %s", r.Dst, r.Via, r.Link)
}
