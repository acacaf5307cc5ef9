package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// sighting is a packet as it passed an interface of a place.
type sighting struct {
	place string
	probe.Packet
}

func (s sighting) String() string {
	direction := "in "
	if s.Outgoing {
		direction = "out"
	}
	return fmt.Sprintf("%s  %-16s %-12s %s  %s > %s  %s", s.Time.UTC().Format("15:04:05.000000"), s.place, s.Interface, direction, s.SourceMAC, s.DestinationMAC, s.Info)
}

// explainProbe repeats a failed probe once, with captures on every hop, and says how far its packets got.
func (r *run) explainProbe(ctx context.Context, from, to *cluster.Place, spec probe.Spec, failed probe.Result) error {
	what := fmt.Sprintf("%s to %s", spec.Protocol, spec.To)
	if spec.Port != 0 {
		what += fmt.Sprintf(" port %d", spec.Port)
	}
	dead := &deadProbe{err: fmt.Errorf("%s to %s, %s: %s", from.Name, to.Name, what, failed.Error)}
	if !r.explaining.CompareAndSwap(false, true) {
		return dead // of many that fail at once, one tells the story of all
	}
	// Longer than the kernel waits between two questions for a neighbour (arp(7), retrans_time), so that one is seen.
	spec.Within, spec.Attempts = 1500*time.Millisecond, 1
	seen, again, err := r.watch(ctx, from, to, spec, failed.Local)
	if err != nil {
		dead.err = fmt.Errorf("%w (no capture: %w)", dead.err, err)
		return dead
	}
	var lines []string
	for _, s := range seen {
		lines = append(lines, s.String())
	}
	dead.evidence = []report.Evidence{
		{Title: "way of the packets", Text: strings.Join(lines, "\n")},
		{Title: "routes", Text: r.routeText(ctx, from, to, spec.To, failed.Local)},
	}
	story := tellStory(seen, r.asked(ctx, from, spec.To), spec, failed.Local)
	if again.OK {
		story = "the same probe succeeded when it was repeated with captures on"
	}
	for _, explain := range []func(context.Context, *cluster.Place, *cluster.Place, string) string{r.macvlanParent, r.pastTheProxy, r.droppingChain} {
		if why := explain(ctx, from, to, spec.To); why != "" {
			story += "; " + why
		}
	}
	dead.err = fmt.Errorf("%w; %s", dead.err, story)
	return dead
}

// watch runs the probe while it captures in the namespaces of both ends, of every node and of the fabric.
func (r *run) watch(ctx context.Context, from, to *cluster.Place, spec probe.Spec, local string) ([]sighting, probe.Result, error) {
	places := []*cluster.Place{from}
	if to.Agent != nil { // a service is nowhere
		places = append(places, to)
	}
	for _, n := range r.cluster.Nodes() {
		places = append(places, &n.Place)
	}
	if fabric := r.cluster.Fabric(); fabric != nil {
		places = append(places, fabric)
	}
	match := probe.Match{Hosts: []string{spec.To}, Limit: 200}
	if local != "" {
		match.Hosts = append(match.Hosts, local)
	}
	if spec.Port != 0 {
		match.Ports = []uint16{spec.Port}
	}
	var (
		ids  []int
		done []*cluster.Place
	)
	var result probe.Result
	for _, p := range places {
		if slices.ContainsFunc(done, func(d *cluster.Place) bool { return d.Name == p.Name }) {
			continue
		}
		id, err := p.Agent.StartCapture(ctx, p.Netns, match)
		if err != nil {
			for i, id := range ids {
				_, _ = done[i].Agent.StopCapture(ctx, id)
			}
			return nil, result, err
		}
		ids, done = append(ids, id), append(done, p)
	}
	result, err := from.Agent.Probe(ctx, from.Netns, spec)
	var seen []sighting
	for i, id := range ids {
		packets, stopErr := done[i].Agent.StopCapture(ctx, id)
		if err == nil {
			err = stopErr
		}
		for _, p := range packets {
			seen = append(seen, sighting{place: done[i].Name, Packet: p})
		}
	}
	slices.SortStableFunc(seen, func(a, b sighting) int { return a.Time.Compare(b.Time) })
	return seen, result, err
}

// tellStory is one sentence: where the request and its reply were seen last, or which question of ARP or neighbour discovery
// nobody answered.
// asked are the addresses about which the sender may ask: the target's, and that of a gateway on the way.
func (r *run) asked(ctx context.Context, from *cluster.Place, target string) []string {
	asked := []string{target}
	if route, err := from.Agent.Route(ctx, from.Netns, target); err == nil && route.Gateway != "" {
		asked = append(asked, route.Gateway)
	}
	return asked
}

func tellStory(seen []sighting, asked []string, spec probe.Spec, local string) string {
	about := func(s sighting) bool {
		return slices.ContainsFunc(asked, func(addr string) bool { return strings.Contains(s.Info+" ", "who has "+addr+" ") })
	}
	request, reply, question := -1, -1, -1
	for i, s := range seen {
		switch {
		case s.Protocol == "ARP" || strings.Contains(s.Info, "who has"):
			if question < 0 && about(s) {
				question = i
			}
		case s.Destination == spec.To:
			request = i
		case s.Source == spec.To && (local == "" || s.Destination == local):
			reply = i
		}
	}
	at := func(i int) string {
		direction := "entering"
		if seen[i].Outgoing {
			direction = "leaving"
		}
		return fmt.Sprintf("%s %s of %s", direction, seen[i].Interface, seen[i].place)
	}
	switch {
	case reply >= 0 && request < 0:
		return fmt.Sprintf("a reply was last seen %s", at(reply))
	case reply >= 0:
		return fmt.Sprintf("the request was last seen %s, a reply was last seen %s", at(request), at(reply))
	case request >= 0:
		return fmt.Sprintf("the request was last seen %s, no reply was seen anywhere", at(request))
	case question >= 0:
		return fmt.Sprintf("the request was never sent: %q was asked %s, and nobody answered", seen[question].Info, at(question))
	}
	return "no packet was seen anywhere"
}

// routeText is how both ends would send to the other.
func (r *run) routeText(ctx context.Context, from, to *cluster.Place, target, local string) string {
	var lines []string
	for _, end := range []struct {
		place *cluster.Place
		dst   string
	}{{from, target}, {to, local}} {
		if end.dst == "" || end.place.Agent == nil {
			continue
		}
		route, err := end.place.Agent.Route(ctx, end.place.Netns, end.dst)
		if err != nil {
			lines = append(lines, err.Error())
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %s %s", end.place.Name, end.dst, route))
	}
	return strings.Join(lines, "\n")
}

// macvlanParent explains the commonest of all: a macvlan and its own parent never exchange frames (Linux, drivers/net/macvlan.c:
// what the parent sends goes to the wire, what comes from a child never goes up to it).
func (r *run) macvlanParent(ctx context.Context, from, to *cluster.Place, target string) string {
	host, inside := from, to
	if r.node(host.Name) == nil {
		host, inside = to, from
	}
	node := r.node(host.Name)
	if node == nil {
		return ""
	}
	for _, p := range r.pods {
		if &p.Place != inside || p.node != node {
			continue
		}
		links, err := p.Agent.Links(ctx, p.Netns)
		if err != nil {
			return ""
		}
		hostLinks, err := node.Agent.Links(ctx, "")
		if err != nil {
			return ""
		}
		uplink, _ := agent.FindLink(hostLinks, node.Uplink)
		route, err := from.Agent.Route(ctx, from.Netns, target)
		if err != nil {
			return ""
		}
		for _, l := range links {
			onParent := (l.Kind == "macvlan" || l.Kind == "ipvlan") && l.ParentIndex == uplink.Index
			if onParent && (route.Device == uplink.Name || route.Device == l.Name) {
				return fmt.Sprintf("%s of %s is a %s on %s, and the kernel keeps such a device and its parent apart: frames between a node and its own pods "+
					"need a device of their own on the node, as the chained plugins route and veth-to-host make", l.Name, p.Name, l.Kind, uplink.Name)
			}
		}
	}
	return ""
}

// pastTheProxy explains why underlay pods reach no service (kubernetes#53089): addresses of services mean something to the proxy of
// a node only, and what leaves by a macvlan or an ipvlan never passes its node's netfilter.
func (r *run) pastTheProxy(ctx context.Context, from, to *cluster.Place, target string) string {
	if r.service(to.Name) == nil {
		return ""
	}
	route, err := from.Agent.Route(ctx, from.Netns, target)
	if err != nil {
		return ""
	}
	links, err := from.Agent.Links(ctx, from.Netns)
	if err != nil {
		return ""
	}
	if link, found := agent.FindLink(links, route.Device); found && (link.Kind == "macvlan" || link.Kind == "ipvlan") {
		return fmt.Sprintf("%s left %s by %s, a %s on the underlay, past its node and the proxy there that knows the service: services need a way "+
			"through the node, as the chained plugin veth-to-host makes", target, from.Name, link.Name, link.Kind)
	}
	return ""
}

// droppingChain names a chain of a node that drops what nobody accepts in it: an accept elsewhere does not help, since each chain of a
// hook has its say (nft(8), "accept").
func (r *run) droppingChain(ctx context.Context, _, _ *cluster.Place, _ string) string {
	for _, node := range r.cluster.Nodes() {
		state, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: []string{snapshot.Nftables, snapshot.Iptables}})
		if err != nil {
			return ""
		}
		for _, item := range state.Items {
			nft := strings.Contains(item.Text, "hook forward") && strings.Contains(item.Text, "policy drop")
			legacy := strings.Contains(item.Name+" "+item.Text, "FORWARD DROP")
			if nft || legacy {
				return fmt.Sprintf("on %s the %s %s drops what it does not accept: an administrator adds an accept for the pods' addresses there",
					node.Name, item.Kind, item.Name)
			}
		}
	}
	return ""
}
