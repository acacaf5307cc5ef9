package service

import (
	"fmt"
	"slices"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
)

// kernelIPVS among the needs of a test means a kernel with IPVS; `make test-vm` has one.
const kernelIPVS = "ipvs"

// balanced returns what the dataplane ipvs makes: the nftables ruleset, the addresses of its device and the virtual
// servers with their endpoints.
func balanced() ([]string, error) {
	lines, err := listing()
	if err != nil {
		return nil, err
	}
	if link, err := netlink.LinkByName(ipvsDevice); err == nil {
		lines = append(lines, "link "+ipvsDevice)
		addresses, err := netlinksafe.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			lines = append(lines, "address "+a.IPNet.String())
		}
	}
	h, err := ipvs.New("")
	if err != nil {
		return nil, err
	}
	defer h.Close()
	servers, err := h.GetServices()
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		at := virtualServer{protocolName(s.Protocol), addrPort(s.Address, s.Port)}
		lines = append(lines, fmt.Sprintf("virtual server %s %s", at, s.SchedName))
		endpoints, err := h.GetDestinations(s)
		if err != nil {
			return nil, err
		}
		for _, d := range endpoints {
			to := addrPort(d.Address, d.Port)
			lines = append(lines, fmt.Sprintf("virtual server %s to %s, weight %d", at, to, d.Weight))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// ipvsAnswers are those of kube-proxy's mode ipvs, where they differ from the other modes: the node asks a cluster IP
// from that address, which must be masqueraded; a node port of policy Local leads to the same endpoints for
// everybody, without masquerading, and to those of other nodes if this one has none.
func ipvsAnswers() map[string]map[string]string {
	fromNode := map[string]string{"one": "10.2.1.1", "two": "10.2.2.1"}
	elsewhere := map[string]string{"two": "10.1.0.2"}
	return map[string]map[string]string{
		"cluster IP from the node":                             fromNode,
		"cluster IP from the node by UDP":                      fromNode,
		"Local node port from the node":                        {"one": "10.1.0.1"},
		"Local node port without local endpoint":               elsewhere,
		"Local node port without local endpoint by UDP":        elsewhere,
		"Local node port without local endpoint from the node": {"two": "10.1.0.1"},
	}
}
