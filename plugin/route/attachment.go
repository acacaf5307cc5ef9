package main

import (
	"fmt"
	"net/netip"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

const pluginName = "route"

// attachment is what a record says: all that DEL and GC need to know without prevResult.
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
}

// podRoute is a host route in the pod to an address of its node.
type podRoute struct {
	Dst    netip.Addr `json:"dst"`
	Via    netip.Addr `json:"via,omitzero"`
	Link   string     `json:"link"`
	Metric int        `json:"metric"`
}

// Where a pod has two macvlans, the way to an address of the node is over the one on that address's own NIC: the node
// answers from there, and drops what comes in elsewhere (rp_filter).
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

func openStore(create bool) (*store, error) {
	return verb.OpenStore[attachment](pluginName, create)
}

// newerOwner returns the newest other record that holds ip and is younger than sequence, or nil.
func newerOwner(entries []entry, of record.Attachment, sequence uint64, ip netip.Addr) *entry {
	for i := len(entries) - 1; i >= 0 && entries[i].Sequence > sequence; i-- {
		if entries[i].Attachment != of && entries[i].State.has(ip) {
			return &entries[i]
		}
	}
	return nil
}

// podAddress is an address that prevResult gives to the pod.
type podAddress struct {
	netip.Prefix
	link string
}

// podAddresses returns all addresses that prevResult gives to links in the pod, each once. Results before 0.3.0 name no
// link; then it is the one that CNI_IFNAME names. Link-local ones need no route.
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
