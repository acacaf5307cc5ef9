package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/internal/keeper"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// rebootTimeout limits how long a machine may take until it answers again.
const rebootTimeout = 5 * time.Minute

// Reboot reboots the machine and prepares it as a node again, with the files that were written on the node's disk.
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
	if err := l.addRoutes(ctx); err != nil {
		return err
	}
	return cluster.StartTarget(ctx, l.req.Target, node)
}

// reboot runs the command and connects again when the machine has booted and has the network that it had before.
func (m *machine) reboot(ctx context.Context, command []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, rebootTimeout, fmt.Errorf("%s: not back from %q within %s", m.name,
		strings.Join(command, " "), rebootTimeout))
	defer cancel()
	links := m.links
	boot, err := m.keeper.BootID(ctx)
	if err != nil {
		return err
	}
	if err := m.keeper.Run(ctx, command); err != nil && !errors.Is(err, keeper.ErrLost) {
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
			if err = m.isBack(ctx, boot, links); err == nil {
				return nil
			}
			_ = m.close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(time.Second):
		}
	}
}

// isBack returns an error that says what a machine still lacks after its reboot. Anything that appears later would be
// attributed to the run, and removed.
func (m *machine) isBack(ctx context.Context, boot string, links []agent.Link) error {
	now, err := m.keeper.BootID(ctx)
	switch {
	case err != nil:
		return err
	case now == boot:
		return fmt.Errorf("%s: it has not rebooted", m.name)
	}
	for _, was := range links {
		back := slices.ContainsFunc(m.links, func(l agent.Link) bool {
			return l.Name == was.Name && l.Up == was.Up && slices.Equal(l.Addresses, was.Addresses)
		})
		if !back {
			return fmt.Errorf("%s: %s with %v is not there yet", m.name, was.Name, was.Addresses)
		}
	}
	return nil
}
