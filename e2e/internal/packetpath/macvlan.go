package packetpath

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/witness"
)

// astray explains a request between a node and its own pod that another place received.
func (w *watch) astray(ctx context.Context, e stop) string {
	if e.last == nil || e.arrived || e.place == w.from || e.place == w.to {
		return ""
	}
	way, err := w.way(ctx, w.from, witness.Question{Destination: w.spec.To})
	if err != nil {
		return ""
	}
	return w.macvlanParent(ctx, w.from, w.spec.To, way.Device)
}

// macvlanParent explains the most common cause: a macvlan and its own parent never exchange frames (Linux,
// drivers/net/macvlan.c: what the parent sends goes to the wire, and what a child sends never goes up to the parent).
// device is the device by which a place sends to an address.
func (w *watch) macvlanParent(ctx context.Context, from *cluster.Place, target, device string) string {
	addr, err := netip.ParseAddr(target)
	if err != nil {
		return ""
	}
	for _, p := range w.env.Pods {
		host, outward := from == &p.Node.Place, from == &p.Place
		if host && !p.Owns(addr) || outward && !p.Node.Owns(addr) || !host && !outward {
			continue
		}
		links, err := p.Agent.Links(ctx, p.Netns)
		if err != nil {
			return ""
		}
		hostLinks, err := p.Node.Agent.Links(ctx, "")
		if err != nil {
			return ""
		}
		uplink, _ := agent.FindLink(hostLinks, p.Node.Uplink)
		for _, l := range links {
			onParent := (l.Kind == "macvlan" || l.Kind == "ipvlan") && l.ParentIndex == uplink.Index
			if onParent && (host && device == uplink.Name || outward && device == l.Name) {
				return fmt.Sprintf("%s of %s is a %s on %s, and the kernel keeps such a device and its parent apart: "+
					"frames between a node and its own pods "+
					"need a device of their own on the node, as the chained plugins route and veth-to-host make",
					l.Name, p.Name, l.Kind, uplink.Name)
			}
		}
	}
	return ""
}

// keptApart explains why two macvlans do not receive each other's frames (Linux, drivers/net/macvlan.c,
// macvlan_broadcast).
func (w *watch) keptApart(ctx context.Context, places ...*cluster.Place) string {
	var isolated []string
	for _, p := range places {
		links, err := p.Agent.Links(ctx, p.Netns)
		if err != nil {
			return ""
		}
		for _, l := range links {
			if l.Isolated {
				isolated = append(isolated, fmt.Sprintf("%s of %s", l.Name, p.Name))
			}
		}
	}
	if len(isolated) == 0 {
		return ""
	}
	verb := " is a macvlan"
	if len(isolated) > 1 {
		verb = " are macvlans"
	}
	return strings.Join(isolated, " and ") + verb +
		" in a mode, private or vepa, that keeps the children of one parent apart"
}

// pastTheProxy explains why underlay pods do not reach services (kubernetes#53089): only the proxy of a node knows the
// addresses of services, and what leaves by a macvlan or an ipvlan never passes the netfilter of its node.
func (w *watch) pastTheProxy(ctx context.Context, _ stop) string {
	if w.env.Service(w.to.Name) == nil {
		return ""
	}
	route, err := w.from.Agent.Route(ctx, w.from.Netns, w.spec.To)
	if err != nil {
		return ""
	}
	links, err := w.from.Agent.Links(ctx, w.from.Netns)
	if err != nil {
		return ""
	}
	if link, found := agent.FindLink(links, route.Device); found && (link.Kind == "macvlan" || link.Kind == "ipvlan") {
		return fmt.Sprintf("%s left %s by %s, a %s on the underlay, past its node and the proxy there that knows the "+
			"service: services need a way "+
			"through the node, as the chained plugin veth-to-host makes", w.spec.To, w.from.Name, link.Name, link.Kind)
	}
	return ""
}
