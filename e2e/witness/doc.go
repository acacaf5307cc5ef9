// Package witness asks a kernel what it did with packets: which netfilter rule dropped or translated one, which of its
// error counters grew, and by which policy rule and route it would send one.
//
// It changes nothing that affects packets, and does not judge: package e2e makes sentences of its answers. A network
// namespace shows only what the kernel did in that namespace; a packet that a device or a link lost is recorded
// nowhere.
//
// Run its tests: sudo go test ./e2e/witness
package witness

import (
	"fmt"

	"github.com/containernetworking/plugins/pkg/ns"
)

// within calls f in the network namespace at a path; an empty path is the caller's own.
func within(netns string, f func() error) error {
	if netns == "" {
		return f()
	}
	if err := ns.WithNetNSPath(netns, func(ns.NetNS) error { return f() }); err != nil {
		return fmt.Errorf("network namespace %q: %w", netns, err)
	}
	return nil
}
