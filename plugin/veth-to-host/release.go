package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/netfilter"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// release removes all that an attachment has, and its record last.
func release(host *kernel.Namespace, s *store, e entry) error {
	if err := detach(host, s, e); err != nil {
		return err
	}
	return s.Remove(e.Attachment)
}

// detach removes what an attachment has in its pod and on the node, but not its record. It goes on after an error, to
// remove as much as it can.
func detach(host *kernel.Namespace, s *store, e entry) error {
	errs := []error{
		disconnectPod(host, s, e), removeVeth(host, e.State.Veth), removeShared(host, s, e.State.Mark, e.Attachment),
		removeFromNodeTable(s, e),
	}
	// Another attachment may have the address by now, and connections of its own.
	gone, err := unheld(s, e.State.Addresses, e.Attachment)
	return errors.Join(append(errs, err, netfilter.FlushConnections(gone...))...)
}

// unheld returns which addresses no other record holds.
func unheld(s *store, addrs []netip.Addr, of record.Attachment) ([]netip.Addr, error) {
	var gone []netip.Addr
	for _, ip := range addrs {
		other, err := s.Other(addressKey(ip), of)
		if err != nil {
			return nil, err
		}
		if other == nil {
			gone = append(gone, ip)
		}
	}
	return gone, nil
}

// syncNodeTable makes the node's table what the records say, or removes it where there are none.
func syncNodeTable(entries []entry) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := newNodeTable(entries)
	if len(entries) == 0 {
		return t.remove(conn)
	}
	return t.ensure(conn)
}

// disconnectPod takes an attachment's things back from its pod, if it is still the same pod: a namespace of that path
// may belong to another by now, and the hardware address of a link tells.
func disconnectPod(host *kernel.Namespace, s *store, e entry) error {
	if e.State.Netns == "" {
		return nil
	}
	pod, err := verb.OpenPod(host, e.State.Netns)
	if err != nil {
		return nil // gone, and all that was in it
	}
	defer pod.Close()
	a := e.State
	if !isAt(pod, a.Link, a.LinkMAC) && !isAt(pod, a.Veth.Pod, a.Veth.PodMAC) {
		return nil
	}
	conn, err := nftables.New(nftables.WithNetNSFd(pod.Fd()))
	if err != nil {
		return fmt.Errorf("nftables in the pod: %w", err)
	}
	inPod, err := others(s, netnsKey(a.Netns), e.Attachment)
	errs := []error{err, newPodTable(e.IfName, a).remove(conn)}
	rules, err := pod.Rules()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, rule := range rules {
		if slices.ContainsFunc(a.podRules(), func(r kernel.Rule) bool { return r.Matches(rule) }) {
			errs = append(errs, pod.DeleteRule(rule))
		}
	}
	errs = append(errs, disconnectPodRoutes(pod, a), restorePodSysctls(pod, inPod, a))
	return errors.Join(errs...)
}

func isAt(pod *kernel.Namespace, name, mac string) bool {
	link, err := pod.LinkByName(name)
	return err == nil && link.Attrs().HardwareAddr.String() == mac
}

// disconnectPodRoutes removes the attachment's routes and puts back what they replaced.
func disconnectPodRoutes(pod *kernel.Namespace, a attachment) error {
	all, err := readRoutes(pod)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range slices.Backward(a.Pod.Routes) {
		errs = append(errs, all.delete(r))
	}
	for _, r := range a.Pod.Replaced {
		index, ok := all.indexes[r.Link]
		if !ok || all.has(r) {
			continue
		}
		// Not in place of another: the pod's other attachments have routes to the same destinations. A link that is
		// down, or has lost the route to the next hop, takes this one as little as any other.
		err := pod.RouteAppend(r.netlink(index))
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENETUNREACH) &&
			!errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.EHOSTUNREACH) {
			errs = append(errs, fmt.Errorf("route %s in the pod: %w", r, err))
		}
	}
	return errors.Join(errs...)
}

// restorePodSysctls puts back the values that settings had, but for those that another attachment of the pod needs.
func restorePodSysctls(pod *kernel.Namespace, inPod []entry, a attachment) error {
	needed := func(s podSysctl) bool {
		return slices.ContainsFunc(inPod, func(other entry) bool {
			return other.State.Netns == a.Netns && slices.ContainsFunc(other.State.Pod.Sysctls, func(o podSysctl) bool {
				return o.Link == s.Link && o.Sysctl == s.Sysctl
			})
		})
	}
	return pod.Do(func() error {
		var errs []error
		for _, s := range a.Pod.Sysctls {
			if s.Old == "" || needed(s) {
				continue
			}
			err := kernel.EnsureSysctl(s.Link, kernel.Sysctl{Family: s.Family, Key: s.Key, Value: s.Old})
			if err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
				errs = append(errs, fmt.Errorf("sysctl %s.%s.%s=%s in the pod: %w", s.Family, s.Link, s.Key, s.Old,
					err))
			}
		}
		return errors.Join(errs...)
	})
}
