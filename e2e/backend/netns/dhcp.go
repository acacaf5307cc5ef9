package netns

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/lab/dhcp"
)

// DefaultLease is the duration of a lease of the lab's DHCP server if the request does not name one.
const DefaultLease = 20 * time.Second

// leases reports whether pods get their addresses from a DHCP server on the lab's router.
func (l *lab) leases() bool { return len(l.plan.Leases) > 0 }

// startDHCP starts the server on the router.
func (l *lab) startDHCP(ctx context.Context) error {
	config := dhcp.Config{
		Interface: "eth0", Pool: l.plan.Leases, Life: cmp.Or(l.req.Lease, DefaultLease), Domain: "lab.example",
	}
	for _, router := range l.plan.Router {
		if router.Addr().Is4() && router.Contains(l.plan.Leases[0]) {
			config.Server, config.Router, config.DNS = router, router.Addr(), []netip.Addr{router.Addr()}
			break
		}
	}
	return l.fabric.agent.ServeDHCP(ctx, agent.DHCPArgs{Netns: agent.NamespacePath("router"), Config: config})
}

// Leases returns the leases that clients of the lab's DHCP server requested and released.
func (l *lab) Leases(ctx context.Context) ([]dhcp.Lease, error) {
	if !l.leases() {
		return nil, errors.New("the lab has no DHCP server: the IPAM plugin of the conflist is not dhcp")
	}
	return l.fabric.agent.Leases(ctx)
}
