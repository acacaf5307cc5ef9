package main

import (
	"errors"
	"log"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// cmdDel removes everything that the record names. It never needs the pod, the master or prevResult.
func cmdDel(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	host, err := kernel.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	fallback, err := fromPrevResult(host, conf, args)
	if err != nil {
		return err
	}
	s, err := openStore(len(fallback) > 0)
	if err != nil || s == nil {
		return err
	}
	return errors.Join(del(host, s, conf, conf.Attachment(args), fallback), s.Close())
}

func del(host *kernel.Namespace, s *store, conf *config, a record.Attachment, fallback []attachment) error {
	e, err := s.Load(a)
	if e != nil {
		return release(host, s, *e)
	}
	var corrupt *record.CorruptError
	unreadable := errors.As(err, &corrupt)
	if err := record.UnlessCorrupt(err); err != nil {
		return err
	}
	var errs []error
	for _, state := range fallback {
		// Its age is unknown, so every record counts as newer.
		errs = append(errs, detach(host, s, entry{Attachment: a, State: state}))
	}
	if unreadable {
		errs = append(errs, sweepUnread(host, s, conf, a))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.Remove(a)
}

// sweepUnread cleans up after an attachment whose record cannot be read: it removes state that no other record names,
// if all other records can be read.
func sweepUnread(host *kernel.Namespace, s *store, conf *config, a record.Attachment) error {
	entries, corrupt, err := s.List()
	if err != nil || slices.ContainsFunc(corrupt, func(c *record.CorruptError) bool { return c.Attachment != a }) {
		return err
	}
	return sweepConfigured(host, conf, entries)
}

// fromPrevResult returns the attachments that one without a record may be, one per link that can be its child. There
// are none if there is nothing to remove.
func fromPrevResult(host *kernel.Namespace, conf *config, args *skel.CmdArgs) ([]attachment, error) {
	prev, err := conf.PrevResult()
	if err != nil {
		log.Print(err) // the cache is damaged; SPEC.md, DEL: complete without it
	}
	if prev == nil {
		return nil, nil
	}
	var addrs []address
	for _, given := range podAddresses(prev, args.IfName) {
		addrs = append(addrs, address{IP: given.Addr(), Link: given.link})
	}
	if len(addrs) == 0 {
		return nil, nil
	}
	var found []attachment
	for _, name := range candidates(host, conf, hostLinks(prev)) {
		link, err := linkOf(host, name)
		if err != nil {
			return nil, err
		}
		if link != nil {
			found = append(found, attachment{Child: name, Addresses: addrs})
		}
	}
	return found, nil
}

// candidates returns the names that the child may have: the configured name, and the links on the node that prevResult
// names, since the configuration or the default route may have changed after ADD.
func candidates(host *kernel.Namespace, conf *config, named []string) []string {
	var names []string
	if conf.Bridge != "" {
		names = append(names, conf.Bridge)
	} else if master, err := conf.masterName(host); err == nil {
		names = append(names, defaultChildName(master))
	}
	for _, name := range named {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func sweepConfigured(host *kernel.Namespace, conf *config, entries []entry) error {
	var errs []error
	for _, name := range candidates(host, conf, nil) {
		errs = append(errs, sweep(host, name, entries))
	}
	return errors.Join(errs...)
}

func sweep(host *kernel.Namespace, childName string, entries []entry) error {
	link, err := linkOf(host, childName)
	if err != nil || link == nil {
		return err
	}
	h, err := readHostRoutes(host, link)
	if err != nil {
		return err
	}
	return h.sweep(entries)
}
