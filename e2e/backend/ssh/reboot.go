package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// rebootTimeout bounds how long a machine may take until it answers again.
const rebootTimeout = 5 * time.Minute

// Reboot reboots the machine and makes it a node again, with what was written on the disk of the node.
func (l *lab) Reboot(ctx context.Context, node *cluster.Node) error {
	i := slices.Index(l.nodes, node)
	if i < 0 {
		return fmt.Errorf("reboot %s: no such node", node.Name)
	}
	m := l.backend.machines[i]
	if len(l.backend.options.Reboot) == 0 {
		return fmt.Errorf("reboot %s: %s must not be rebooted", node.Name, m.name)
	}
	disk, err := node.Agent.Disk(ctx)
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	if err := m.reboot(ctx, l.backend.options.Reboot); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	again, err := l.startNode(ctx, i, disk)
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	*node = *again
	if err := l.routePods(ctx); err != nil {
		return err
	}
	return l.startTarget(ctx, node)
}

// reboot runs the command and connects anew once the machine was away.
func (m *machine) reboot(ctx context.Context, command []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, rebootTimeout, fmt.Errorf("%s: does not answer %s after its reboot", m.name, rebootTimeout))
	defer cancel()
	if err := m.keeper.Run(ctx, command); err != nil {
		return err
	}
	select {
	case <-m.keeper.Ended():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	_ = m.close()
	for {
		err := m.connect(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(time.Second):
		}
	}
}
