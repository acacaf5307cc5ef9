package runner

import (
	"context"
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// groupOf returns the address of all machines on the network that two places share, and the device that leads to it:
// the broadcast address of the network, or the group of all nodes, which every interface joins by itself (RFC 1112, RFC
// 4291).
func groupOf(ctx context.Context, from, to *cluster.Place, target netip.Addr,
	by string,
) (group, device string, err error) {
	links, err := from.Agent.Links(ctx, from.Netns)
	if err != nil {
		return "", "", err
	}
	for _, l := range links {
		for _, network := range l.Prefixes() {
			switch {
			case !network.Contains(target) || network.IsSingleIP():
			case by == scenario.Broadcast:
				return netipx.PrefixLastIP(network.Masked()).String(), l.Name, nil
			case target.Is4():
				return "224.0.0.1", l.Name, nil
			default:
				return netip.IPv6LinkLocalAllNodes().String(), l.Name, nil
			}
		}
	}
	return "", "", fmt.Errorf("%s has no interface on a network with %s of %s", from.Name, target, to.Name)
}
