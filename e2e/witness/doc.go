// Package witness asks a kernel what it did with packets: which rule of its netfilter dropped or translated one, which
// of its error counters grew, and by which policy rule and route it would send one on.
//
// It changes nothing that decides about packets, and judges nothing: package e2e makes sentences of what it says. What
// a network namespace shows is the kernel's word about that namespace only; a packet that a device or a wire lost
// leaves no word anywhere.
//
// Run its tests: sudo go test ./e2e/witness
package witness

import (
	"fmt"

	"github.com/containernetworking/plugins/pkg/ns"
)

// within calls f in the network namespace at a path; empty is the caller's own.
func within(netns string, f func() error) error {
	if netns == "" {
		return f()
	}
	if err := ns.WithNetNSPath(netns, func(ns.NetNS) error { return f() }); err != nil {
		return fmt.Errorf("network namespace %q: %w", netns, err)
	}
	return nil
}
