package main

import (
	"errors"
	"fmt"
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

// addition is one ADD after everything has been read and nothing changed.
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
	entries, _, err := s.List()
	if err != nil {
		return nil, err
	}
	e, err := a.plan(s, entries)
	if err != nil {
		return nil, err
	}
	entries = append(record.Without(entries, e.Attachment), e)
	if err := s.Save(e); err != nil {
		return nil, err
	}
	link, created, err := a.child.ensure(a.Host, needIPv6(entries, a.child.name))
	if err == nil {
		err = a.connect(s, link, entries, e)
	}
	if err != nil {
		return nil, errors.Join(err, a.undo(s, link, created, entries, e))
	}
	return link, nil
}

// plan returns the record to write. A runtime that repeats an ADD without a DEL between starts from nothing.
func (a *addition) plan(s *store, entries []entry) (entry, error) {
	e := entry{Attachment: a.conf.Attachment(a.args), Sequence: 1, Created: time.Now().UTC()}
	if err := e.Validate(); err != nil {
		return e, chain.BadEnvironment("CNI_CONTAINERID, CNI_IFNAME or the network's name: %w", err)
	}
	if len(entries) > 0 {
		e.Sequence = entries[len(entries)-1].Sequence + 1
	}
	for _, old := range entries {
		if old.Attachment == e.Attachment {
			if err := detach(a.Host, entries, old); err != nil {
				return e, err
			}
		}
	}
	var err error
	if a.node, err = readNode(a.Host, a.child.master, a.child.name); err != nil {
		return e, err
	}
	for _, addr := range a.addrs {
		if a.node.has(addr.IP) {
			return e, chain.BadConfig("address %s of the pod is an address of the node: take it out of the ranges of ipam", addr.IP)
		}
	}
	if a.podRoutes, err = planPodRoutes(a.Pod, a.node, a.child, a.Prev, a.addrs, a.args.IfName); err != nil {
		return e, err
	}
	e.State = attachment{
		Netns: a.args.Netns, Master: a.child.master.Attrs().Name, Child: a.child.name, Addresses: a.addrs, PodRoutes: a.podRoutes,
	}
	return e, nil
}

// connect makes the routes of this attachment, and restores those of others.
func (a *addition) connect(s *store, link netlink.Link, entries []entry, e entry) error {
	if err := supersede(a.Host, s, entries, e); err != nil {
		return err
	}
	h, err := readHostRoutes(a.Host, link)
	if err != nil {
		return err
	}
	for _, addr := range a.addrs {
		source := a.node.source(addr.IP)
		if err := h.ensure(addr, source); err != nil {
			return err
		}
		if err := h.evict(addr.IP, source); err != nil {
			return err
		}
	}
	if err := addPodRoutes(a.Pod, a.podRoutes); err != nil {
		return err
	}
	h.restore(a.node, entries)
	return nil
}

// undo takes back what this ADD did, the child too if nobody uses it.
func (a *addition) undo(s *store, link netlink.Link, created bool, entries []entry, e entry) error {
	err := detach(a.Host, entries, e)
	if created && !uses(record.Without(entries, e.Attachment), a.child.name) {
		err = errors.Join(err, a.child.remove(a.Host, link))
	}
	if err != nil {
		return fmt.Errorf("undo: %w", err) // the record stays, for DEL
	}
	return s.Remove(e.Attachment)
}

// uses reports whether a record needs the child.
func uses(entries []entry, childName string) bool {
	for _, e := range entries {
		if e.State.Child == childName {
			return true
		}
	}
	return false
}

// needIPv6 reports whether a pod behind the child has an IPv6 address.
func needIPv6(entries []entry, childName string) bool {
	for _, e := range entries {
		if e.State.Child == childName && e.State.hasIPv6() {
			return true
		}
	}
	return false
}

// result returns prevResult with the child and the pod's new routes at the end. Upstream's macvlan finds each route of
// the result in the pod's main table at CHECK, where these are, and each address on CNI_IFNAME, so none is added.
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
