package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

func cmdAdd(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	call, err := verb.Open(&conf.Config, args)
	if err != nil {
		return err
	}
	defer call.Close()
	c, err := conf.child(call.Host)
	if err != nil {
		return chain.BadConfig("%w", err)
	}
	addrs, err := readAddresses(call.Host, call.Pod, c, call.Prev, args.IfName)
	if err != nil {
		return err
	}
	add := &addition{Call: call, conf: conf, args: args, child: c, addrs: addrs}
	link, err := add.run()
	if err != nil {
		return err
	}
	return types.PrintResult(add.result(link), conf.Version())
}

// addition is one ADD after everything was read and before anything is changed.
type addition struct {
	*verb.Call
	conf  *config
	args  *skel.CmdArgs
	child *child
	addrs []address

	node      *node
	podRoutes []podRoute
}

func (a *addition) run() (link netlink.Link, err error) {
	s, err := openStore(true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	e, err := a.plan(s)
	if err != nil {
		return nil, err
	}
	ipv6, err := needsIPv6(s, e)
	if err != nil {
		return nil, err
	}
	if err := s.Save(e); err != nil {
		return nil, err
	}
	link, created, err := a.child.ensure(a.Host, ipv6)
	if err == nil {
		err = a.connect(s, link, created, e)
	}
	if err != nil {
		return nil, errors.Join(err, a.undo(s, link, created, e))
	}
	return link, nil
}

// plan returns the record to write. A runtime that repeats an ADD without a DEL between starts from nothing.
func (a *addition) plan(s *store) (entry, error) {
	e := entry{Attachment: a.conf.Attachment(a.args), Created: time.Now().UTC()}
	if err := e.Validate(); err != nil {
		return e, chain.BadEnvironment("CNI_CONTAINERID, CNI_IFNAME or the network's name: %w", err)
	}
	old, err := s.Load(e.Attachment)
	if err := record.UnlessCorrupt(err); err != nil {
		return e, err
	}
	if old != nil {
		if err := detach(a.Host, s, *old); err != nil {
			return e, err
		}
	}
	if a.node, err = readNode(a.Host, a.child.master, a.child.name); err != nil {
		return e, err
	}
	var holders []entry
	for i, addr := range a.addrs {
		if a.node.has(addr.IP) {
			return e,
				chain.BadConfig("address %s of the pod is an address of the node: take it out of the ranges of ipam",
					addr.IP)
		}
		a.addrs[i].Source = a.node.source(addr.IP)
		before, err := s.Holders(addressKey(addr.IP))
		if err != nil {
			return e, err
		}
		holders = append(holders, before...)
	}
	e.Sequence = record.NextSequence(holders...)
	if a.podRoutes, err = planPodRoutes(a.Pod, a.node, a.child, a.Prev, a.addrs, a.args.IfName); err != nil {
		return e, err
	}
	e.State = attachment{
		Netns: a.args.Netns, Master: a.child.master.Attrs().Name, Child: a.child.name, Addresses: a.addrs,
		PodRoutes: a.podRoutes,
	}
	return e, nil
}

// connect makes the routes of this attachment. Any route that led to its addresses before, over any link and with any
// metric, belonged to an earlier pod.
//
// Neighbours come before routes: with the route alone, the first packet would be a broadcast that claims the node's
// address.
func (a *addition) connect(s *store, link netlink.Link, created bool, e entry) error {
	if err := supersede(a.Host, s, e); err != nil {
		return err
	}
	if err := restoreLost(a.Host, s, a.node, link, created, e); err != nil {
		return err
	}
	for _, addr := range a.addrs {
		if err := a.Host.DeleteRoutesTo(addr.IP, 0); err != nil {
			return err
		}
		h := &hostRoutes{host: a.Host, link: link}
		if err := h.ensure(addr, addr.Source); err != nil {
			return err
		}
	}
	return addPodRoutes(a.Pod, a.podRoutes)
}

// undo removes everything that this ADD made, and the child if nobody uses it.
func (a *addition) undo(s *store, link netlink.Link, created bool, e entry) error {
	err := detach(a.Host, s, e)
	if created {
		other, otherErr := s.Other(childKey(a.child.name), e.Attachment)
		if err = errors.Join(err, otherErr); err == nil && other == nil {
			err = a.child.remove(a.Host, link)
		}
	}
	if err != nil {
		return fmt.Errorf("undo: %w", err) // the record stays, for DEL
	}
	return s.Remove(e.Attachment)
}

// needsIPv6 reports whether a pod behind the child of e has an IPv6 address.
func needsIPv6(s *store, e entry) (bool, error) {
	if e.State.hasIPv6() {
		return true, nil
	}
	keys, err := groups(s, e.State.Child)
	return slices.ContainsFunc(keys, func(key string) bool {
		return strings.HasPrefix(key, lostTogether(e.State.Child)+"IPv6 ")
	}), err
}

// result returns prevResult with the child and the pod's new routes at the end. At CHECK, upstream's macvlan looks for
// each route of the result in the pod's main table, where these routes are, and for each address on CNI_IFNAME, so no
// address is added.
func (a *addition) result(link netlink.Link) *current.Result {
	result := *a.Prev
	if !hasHostLink(a.Prev, a.child.name) {
		shared := &current.Interface{Name: a.child.name, Mac: link.Attrs().HardwareAddr.String()}
		if a.conf.Version() == current.ImplementedSpecVersion { // 1.0.0 has no mtu, and no priority of a route
			shared.Mtu = link.Attrs().MTU
		}
		result.Interfaces = append(result.Interfaces, shared)
	}
	for _, r := range a.podRoutes {
		route := &types.Route{Dst: *netipx.AddrIPNet(r.Dst)}
		if r.Via.IsValid() {
			route.GW = r.Via.AsSlice()
		}
		if a.conf.Version() == current.ImplementedSpecVersion {
			route.Priority = r.Metric
		}
		result.Routes = append(result.Routes, route)
	}
	return &result
}

func hasHostLink(result *current.Result, name string) bool {
	for _, link := range hostLinks(result) {
		if link == name {
			return true
		}
	}
	return false
}
