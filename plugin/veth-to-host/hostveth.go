package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// bringDown takes the node's end of a veth down, after which nothing from the pod arrives over it. It is no error if
// the link does not exist, or is not this plugin's.
func bringDown(host *kernel.Namespace, v kernel.Veth) error {
	link, err := ownVeth(host, v)
	if err != nil || link == nil {
		return err
	}
	if err := host.LinkSetDown(link); err != nil && !kernel.IsNotFound(err) {
		return fmt.Errorf("link %s: bring down: %w", v.Host, err)
	}
	return nil
}

// ownVeth returns the node's end of a veth; nil if there is none, or if something else made a link of that name, which
// has neither this plugin's hardware address nor its rule.
func ownVeth(host *kernel.Namespace, v kernel.Veth) (netlink.Link, error) {
	link, err := host.LinkByName(v.Host)
	switch {
	case kernel.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("link %s: %w", v.Host, err)
	case link.Type() != "veth":
		return nil, nil
	case link.Attrs().HardwareAddr.String() == v.HostMAC:
		return link, nil
	}
	rules, err := host.Rules()
	if err != nil || !hasDirectRule(rules, v.Host) {
		return nil, err
	}
	return link, nil
}

// freeName reports whether a new veth can have its name on the node. It removes a veth with the same hardware address,
// which is left from an ADD whose record was lost.
func freeName(host *kernel.Namespace, v kernel.Veth) (bool, error) {
	if _, err := host.LinkByName(v.Host); kernel.IsNotFound(err) {
		return true, nil
	}
	if err := removeVeth(host, v); err != nil {
		return false, err
	}
	_, err := host.LinkByName(v.Host)
	return kernel.IsNotFound(err), nil
}

// removeVeth removes a veth and all rules of its name; the kernel removes its routes and neighbours with it.
func removeVeth(host *kernel.Namespace, v kernel.Veth) error {
	if err := removeLink(host, v); err != nil {
		return err
	}
	return host.DeleteRulesOf(v.Host, priorityDirect, priorityBack)
}

// removeRecorded removes an attachment's veth and its rules. ADD has removed all other rules of that name, so nothing
// more is looked for: the kernel goes through the rules of all pods for each that it deletes, or does not find.
func removeRecorded(host *kernel.Namespace, a attachment) error {
	if err := removeLink(host, a.Veth); err != nil {
		return err
	}
	var errs []error
	for _, r := range a.hostRules() {
		errs = append(errs, host.RemoveOneRule(r))
	}
	return errors.Join(errs...)
}

// removeLink removes a veth if it is this plugin's.
func removeLink(host *kernel.Namespace, v kernel.Veth) error {
	link, err := ownVeth(host, v)
	if err != nil || link == nil {
		return err
	}
	if err := host.LinkDel(link); err != nil {
		// The link may have vanished with the pod's namespace. Its rules, by which GC recognises it, are removed only
		// after it.
		if _, still := host.LinkByName(v.Host); !kernel.IsNotFound(still) {
			return fmt.Errorf("link %s: delete: %w", v.Host, err)
		}
	}
	return nil
}

func hasDirectRule(rules []netlink.Rule, link string) bool {
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool {
		return directRule(link, r.Family == netlink.FAMILY_V6).Matches(r)
	})
}
