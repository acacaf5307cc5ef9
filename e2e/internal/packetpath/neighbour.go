package packetpath

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/witness"
)

// unanswered explains a packet that waited for a MAC and got none.
func (w *watch) unanswered(ctx context.Context, e stop) string {
	if e.arrived || e.last != nil && e.last.Outgoing {
		return ""
	}
	q := witness.Question{Destination: e.destination, Source: e.source}
	if e.last != nil {
		q.Interface = e.last.Interface
	}
	way, err := w.way(ctx, e.place, q)
	if err != nil || way.Refusal != "" || way.Local {
		return ""
	}
	asked := e.destination
	if way.Gateway != "" {
		asked = way.Gateway
	}
	at := slices.IndexFunc(w.seen, func(s Sighting) bool {
		return s.Place == e.place.Name && s.Interface == way.Device && asksFor(s, asked)
	})
	waits := at >= 0
	if !waits {
		// The kernel may have asked before the watch began, and given up since (arp(7), mcast_solicit).
		entry, err := e.place.Agent.Neighbour(ctx, agent.NeighbourArgs{
			Netns: e.place.Netns, Interface: way.Device, Address: asked,
		})
		waits = err == nil && entry.Found && slices.Contains([]string{"INCOMPLETE", "FAILED"}, entry.Entry.State)
	}
	if !waits {
		return ""
	}
	text := fmt.Sprintf("%s sends to %s by %s and asked there for the MAC of %s, which nobody answered", e.place.Name,
		e.destination, strings.TrimPrefix(routeWords(way), "by "), asked)
	reason := w.macvlanParent(ctx, e.place, asked, way.Device)
	if reason == "" && at >= 0 {
		reason = w.unasked(ctx, e.place, asked)
	}
	if reason != "" {
		text += "; " + reason
	}
	return text
}

func asksFor(s Sighting, address string) bool {
	return strings.Contains(s.Info+" ", "who has "+address+" ")
}

// unasked explains what happened to a question for a MAC at the place that could have answered it.
func (w *watch) unasked(ctx context.Context, asker *cluster.Place, address string) string {
	owner := w.place(w.owner(ctx, address))
	if owner == nil {
		return ""
	}
	at := slices.IndexFunc(w.seen, func(s Sighting) bool {
		return s.Place == owner.Name && !s.Outgoing && !s.Passing && asksFor(s, address)
	})
	if at < 0 {
		text := fmt.Sprintf("the question did not reach %s, which has that address", owner.Name)
		if reason := w.keptApart(ctx, asker, owner); reason != "" {
			text += ": " + reason
		}
		return text
	}
	question := w.seen[at]
	text := fmt.Sprintf("the question was last seen entering %s of %s, which has that address", question.Interface,
		owner.Name)
	if v, ok := w.dropAt(owner.Name, question.Source, question.Destination); ok {
		return text + " and dropped the question: " + dropText(v)
	}
	// The kernel answers only hosts from which it would accept packets (arp_process of net/ipv4/arp.c).
	q := witness.Question{Destination: address, Source: question.Source, Interface: question.Interface}
	way, err := owner.Agent.Lookup(ctx, owner.Netns, q)
	switch {
	case err != nil:
		return text
	case way.ReversePath:
		return text + "; " + w.reversePath(ctx, owner, q, way)
	case way.Refusal != "":
		return fmt.Sprintf("%s; %s has no route to %s: %s", text, owner.Name, address, refusalText(way))
	case way.IgnoresARP > 0 && strings.HasPrefix(question.Info, "ARP"):
		return fmt.Sprintf("%s and does not answer, as its setting arp_ignore %d says", text, way.IgnoresARP)
	}
	return text
}

// misdirected explains a frame that was sent to a MAC that the next hop does not have.
func (w *watch) misdirected(ctx context.Context, e stop) string {
	if e.arrived || e.last == nil || !e.last.Outgoing || e.sender().Place == cluster.FabricName {
		return ""
	}
	sent := e.sender()
	sender := w.place(sent.Place)
	way, err := w.wayOut(ctx, sent)
	if err != nil {
		return ""
	}
	next := cmp.Or(way.Gateway, sent.Destination)
	addr, err := netip.ParseAddr(next)
	if err != nil {
		return ""
	}
	for _, p := range w.places {
		links, err := p.Agent.Links(ctx, p.Netns)
		if err != nil {
			continue
		}
		owner := environment.LinkWith(links, addr)
		if owner == nil || owner.MAC == "" || owner.MAC == sent.DestinationMAC {
			continue
		}
		held := ""
		entry, err := sender.Agent.Neighbour(ctx, agent.NeighbourArgs{
			Netns: sender.Netns, Interface: sent.Interface, Address: next,
		})
		if err == nil && entry.Found && entry.Entry.MAC == sent.DestinationMAC {
			held = fmt.Sprintf(", as its neighbour entry for %s on %s says", next, sent.Interface)
			if entry.Entry.State == "PERMANENT" {
				held = fmt.Sprintf(", as its permanent neighbour entry for %s on %s says", next, sent.Interface)
			}
		}
		return fmt.Sprintf("%s sent it to the MAC %s%s, and %s has that address on %s with the MAC %s",
			sender.Name, sent.DestinationMAC, held, p.Name, owner.Name, owner.MAC)
	}
	return ""
}
