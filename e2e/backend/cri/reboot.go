package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// Reboot reboots a node. Its containerd is killed, and starts again with its root directory as it was then: the
// sandboxes that it knows have neither processes nor network namespaces.
func (l *lab) Reboot(ctx context.Context, node *cluster.Node) error {
	c := l.runtimeOf(node)
	if err := c.Kill(ctx); err != nil {
		return err
	}
	// No snapshot of the node has that directory.
	disk, err := tar(ctx, nil, "-c", "-C", l.PathTo(&node.Place, rootDir), ".")
	if err != nil {
		return fmt.Errorf("%s: %s: %w", node.Name, rootDir, err)
	}
	c.close()
	if err := l.Lab.Reboot(ctx, node); err != nil {
		return err
	}
	if _, err := tar(ctx, disk, "-x", "-C", l.PathTo(&node.Place, rootDir)); err != nil {
		return fmt.Errorf("%s: %s: %w", node.Name, rootDir, err)
	}
	if err := node.Agent.InstallStubs(ctx); err != nil {
		return err
	}
	if err := c.boot(ctx); err != nil {
		return fmt.Errorf("%s: %w", node.Name, err)
	}
	return nil
}

// tar runs tar(1), which keeps owners, modes and links.
func tar(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "tar", append(args, "--xattrs", "--numeric-owner")...)
	var says strings.Builder
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &says
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, &cluster.UnfitError{Reason: "a node with containerd is rebooted with tar: install it", Lacks: "tar"}
	case err != nil:
		return nil, fmt.Errorf("tar: %w: %s", err, strings.TrimSpace(says.String()))
	}
	return out, nil
}
