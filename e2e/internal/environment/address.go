package environment

import (
	"context"
	"net/netip"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// TargetInterface returns the interface of a place whose addresses a probe asks.
func TargetInterface(p scenario.Probe, to *cluster.Place) string {
	if p.Interface != "" {
		return p.Interface
	}
	if _, ok := to.Interfaces[scenario.UplinkInterface]; ok {
		return scenario.UplinkInterface
	}
	return scenario.DefaultInterface
}

// HasFamily reports whether a place has an address of the same family.
func HasFamily(p *cluster.Place, like netip.Addr) bool {
	for _, addrs := range p.Interfaces {
		for _, a := range addrs {
			if a.Is4() == like.Is4() {
				return true
			}
		}
	}
	return false
}

// Owns reports whether a place has an address, also one that a plugin gave it (the address of a bridge on its node, for
// instance).
func Owns(ctx context.Context, p *cluster.Place, addr netip.Addr) (bool, error) {
	if p.Owns(addr) {
		return true, nil
	}
	links, err := p.Agent.Links(ctx, p.Netns)
	return LinkWith(links, addr) != nil, err
}

// LinkWith returns the link that has an address; nil if none has it.
func LinkWith(links []agent.Link, addr netip.Addr) *agent.Link {
	for i, l := range links {
		if slices.ContainsFunc(l.Prefixes(), func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return &links[i]
		}
	}
	return nil
}

// OwnerOf returns the place that has an address; nil if none has it.
func (e *Environment) OwnerOf(ctx context.Context, addr netip.Addr) *cluster.Place {
	var places []*cluster.Place
	for _, p := range e.Pods {
		places = append(places, &p.Place)
	}
	for _, n := range e.Cluster.Nodes() {
		places = append(places, &n.Place)
	}
	for _, h := range e.Cluster.Hosts() {
		places = append(places, h)
	}
	for _, p := range places {
		if own, err := Owns(ctx, p, addr); err == nil && own {
			return p
		}
	}
	return nil
}
