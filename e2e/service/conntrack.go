package service

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stale matches the UDP conntrack entries of a service that lead to none of its endpoints: a client that keeps sending
// from one socket keeps such an entry alive, and never uses the new rules. As in kube-proxy, a service without
// endpoints keeps its entries, and so does a deleted one.
type stale struct {
	clusterIPs map[netip.AddrPort]destinations
	nodePorts  map[uint16]destinations
}

type destinations map[netip.AddrPort]bool

func newStale(f family) stale {
	s := stale{clusterIPs: map[netip.AddrPort]destinations{}, nodePorts: map[uint16]destinations{}}
	for _, p := range f.ports {
		if p.protocol != UDP || len(p.endpoints) == 0 {
			continue
		}
		d := destinations{}
		for _, e := range p.endpoints {
			d[netip.AddrPortFrom(e.Address, e.Port)] = true
		}
		s.clusterIPs[netip.AddrPortFrom(p.clusterIP, p.port)] = d
		if p.nodePort != 0 {
			s.nodePorts[p.nodePort] = d
		}
	}
	return s
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	asked := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	want, found := s.clusterIPs[asked]
	if !found {
		want, found = s.nodePorts[asked.Port()]
	}
	return found && !want[addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)]
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// forgetStale deletes stale entries. It must run after the new rules are in place, since an entry made in between would
// follow the old rules.
func forgetStale(families []family) error {
	for _, f := range families {
		s := newStale(f)
		if len(s.clusterIPs) == 0 {
			continue
		}
		inet := netlink.InetFamily(unix.AF_INET)
		if f.ipv6 {
			inet = unix.AF_INET6
		}
		if _, err := netlinksafe.ConntrackDeleteFilters(netlink.ConntrackTable, inet, s); err != nil {
			return fmt.Errorf("%s conntrack entries: delete stale ones: %w", ipVersion(f.ipv6), err)
		}
	}
	return nil
}
