package cluster

import (
	"context"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/lab/dhcp"
	"github.com/cnitest/cnitest/e2e/target"
)

// Leasing is a cluster with a DHCP server.
type Leasing interface {
	Cluster
	// Leases returns the leases of the server, in the order of its pool.
	Leases(ctx context.Context) ([]dhcp.Lease, error)
}

// WithDHCP adds to a target, which may be nil, the daemon of upstream's IPAM plugin dhcp, if the file uses that plugin
// and the target has no daemon of its own.
func WithDHCP(file *conflist.File, t *target.Target) *target.Target {
	socket, uses := file.DHCP()
	if !uses || t != nil && t.Daemon != nil {
		return t
	}
	with := target.Target{APIVersion: "cnitest/v1alpha1", Kind: target.Kind}
	if t != nil {
		with = *t
	}
	with.Daemon = &target.Daemon{
		// The daemon waits longer than runtimes do.
		Name: "dhcp", Command: []string{
			"dhcp", "daemon", "-socketpath", socket, "-timeout", "2s", "-resendmax", "1s", "-resendtimeout", "6s",
		},
		Ready: target.Ready{Socket: socket}, Owns: []string{"/run/cni"},
	}
	return &with
}
