package main

import (
	"errors"
	"log"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/netfilter"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// cmdDel never needs the pod, hostInterface or prevResult: the record names everything that must be removed.
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
	s, err := openStore(true) // take the lock, even if there is no record
	if err != nil {
		return err
	}
	return errors.Join(del(host, s, conf, args), s.Close())
}

func del(host *kernel.Namespace, s *store, conf *config, args *skel.CmdArgs) error {
	a := conf.Attachment(args)
	e, err := s.Load(a)
	if e != nil {
		return release(host, s, *e)
	}
	if err := record.UnlessCorrupt(err); err != nil {
		return err
	}
	if err := removeUnrecorded(host, s, conf, args); err != nil {
		return err
	}
	return s.Remove(a) // the record cannot be read
}

// removeUnrecorded removes everything that an attachment without a record may have. The name and hardware address of
// its veth follow from the attachment. In its pod, only the objects that vanish with the veth certainly belong to it.
func removeUnrecorded(host *kernel.Namespace, s *store, conf *config, args *skel.CmdArgs) error {
	a := conf.Attachment(args)
	var errs []error
	for attempt := range maxAttempts {
		id := identity{a, attempt}
		v := kernel.Veth{Host: id.name(), HostMAC: id.mac("host").String()}
		holder, err := s.Other(linkKey(v.Host), a)
		if err != nil || holder != nil {
			errs = append(errs, err)
			continue
		}
		_, linkErr := host.LinkByName(v.Host)
		// A further name was tried only if something else had the name before it. If that has since gone, GC removes
		// the veth.
		if attempt > 0 && kernel.IsNotFound(linkErr) {
			continue
		}
		errs = append(errs, removeVeth(host, v), removeUnrecordedElements(s, a, v.Host))
	}
	prev, err := conf.PrevResult()
	if err != nil {
		log.Print(err) // a damaged cache. SPEC.md, DEL: complete without it
	}
	if prev != nil {
		gone, err := unheld(s, addressesOf(prev, args.IfName), a)
		errs = append(errs, err, netfilter.FlushConnections(gone...))
	}
	return errors.Join(append(errs, removeShared(host, s, conf.mark(), a))...)
}
