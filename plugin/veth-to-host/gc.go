package main

import (
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// cmdGC removes what belongs to no valid attachment of the network, and restores what is missing of the others.
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
	s, err := openStore(true)
	if err != nil {
		return err
	}
	return errors.Join(collect(host, s, conf), s.Tidy(), s.Close())
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
	kept := entries
	var errs []error
	for _, e := range entries {
		if valid(e.Attachment) {
			continue
		}
		if err := release(host, s, kept, e); err != nil {
			errs = append(errs, fmt.Errorf("attachment %s: %w", e.Attachment, err))
			continue
		}
		kept = without(kept, e.Attachment)
	}
	complete := true
	for _, c := range corrupt {
		if valid(c.Attachment) {
			complete = false
			continue
		}
		errs = append(errs, s.Remove(c.Attachment))
	}
	if complete && allRecorded(conf, kept) {
		errs = append(errs, removeOrphans(host, kept))
	}
	h, err := readHostSide(host, kept)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, e := range kept {
		h.repair(e)
	}
	errs = append(errs, h.removeShared(conf.mark()), syncNodeTable(kept))
	return errors.Join(errs...)
}

// allRecorded reports whether each valid attachment has a record. If one has none, what no record holds may be its.
func allRecorded(conf *config, kept []entry) bool {
	for _, v := range conf.ValidAttachments {
		a := record.Attachment{Network: conf.Name, ContainerID: v.ContainerID, IfName: v.IfName}
		if !slices.ContainsFunc(kept, func(e entry) bool { return e.Attachment == a }) {
			log.Printf("attachment %s is valid and has no record: what no record holds stays", a)
			return false
		}
	}
	return true
}

// removeOrphans removes veths and rules that no record holds. They are known by the first of their rules, with a name as
// this plugin gives it: veths of others have such names too, and no such rule.
func removeOrphans(host *kernel.Namespace, kept []entry) error {
	held := map[string]bool{}
	for _, e := range kept {
		held[e.State.Veth.Host] = true
	}
	rules, err := host.Rules()
	if err != nil {
		return err
	}
	var errs []error
	for _, rule := range rules {
		name := rule.IifName
		if held[name] || !isVethName(name) || !hasDirectRule(rules, name) {
			continue
		}
		held[name] = true // its other rules go with it
		errs = append(errs, removeVeth(host, rules, veth{Host: name}))
	}
	return errors.Join(errs...)
}

// isVethName reports whether a name is one that this plugin gives.
func isVethName(name string) bool {
	digits, ok := strings.CutPrefix(name, vethPrefix)
	return ok && len(digits) == vethDigits && strings.Trim(digits, "0123456789abcdef") == ""
}
