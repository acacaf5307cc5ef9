package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// hostRoutes are the node's routes to pods over one child, and the permanent neighbours behind them, as listed once.
// With these neighbours the node never asks for a pod with a broadcast. Such a broadcast would come from the node's
// address with the child's hardware address, and the whole LAN would learn that.
type hostRoutes struct {
	host       *kernel.Namespace
	link       netlink.Link
	listed     map[netip.Addr][]netlink.Route // by destination, on all links
	neighbours map[netip.Addr]net.HardwareAddr
}

func readHostRoutes(host *kernel.Namespace, link netlink.Link) (*hostRoutes, error) {
	routes, err := host.MainRoutes()
	if err != nil {
		return nil, err
	}
	h := &hostRoutes{host: host, link: link, listed: map[netip.Addr][]netlink.Route{}}
	for _, route := range routes {
		if dst, ok := kernel.Destination(route); ok && dst.IsSingleIP() {
			h.listed[dst.Addr()] = append(h.listed[dst.Addr()], route)
		}
	}
	h.neighbours, err = host.Permanent(link.Attrs().Index)
	return h, err
}

func (h *hostRoutes) want(ip, source netip.Addr) kernel.HostRoute {
	return kernel.HostRoute{Dst: ip, Link: h.link.Attrs().Index, Src: source}
}

// ensure makes sure of the neighbour and then of the route of one address: with the route alone, the first packet would
// be that broadcast.
func (h *hostRoutes) ensure(addr address, source netip.Addr) error {
	mac, err := net.ParseMAC(addr.MAC)
	if err != nil {
		return fmt.Errorf("address %s: %w", addr.IP, err)
	}
	if err := h.host.EnsureNeighbour(h.link.Attrs().Index, addr.IP, mac, h.neighbours); err != nil {
		return err
	}
	return h.host.EnsureRoute(h.want(addr.IP, source), h.listed[addr.IP])
}

// sweep removes routes and neighbours that no record names.
func (h *hostRoutes) sweep(entries []entry) error {
	held := map[netip.Addr]bool{}
	for _, e := range entries {
		for _, addr := range e.State.Addresses {
			held[addr.IP] = held[addr.IP] || e.State.Child == h.link.Attrs().Name
		}
	}
	var errs []error
	for ip, routes := range h.listed {
		for _, route := range routes {
			if !held[ip] && route.LinkIndex == h.link.Attrs().Index {
				errs = append(errs, h.host.DeleteRoute(route))
			}
		}
	}
	for ip := range h.neighbours {
		if !held[ip] {
			errs = append(errs, h.host.DeleteNeighbour(h.link.Attrs().Index, ip))
		}
	}
	return errors.Join(errs...)
}

// restore restores routes and neighbours that somebody has removed from the recorded attachments of a child: the routes
// of all pods are deleted when the child goes down or the master's address is removed. If one cannot be restored, the
// others are restored nevertheless and the call goes on.
func (h *hostRoutes) restore(n *node, entries []entry) {
	done := map[netip.Addr]bool{}
	for _, e := range slices.Backward(entries) { // the newest owns an address
		for _, addr := range e.State.Addresses {
			if done[addr.IP] {
				continue
			}
			done[addr.IP] = true
			if e.State.Child != h.link.Attrs().Name {
				continue
			}
			if err := h.ensure(addr, n.source(addr.IP)); err != nil {
				log.Printf("attachment %s: restore: %v", e.Attachment, err)
			}
		}
	}
}

// restoreLost restores what other attachments have lost if there is a sign of a loss: the child was newly made, or some
// pod's routes are missing. Such a loss affects a whole group of routes, so restoreLost checks one pod of each group.
// Only CHECK of its pod and GC notice that a single route was removed.
func restoreLost(host *kernel.Namespace, s *store, n *node, link netlink.Link, created bool, e entry) error {
	lost := created
	keys, err := groups(s, e.State.Child)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if lost {
			break
		}
		witness, err := s.Other(key, e.Attachment)
		if err != nil {
			return err
		}
		if witness == nil {
			continue
		}
		if lost, err = hasLost(host, n, link, *witness); err != nil {
			return err
		}
	}
	if !lost {
		return nil
	}
	entries, _, err := s.List()
	if err != nil {
		return err
	}
	h, err := readHostRoutes(host, link)
	if err != nil {
		return err
	}
	h.restore(n, record.Without(entries, e.Attachment))
	return nil
}

// hasLost reports whether an attachment lacks a route or a neighbour. It lists nothing.
func hasLost(host *kernel.Namespace, n *node, link netlink.Link, e entry) (bool, error) {
	h := &hostRoutes{host: host, link: link}
	for _, addr := range e.State.Addresses {
		stands, err := h.stands(addr, n.source(addr.IP))
		if err != nil || !stands {
			return true, err
		}
	}
	return false, nil
}

// stands reports whether the route and the neighbour of an address exist.
func (h *hostRoutes) stands(addr address, source netip.Addr) (bool, error) {
	index := h.link.Attrs().Index
	route, err := h.host.RouteTo(addr.IP, index)
	if err != nil || route == nil || !h.want(addr.IP, source).Matches(*route) {
		return false, err
	}
	mac, err := h.host.Neighbour(index, addr.IP)
	return mac.String() == addr.MAC, err
}

// detach removes the state of an attachment on the node and in its pod, but not its record. Routes to addresses of a
// newer record stay: a runtime may delete an old attachment after its address was given to a new one.
func detach(host *kernel.Namespace, s *store, e entry) error {
	link, err := linkOf(host, e.State.Child)
	if err != nil {
		return err
	}
	errs := []error{removePodRoutes(host, e.State)}
	if link == nil {
		return errors.Join(errs...)
	}
	for _, addr := range e.State.Addresses {
		newer, err := newerOwner(s, e, addr.IP)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if newer == nil || newer.State.Child != e.State.Child {
			errs = append(errs, remove(host, link, addr.IP))
		}
	}
	return errors.Join(errs...)
}

// remove removes the routes over the child to an address, and then its neighbour.
func remove(host *kernel.Namespace, link netlink.Link, ip netip.Addr) error {
	index := link.Attrs().Index
	return errors.Join(host.DeleteRoutesTo(ip, index), host.DeleteNeighbour(index, ip))
}

// supersede removes the addresses of e from older records: their attachments have lost these addresses, so nothing may
// restore the routes when e is gone.
func supersede(host *kernel.Namespace, s *store, e entry) error {
	for _, addr := range e.State.Addresses {
		holders, err := s.Holders(addressKey(addr.IP))
		if err != nil {
			return err
		}
		for _, old := range holders {
			if old.Attachment == e.Attachment || old.Sequence > e.Sequence {
				continue
			}
			if err := lose(host, s, old, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// lose removes the addresses of e from an older record.
func lose(host *kernel.Namespace, s *store, old, e entry) error {
	lost := old
	lost.State.Addresses, lost.State.PodRoutes = nil, nil
	kept := old.State.Addresses[:0:0]
	for _, addr := range old.State.Addresses {
		if e.State.has(addr.IP) {
			lost.State.Addresses = append(lost.State.Addresses, addr)
		} else {
			kept = append(kept, addr)
		}
	}
	if err := detach(host, s, lost); err != nil {
		return err
	}
	old.State.Addresses = kept
	return s.Save(old)
}

// release removes all that an attachment has, and its record last.
func release(host *kernel.Namespace, s *store, e entry) error {
	if err := supersede(host, s, e); err != nil {
		return err
	}
	if err := detach(host, s, e); err != nil {
		return err
	}
	return s.Remove(e.Attachment)
}
