package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/netfilter"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// release removes all state of an attachment on the node, and its record last.
func release(host *kernel.Namespace, s *store, e entry) error {
	if err := detach(host, s, e); err != nil {
		return err
	}
	return s.Remove(e.Attachment)
}

// detach removes the state of an attachment on the node, but not its record. State in the pod is removed with the veth.
// A runtime may delete an old attachment after its address was given to a new one.
func detach(host *kernel.Namespace, s *store, e entry) error {
	err := removeVeth(host, e.Attachment, e.State.Veth.Host)
	if e.State.PodTable != 0 {
		err = errors.Join(err, forgetInPod(host, e.State.Netns, e.State.Address))
	}
	newer, newerErr := hasNewerOwner(s, e)
	if err = errors.Join(err, newerErr); newer || newerErr != nil {
		return err
	}
	return errors.Join(err, forget(host, e.State.Address))
}

// removeUnrecorded removes the state that an attachment without a record may have: a link of that name, and rules for
// the addresses behind it and for those that prevResult or ipamd names. An address in a record belongs to another
// attachment by now.
func removeUnrecorded(host *kernel.Namespace, s *store, a record.Attachment, name string, had ...netip.Addr) error {
	link, err := findVeth(host, a, name)
	if err != nil {
		return err
	}
	if link != nil {
		h, err := readHostSide(host)
		if err != nil {
			return err
		}
		had = append(had, h.addressesBehind(link)...)
	}
	// Remove the rules first: the next call finds them by the link.
	var errs []error
	for _, ip := range had {
		held, err := isHeld(s, ip)
		if err == nil && !held {
			err = forget(host, ip)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return removeVeth(host, a, name)
}

// forget removes the rules and the tracked connections of an address that no pod has. Otherwise the next pod with this
// address gets packets that were meant for the last one.
func forget(host *kernel.Namespace, ip netip.Addr) error {
	return errors.Join(deleteRules(host, ip), netfilter.FlushConnections(ip))
}

// findVeth returns an attachment's link on the node, or nil if there is none. A link of that name that somebody else
// has made has neither its hardware address nor its alias.
func findVeth(host *kernel.Namespace, a record.Attachment, name string) (netlink.Link, error) {
	link, err := host.LinkByName(name)
	if kernel.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	id := identity{a}
	alias := link.Attrs().Alias
	own := hasMAC(link, id.mac("host")) || alias != "" && alias == id.alias()
	if link.Type() != "veth" || !own {
		return nil, nil
	}
	return link, nil
}

// removeVeth removes both ends of an attachment's veth, with their routes and neighbours but not their rules.
func removeVeth(host *kernel.Namespace, a record.Attachment, name string) error {
	link, err := findVeth(host, a, name)
	if link == nil || err != nil {
		return err
	}
	if err := host.LinkDel(link); err != nil {
		// It may have been removed with the pod's namespace.
		if _, still := host.LinkByName(name); !kernel.IsNotFound(still) {
			return fmt.Errorf("link %s: delete: %w", name, err)
		}
	}
	return nil
}
