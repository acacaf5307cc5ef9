package main

import (
	"errors"
	"log"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/netfilter"
)

// cmdDel never needs the pod, hostInterface or prevResult: the record says what to remove.
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
	s, err := openStore(true) // for its lock, even where there is no record
	if err != nil {
		return err
	}
	return errors.Join(del(host, s, conf, args), s.Close())
}

func del(host *kernel.Namespace, s *store, conf *config, args *skel.CmdArgs) error {
	a := conf.Attachment(args)
	entries, _, err := s.List()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e entry) bool { return e.Attachment == a })
	if i >= 0 {
		return release(host, s, entries, entries[i])
	}
	if err := removeUnrecorded(host, entries, conf, args); err != nil {
		return err
	}
	return s.Remove(a) // one that cannot be read
}

// removeUnrecorded removes what an attachment without a record may have. Its name and hardware address follow from whose
// it is; in its pod, by now, only what goes with the veth is sure to be its own.
func removeUnrecorded(host *kernel.Namespace, entries []entry, conf *config, args *skel.CmdArgs) error {
	rules, err := host.Rules()
	if err != nil {
		return err
	}
	var errs []error
	for attempt := range maxAttempts {
		id := identity{conf.Attachment(args), attempt}
		v := kernel.Veth{Host: id.name(), HostMAC: id.mac("host").String()}
		if slices.ContainsFunc(entries, func(e entry) bool { return e.State.Veth.Host == v.Host }) {
			continue
		}
		errs = append(errs, removeVeth(host, rules, v))
	}
	h := &hostSide{host: host, rules: rules, entries: entries}
	errs = append(errs, h.removeShared(conf.mark()), syncNodeTable(entries))
	prev, err := conf.PrevResult()
	if err != nil {
		log.Print(err) // a damaged cache; SPEC.md, DEL: complete without it
	}
	if prev != nil {
		errs = append(errs, netfilter.FlushConnections(slices.DeleteFunc(addressesOf(prev, args.IfName), h.holds)...))
	}
	return errors.Join(errs...)
}
