package main

import (
	"errors"
	"fmt"
	"log"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// cmdGC removes what belongs to no valid attachment of the network, and a child that no record of any network uses.
// SPEC.md, GC: remove as much as possible, and report what could not be removed after that.
func cmdGC(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	s, err := openStore(false)
	if err != nil {
		return err
	}
	if s == nil && childrenExist(host, conf) {
		s, err = openStore(true) // no record at all, and a child to look at
	}
	if err != nil || s == nil {
		return err
	}
	return errors.Join(collect(host, s, conf), s.Tidy(), s.Close())
}

func childrenExist(host *kernel.Namespace, conf *config) bool {
	return slices.ContainsFunc(candidates(host, conf, nil), func(name string) bool {
		link, err := linkOf(host, name)
		return err == nil && link != nil
	})
}

func collect(host *kernel.Namespace, s *store, conf *config) error {
	entries, corrupt, err := s.List()
	if err != nil {
		return err
	}
	valid := func(a record.Attachment) bool {
		return a.Network != conf.Name ||
			slices.Contains(conf.ValidAttachments, types.GCAttachment{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	children := candidates(host, conf, nil)
	var kept []entry
	var errs []error
	for _, e := range entries {
		if !slices.Contains(children, e.State.Child) {
			children = append(children, e.State.Child)
		}
		if valid(e.Attachment) {
			kept = append(kept, e)
			continue
		}
		if err := release(host, s, entries, e); err != nil {
			errs = append(errs, fmt.Errorf("attachment %s: %w", e.Attachment, err))
			kept = append(kept, e)
		}
	}
	complete := true
	for _, c := range corrupt {
		if valid(c.Attachment) {
			complete = false
			continue
		}
		errs = append(errs, s.Remove(c.Attachment))
	}
	for _, name := range children {
		if err := tend(host, name, conf, kept, complete && allRecorded(conf, kept)); err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// allRecorded reports whether each valid attachment has a record. If one has none, what stands on the child may be its.
func allRecorded(conf *config, kept []entry) bool {
	for _, v := range conf.ValidAttachments {
		a := record.Attachment{Network: conf.Name, ContainerID: v.ContainerID, IfName: v.IfName}
		if !slices.ContainsFunc(kept, func(e entry) bool { return e.Attachment == a }) {
			log.Printf("attachment %s is valid and has no record: routes that no record holds stay", a)
			return false
		}
	}
	return true
}

// tend removes a child that nobody uses, and restores and sweeps one that is in use.
func tend(host *kernel.Namespace, name string, conf *config, kept []entry, complete bool) error {
	if !uses(kept, name) {
		if !complete {
			return nil
		}
		return abandon(host, name, conf, kept)
	}
	c, err := newChild(host, masterOf(kept, name), name)
	if err != nil || !isUp(c.master) {
		log.Printf("link %s: nothing restored, its master is missing or down", name)
		return nil
	}
	link, _, err := c.ensure(host, needIPv6(kept, name))
	if err != nil {
		return err
	}
	n, err := readNode(host, c.master, name)
	if err != nil {
		return err
	}
	h, err := readHostRoutes(host, link)
	if err != nil {
		return err
	}
	h.restore(n, kept)
	if !complete {
		return nil
	}
	return h.sweep(kept)
}

// abandon removes a child that nobody uses. One that the plugin did not make loses its routes to pods and stays.
func abandon(host *kernel.Namespace, name string, conf *config, kept []entry) error {
	link, err := linkOf(host, name)
	if err != nil || link == nil {
		return err
	}
	lower, err := host.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return err
	}
	c := &child{name: name, master: lower, lower: lower}
	if c.isOwn(link) && c.conflict(link) == nil {
		return c.remove(host, link)
	}
	return sweep(host, name, kept)
}

// masterOf returns the master that the newest record of a child names.
func masterOf(entries []entry, childName string) string {
	for _, e := range slices.Backward(entries) {
		if e.State.Child == childName {
			return e.State.Master
		}
	}
	return ""
}
