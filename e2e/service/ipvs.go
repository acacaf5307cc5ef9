package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/sysctl"
)

// ipvsDevice is the dummy that has the cluster IPs, as in kube-proxy. It stays down: the kernel takes packets to its
// addresses in nevertheless, and that is where IPVS balances them.
const ipvsDevice = "kube-ipvs0"

// virtualServer is an address that IPVS balances.
type virtualServer struct {
	protocol string
	at       netip.AddrPort
}

// virtualServers maps each to its endpoints.
type virtualServers map[virtualServer][]netip.AddrPort

// programIPVS changes what differs, so that connections to other services go on.
func programIPVS(_ context.Context, families []family) error {
	serving := slices.ContainsFunc(families, func(f family) bool { return !f.isEmpty() })
	if !hasIPVS() {
		if !serving {
			return nil
		}
		return errors.New("ipvs: this kernel lacks IPVS")
	}
	if err := replaceTables(families, (*table).programIPVS); err != nil {
		return err
	}
	for _, name := range ipvsSettings() {
		if err := sysctl.Set(sysctl.Root+name, "1"); err != nil {
			return fmt.Errorf("ipvs: %w", err)
		}
	}
	nodes, err := nodeAddresses()
	if err != nil {
		return fmt.Errorf("ipvs: addresses of the node: %w", err)
	}
	wanted := virtualServers{}
	var clusterIPs []netip.Addr
	for _, f := range families {
		wanted.add(f, nodes)
		for _, p := range f.ports {
			clusterIPs = append(clusterIPs, p.clusterIP)
		}
	}
	if err := bind(clusterIPs); err != nil {
		return fmt.Errorf("ipvs: link %s: %w", ipvsDevice, err)
	}
	if err := wanted.balance(); err != nil {
		return fmt.Errorf("ipvs: %w", err)
	}
	return nil
}

// hasIPVS asks the kernel, which loads the module.
func hasIPVS() bool {
	_, err := netlink.GenlFamilyGet("IPVS")
	return err == nil
}

// ipvsSettings are those that kube-proxy turns on: packets that IPVS sends on pass NAT, so that they can be
// masqueraded (netfilter/ipvs/ip_vs_nfct.c), and connections to endpoints that are gone end.
func ipvsSettings() []string {
	return []string{
		"/ipv4/vs/conntrack", "/ipv4/vs/expire_nodest_conn", "/ipv4/vs/expire_quiescent_template",
	}
}

// nodeAddresses returns the addresses that may answer on node ports.
func nodeAddresses() (all []netip.Addr, err error) {
	device := 0
	link, err := netlink.LinkByName(ipvsDevice)
	if missing := (netlink.LinkNotFoundError{}); err != nil && !errors.As(err, &missing) {
		return nil, err
	}
	if err == nil {
		device = link.Attrs().Index
	}
	list, err := netlinksafe.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && a.LinkIndex != device && a.IP.IsGlobalUnicast() {
			all = append(all, addr.Unmap())
		}
	}
	return all, nil
}

// add adds the services of a family, on a node with these addresses.
func (v virtualServers) add(f family, nodes []netip.Addr) {
	if f.restricted {
		nodes = f.nodePortAddresses
	}
	for _, p := range f.ports {
		v[virtualServer{p.protocol, netip.AddrPortFrom(p.clusterIP, p.port)}] = addrPorts(p.endpoints)
		if p.nodePort == 0 {
			continue
		}
		// As in kube-proxy: without endpoints on this node a node port of policy Local leads to those of others.
		endpoints := p.endpoints
		if p.needsLocal() {
			endpoints = p.local
		}
		for _, a := range nodes {
			if a.Is6() == f.ipv6 {
				v[virtualServer{p.protocol, netip.AddrPortFrom(a, p.nodePort)}] = addrPorts(endpoints)
			}
		}
	}
}

func addrPorts(endpoints []Endpoint) (all []netip.AddrPort) {
	for _, e := range endpoints {
		all = append(all, netip.AddrPortFrom(e.Address, e.Port))
	}
	return all
}

// bind gives the device exactly these addresses. Without any it removes the device.
func bind(wanted []netip.Addr) error {
	link, err := netlink.LinkByName(ipvsDevice)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing) && len(wanted) == 0:
		return nil
	case errors.As(err, &missing):
		attrs := netlink.NewLinkAttrs()
		attrs.Name = ipvsDevice
		if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			return err
		}
		link, err = netlink.LinkByName(ipvsDevice)
	case err == nil && len(wanted) == 0:
		return netlink.LinkDel(link)
	}
	if err != nil {
		return err
	}
	has, err := netlinksafe.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range has {
		if addr, _ := netip.AddrFromSlice(a.IP); !slices.Contains(wanted, addr.Unmap()) {
			if err := netlink.AddrDel(link, &a); err != nil {
				return fmt.Errorf("address %s: %w", a.IP, err)
			}
		}
	}
	for _, a := range wanted {
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: netipx.PrefixIPNet(host(a))}); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}

// balance makes IPVS balance exactly these. All virtual servers of the namespace are ours, as they are kube-proxy's.
func (v virtualServers) balance() error {
	h, err := ipvs.New("")
	if err != nil {
		return err
	}
	defer h.Close()
	have, err := h.GetServices()
	if err != nil {
		return fmt.Errorf("list virtual servers: %w", err)
	}
	missing := maps.Clone(v)
	for _, s := range have {
		at := virtualServer{protocolName(s.Protocol), addrPort(s.Address, s.Port)}
		endpoints, wanted := v[at]
		if !wanted {
			if err := h.DelService(s); err != nil {
				return fmt.Errorf("delete virtual server %s: %w", at, err)
			}
			continue
		}
		if err := at.lead(h, endpoints); err != nil {
			return err
		}
		delete(missing, at)
	}
	for at, endpoints := range missing {
		if err := h.NewService(at.ipvs()); err != nil {
			return fmt.Errorf("add virtual server %s: %w", at, err)
		}
		if err := at.lead(h, endpoints); err != nil {
			return err
		}
	}
	return nil
}

// lead gives a virtual server exactly these endpoints.
func (s virtualServer) lead(h *ipvs.Handle, wanted []netip.AddrPort) error {
	have, err := h.GetDestinations(s.ipvs())
	if err != nil {
		return fmt.Errorf("list endpoints of virtual server %s: %w", s, err)
	}
	var kept []netip.AddrPort
	for _, d := range have {
		at := addrPort(d.Address, d.Port)
		if slices.Contains(wanted, at) {
			kept = append(kept, at)
			continue
		}
		if err := h.DelDestination(s.ipvs(), d); err != nil {
			return fmt.Errorf("delete endpoint %s of virtual server %s: %w", at, s, err)
		}
	}
	for _, at := range wanted {
		if slices.Contains(kept, at) {
			continue
		}
		if err := h.NewDestination(s.ipvs(), &ipvs.Destination{
			Address: at.Addr().AsSlice(), Port: at.Port(), Weight: 1, ConnectionFlags: ipvs.ConnectionFlagMasq,
		}); err != nil {
			return fmt.Errorf("add endpoint %s to virtual server %s: %w", at, s, err)
		}
		kept = append(kept, at)
	}
	return nil
}

func (s virtualServer) String() string { return s.protocol + " " + s.at.String() }

// ipvs returns the virtual server as IPVS has it, with kube-proxy's default scheduler.
func (s virtualServer) ipvs() *ipvs.Service {
	service := &ipvs.Service{
		Address: s.at.Addr().AsSlice(), Port: s.at.Port(), Protocol: uint16(protocolNumber(s.protocol)[0]),
		SchedName: ipvs.RoundRobin, AddressFamily: unix.AF_INET, Netmask: 0xffffffff,
	}
	if s.at.Addr().Is6() {
		service.AddressFamily, service.Netmask = unix.AF_INET6, 128
	}
	return service
}

func protocolName(number uint16) string {
	if number == unix.IPPROTO_UDP {
		return UDP
	}
	return TCP
}
