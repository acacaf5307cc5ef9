package main

import (
	"errors"
	"fmt"
	"log"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/verb"
)

// cmdGC removes the state of every attachment of the network that is not valid, and a child that no record of any
// network uses. SPEC.md, GC: remove as much as possible, and report what could not be removed after that.
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
		s, err = openStore(true) // there is no record at all, but a child may exist
	}
	if err != nil || s == nil {
		return err
	}
	g := &collection{host: host, store: s, children: candidates(host, conf, nil)}
	return verb.Collect(s, &conf.Config, verb.Collector[attachment]{Release: g.release, Rest: g.rest})
}

func childrenExist(host *kernel.Namespace, conf *config) bool {
	return slices.ContainsFunc(candidates(host, conf, nil), func(name string) bool {
		link, err := linkOf(host, name)
		return err == nil && link != nil
	})
}

// collection is one GC.
type collection struct {
	host     *kernel.Namespace
	store    *store
	children []string // all that GC has met, including those whose records are gone
}

func (g *collection) meet(name string) {
	if !slices.Contains(g.children, name) {
		g.children = append(g.children, name)
	}
}

func (g *collection) release(e entry) error {
	g.meet(e.State.Child)
	return release(g.host, g.store, e)
}

func (g *collection) rest(kept []entry, complete bool) error {
	for _, e := range kept {
		g.meet(e.State.Child)
	}
	var errs []error
	for _, name := range g.children {
		if err := tend(g.host, name, kept, complete); err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// tend removes a child that nobody uses, and restores and sweeps one that is in use.
func tend(host *kernel.Namespace, name string, kept []entry, complete bool) error {
	if !uses(kept, name) {
		if !complete {
			return nil
		}
		return abandon(host, name, kept)
	}
	c, err := newChild(host, masterOf(kept, name), name)
	if err != nil || !kernel.IsUp(c.master) {
		log.Printf("link %s: nothing restored, its master is missing or down", name)
		return nil
	}
	link, _, err := c.ensure(host, hasIPv6(kept, name))
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
func abandon(host *kernel.Namespace, name string, kept []entry) error {
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

// uses reports whether some record needs the child.
func uses(entries []entry, childName string) bool {
	return slices.ContainsFunc(entries, func(e entry) bool { return e.State.Child == childName })
}

// hasIPv6 reports whether a pod behind the child has an IPv6 address.
func hasIPv6(entries []entry, childName string) bool {
	return slices.ContainsFunc(entries, func(e entry) bool { return e.State.Child == childName && e.State.hasIPv6() })
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
