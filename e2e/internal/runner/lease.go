package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/lab/dhcp"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const (
	// renewals is how often a lease must be renewed: a client renews after half of the lease time, so that the address
	// is valid for three lease times.
	renewals = 6
	// leasePatience is how long a client may take for what it must do at once.
	leasePatience = 10 * time.Second
)

// lease waits until the lab's DHCP server has seen what a step says about the lease of a pod's address.
func (r *Runner) lease(ctx context.Context, s scenario.Lease) error {
	leasing, ok := r.Env.Cluster.(cluster.Leasing)
	if !ok {
		return errors.New("this cluster has no DHCP server of the lab's")
	}
	return r.eachPod(ctx, s.Of, func(ctx context.Context, p *environment.Pod) error {
		return awaitLease(ctx, leasing, p, s)
	})
}

func awaitLease(ctx context.Context, leasing cluster.Leasing, p *environment.Pod, s scenario.Lease) error {
	address := p.Given(ifName(s.As))[0]
	start := time.Now()
	for {
		leases, err := leasing.Leases(ctx)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(leases, func(l dhcp.Lease) bool { return l.Address == address })
		if at < 0 {
			return fmt.Errorf("%s: ADD gave %s, which the DHCP server never gave to anybody", p.Name, address)
		}
		l := leases[at]
		switch {
		case s.Is != scenario.LeaseReleased && l.Lapses > 0:
			return fmt.Errorf("%s: the lease of %s expired after %d renewals: nobody renewed it in time", p.Name,
				address, l.Renewals)
		case s.Is != scenario.LeaseReleased && l.State != dhcp.Held:
			return fmt.Errorf("%s: the lease of %s is %s while the pod has the address", p.Name, address, l.State)
		case s.Is == scenario.LeaseHeld, s.Is == scenario.LeaseRenewed && l.Renewals >= renewals:
			return nil
		case s.Is == scenario.LeaseReleased && (l.State == dhcp.Released || l.State == dhcp.Expired):
			if l.State == dhcp.Expired {
				return fmt.Errorf("%s: the lease of %s expired after DEL: it was not released", p.Name, address)
			}
			return nil
		case s.Is == scenario.LeaseReleased && time.Since(start) > leasePatience:
			return fmt.Errorf("%s: %s is not released %s after DEL: the server keeps it until the lease ends", p.Name,
				address, leasePatience)
		}
		if err := timing.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
