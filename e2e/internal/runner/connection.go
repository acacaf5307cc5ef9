package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/probe"
)

// join checks that the pod takes no part in connections of another pod: that its packets begin none on the node, and
// that none counts as one of the connection that the other pod has. A packet that counts also sets back the timer of
// the connection, and one with the right sequence number ends it.
func (a *assault) join(ctx context.Context) (err error) {
	trap, err := a.to.Agent.StartTrap(ctx, agent.TrapArgs{Netns: a.to.Netns, Tracks: true})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &cluster.UnfitError{Reason: fmt.Sprintf("%s cannot count packets of connections: %v", a.to.Name, err)}
	}
	defer func() {
		_, stopped := a.to.Agent.StopTrap(context.WithoutCancel(ctx), trap)
		err = errors.Join(err, stopped)
	}()
	if err := a.sendBothWays(ctx); err != nil {
		return err
	}
	begun, err := a.to.Agent.Connections(ctx, trap)
	if err != nil {
		return err
	}
	for _, c := range begun {
		if a.isOfOther(c) {
			return fmt.Errorf("%s keeps %s, which %s began with an address of %s", a.to.Name, c, a.pod.Name, a.as.Name)
		}
	}
	// The socket lets the kernel of the pod accept answers, and does not answer itself.
	other, err := a.as.Agent.StartTrap(ctx, agent.TrapArgs{Netns: a.as.Netns, Asks: a.attack.To})
	if err != nil {
		return err
	}
	defer func() {
		_, stopped := a.as.Agent.StopTrap(context.WithoutCancel(ctx), other)
		err = errors.Join(err, stopped)
	}()
	return a.joinKnown(ctx, trap)
}

// joinKnown sends what belongs to the connections that the other pod has begun.
func (a *assault) joinKnown(ctx context.Context, trap int) error {
	if err := timing.Sleep(ctx, probe.AttackSettles); err != nil {
		return err
	}
	// A node that does not track what the other pod sends keeps no connection in which somebody could take part.
	before, err := a.to.Agent.Connections(ctx, trap)
	if err != nil {
		return err
	}
	if err := a.sendBothWays(ctx); err != nil {
		return err
	}
	after, err := a.to.Agent.Connections(ctx, trap)
	if err != nil {
		return err
	}
	for _, now := range after {
		if !a.isOfOther(now) {
			continue
		}
		i := slices.IndexFunc(before, func(c probe.Connection) bool { return c.From == now.From && c.To == now.To })
		if i < 0 || before[i].Packets == 0 {
			return &cluster.UnfitError{Reason: fmt.Sprintf("%s did not count the packets of %s", a.to.Name, now)}
		}
		if now.Packets != before[i].Packets {
			return fmt.Errorf("%s counts %d packets of %s as those of %s, which %s has; what drops them comes after "+
				"connection tracking (priority -200)", a.to.Name, now.Packets-before[i].Packets, a.pod.Name, now,
				a.as.Name)
		}
	}
	return nil
}

// sendBothWays sends as the other pod to the node, and as the node to the other pod.
func (a *assault) sendBothWays(ctx context.Context) error {
	if err := a.send(ctx); err != nil {
		return err
	}
	back := *a
	back.attack.As, back.attack.To = a.attack.To, a.attack.As
	return back.send(ctx)
}

// isOfOther reports whether a connection has an address of the other pod.
func (a *assault) isOfOther(c probe.Connection) bool {
	return slices.Contains(a.attack.As, c.From.Addr()) || slices.Contains(a.attack.As, c.To.Addr())
}
