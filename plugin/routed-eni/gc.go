package main

import (
	"errors"
	"fmt"
	"log"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdGC removes from the node the state of attachments of the network that are not valid, restores missing state of the
// others, and has ipamd release the addresses of the former. SPEC.md, GC: remove as much as possible, and report what
// could not be removed after that.
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
	s, err := openStore(true)
	if err != nil {
		return err
	}
	err = verb.Collect(s, &conf.Config, verb.Collector[attachment]{
		Release: func(e entry) error { return release(host, s, e) },
		Rest:    func(kept []entry, _ bool) error { return tidy(host, s, conf, kept) },
	})
	return errors.Join(err, collectAddresses(host, conf))
}

// tidy restores missing state of the attachments that stay, and removes links of attachments that are not valid and
// have no record.
func tidy(host *kernel.Namespace, s *store, conf *config, kept []entry) error {
	h, err := readHostSide(host)
	if err != nil {
		return err
	}
	for _, e := range kept {
		newer, err := hasNewerOwner(s, e)
		if err == nil && !newer {
			err = h.ensure(e.State)
		}
		if err != nil {
			log.Printf("attachment %s: restore: %v", e.Attachment, err)
		}
	}
	links, err := host.LinkList()
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	recorded := map[record.Attachment]bool{}
	for _, e := range kept {
		recorded[e.Attachment] = true
	}
	var errs []error
	for _, link := range links {
		if a, ok := fromAlias(link.Attrs().Alias); ok && !recorded[a] && !conf.IsValid(a) {
			errs = append(errs, removeUnrecorded(host, s, a, link.Attrs().Name))
		}
	}
	return errors.Join(errs...)
}

// collectAddresses has ipamd release addresses that are not in use, and removes state that the node still has for them:
// if a record was lost, only ipamd knows the address.
func collectAddresses(host *kernel.Namespace, conf *config) error {
	d, err := dial(conf.Socket)
	if err != nil {
		return err
	}
	defer d.close()
	released, err := d.collect(&conf.Config)
	errs := []error{err}
	for _, r := range released {
		ip, err := netip.ParseAddr(r.Address)
		if err == nil {
			err = forgetReleased(host, ip)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
