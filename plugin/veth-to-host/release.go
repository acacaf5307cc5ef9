package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/netfilter"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// release removes everything that an attachment has, its record last.
func release(host *kernel.Namespace, s *store, e entry) error {
	if err := detach(host, s, e); err != nil {
		return err
	}
	return s.Remove(e.Attachment)
}

// detach removes everything that an attachment has in its pod and on the node, except for its record. After an error it
// goes on, to remove as much as it can.
func detach(host *kernel.Namespace, s *store, e entry) error {
	sockets := &lateSockets{}
	// The link goes last, since the kernel takes the time for it that the tables take, too. It is down before its guard
	// is removed, so that the pod cannot send without.
	errs := []error{
		disconnectPod(host, s, e, sockets), bringDown(host, e.State.Veth), removeFromNodeTable(s, e, sockets),
		removeRecorded(host, e.State), removeShared(host, s, e.State.Mark, e.Attachment),
	}
	// Another attachment may have the address by now, with its own connections.
	gone, err := unheld(s, e.State.Addresses, e.Attachment)
	return errors.Join(append(errs, err, netfilter.FlushConnections(gone...), sockets.Close())...)
}

// unheld returns the addresses that no other record contains.
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

// syncNodeTable rebuilds the node's table from the records, or removes it if there are none.
func syncNodeTable(entries []entry) error {
	conn, err := nftables.New(nftables.WithSockOptions(roomy))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := newNodeTable(entries)
	if len(entries) == 0 {
		return t.remove(conn)
	}
	return t.ensure(conn)
}

// roomy makes room for a transaction that is as long as the table of a node with ten thousand pods. By default the
// kernel refuses the one of five hundred.
func roomy(socket *mdlayher.Conn) error {
	_ = socket.SetWriteBuffer(16 << 20) // the transaction says if it is too long nevertheless
	return nil
}

// disconnectPod removes an attachment's objects from its pod if the namespace is still that of the pod: the path may
// belong to another namespace by now, which the hardware address of a link shows.
func disconnectPod(host *kernel.Namespace, s *store, e entry, sockets *lateSockets) error {
	if e.State.Netns == "" {
		return nil
	}
	pod, err := kernel.Open(e.State.Netns)
	switch {
	case kernel.Exhausted(err):
		return err
	case err != nil:
		return nil // the namespace is gone with everything in it
	}
	defer pod.Close()
	if pod.Is(host) {
		return nil
	}
	a := e.State
	if !isAt(pod, a.Link, a.LinkMAC) && !isAt(pod, a.Veth.Pod, a.Veth.PodMAC) {
		return nil
	}
	conn, err := sockets.open(nftables.WithNetNSFd(pod.Fd()))
	if err != nil {
		return fmt.Errorf("in the pod: %w", err)
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

// disconnectPodRoutes removes the attachment's routes and restores the routes that they replaced.
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
		// Append, do not replace: the pod's other attachments have routes to the same destinations. If the link is down
		// or the route to the next hop is missing, this one cannot be restored either.
		err := pod.RouteAppend(r.netlink(index))
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENETUNREACH) &&
			!errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.EHOSTUNREACH) {
			errs = append(errs, fmt.Errorf("route %s in the pod: %w", r, err))
		}
	}
	return errors.Join(errs...)
}

// restorePodSysctls restores the previous values of settings, except those that another attachment of the pod needs.
func restorePodSysctls(pod *kernel.Namespace, inPod []entry, a attachment) error {
	needed := func(s podSysctl) bool {
		return slices.ContainsFunc(inPod, func(other entry) bool {
			return other.State.Netns == a.Netns && slices.ContainsFunc(other.State.Pod.Sysctls, func(o podSysctl) bool {
				return o.Link == s.Link && o.Sysctl == s.Sysctl
			})
		})
	}
	var errs []error
	for _, s := range a.Pod.Sysctls {
		if s.Old == "" || needed(s) {
			continue
		}
		err := pod.EnsureSysctl(s.Link, kernel.Sysctl{Family: s.Family, Key: s.Key, Value: s.Old})
		if err != nil && !errors.Is(err, kernel.ErrNoSysctl) {
			errs = append(errs, fmt.Errorf("sysctl %s.%s.%s=%s in the pod: %w", s.Family, s.Link, s.Key, s.Old, err))
		}
	}
	return errors.Join(errs...)
}
