package contract

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
)

// encode returns a result in the format of a version.
func encode(result *cni.Result, version string) (json.RawMessage, error) {
	converted, err := result.GetAsVersion(version)
	if err != nil {
		return nil, err
	}
	return json.Marshal(converted)
}

// shifted returns the address that is n places further.
func shifted(ip net.IP, by int) net.IP {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return ip
	}
	addr = addr.Unmap()
	for range by {
		addr = addr.Next()
	}
	return addr.AsSlice()
}

// laterPlugin changes a pod as a later plugin of the chain may: it adds a route. It returns the result that such a
// plugin would print.
func (b *bench) laterPlugin(ctx context.Context, p *pod, result *cni.Result) (*cni.Result, error) {
	for _, ip := range result.IPs {
		gateway, ok := netip.AddrFromSlice(ip.Gateway)
		if !ok {
			continue
		}
		network := netip.MustParsePrefix("198.18.0.0/24")
		if gateway = gateway.Unmap(); gateway.Is6() {
			network = netip.MustParsePrefix("2001:db8:8::/64")
		}
		if err := b.node.Agent.AddRoute(ctx, agent.WayArgs{
			Netns: p.netns, Destination: network, Gateway: gateway,
		}); err != nil {
			return nil, err
		}
		result.Routes = append(result.Routes, &types.Route{Dst: ipNet(network), GW: gateway.AsSlice()})
		return result, nil
	}
	return nil, notApplicable("no address of the result has a gateway to lead a further route to")
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
