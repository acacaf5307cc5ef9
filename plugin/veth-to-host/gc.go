package main

import (
	"errors"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/record"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdGC removes everything that belongs to no valid attachment of the network, and restores what the others have lost.
// SPEC.md, GC: remove as much as possible, and then report what could not be removed.
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
	return verb.Collect(s, &conf.Config, verb.Collector[attachment]{
		Release: func(e entry) error { return release(host, s, e) },
		Rest:    func(kept []entry, complete bool) error { return tidy(host, s, conf, kept, complete) },
	})
}

// tidy restores what the remaining attachments have lost, and removes objects that belong to none.
func tidy(host *kernel.Namespace, s *store, conf *config, kept []entry, complete bool) error {
	var errs []error
	if complete {
		errs = append(errs, removeOrphans(host, kept))
	}
	h, err := readHostSide(host, kept)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, e := range kept {
		h.repair(e)
	}
	return errors.Join(append(errs, removeShared(host, s, conf.mark(), record.Attachment{}), syncNodeTable(kept))...)
}

// removeOrphans removes veths and rules that no record names. A veth is this plugin's if it has a name as this plugin
// makes them and the first of its rules: veths of others may have such names, but not that rule.
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
		held[name] = true // its other rules are removed with it
		errs = append(errs, removeVeth(host, kernel.Veth{Host: name}))
	}
	return errors.Join(errs...)
}

// isVethName reports whether a name is of the form that this plugin makes.
func isVethName(name string) bool {
	digits, ok := strings.CutPrefix(name, vethPrefix)
	return ok && len(digits) == vethDigits && strings.Trim(digits, "0123456789abcdef") == ""
}
