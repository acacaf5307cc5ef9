package packetpath

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/witness"
)

// stop is the place where a packet of the probe was seen last.
type stop struct {
	// what is "the request" or "a reply".
	what string
	// last is the last sighting; nil if the packet was never seen, and then place is where it should have come from.
	last  *Sighting
	place *cluster.Place
	// arrived reports whether it reached its destination.
	arrived bool
	// source and destination are its addresses there. A reply that was never seen has those of the request, exchanged.
	source, destination string
	// request is the last sighting of the last request; nil if there was none.
	request *Sighting
	// way has the sightings of the packet, up to last.
	way []Sighting
}

// explanation returns one sentence: where the request or the reply was seen last, and what decided that it got no
// farther.
func (w *watch) explanation(ctx context.Context) string {
	if w.result.OK {
		return "the same probe succeeded when it was repeated with captures on"
	}
	e := w.findStop()
	sentence := w.where(e)
	if why := w.why(ctx, e); why != "" {
		sentence += "; " + why
	}
	return sentence
}

// findStop returns where the last request that did not arrive was seen last, or, if all arrived, where the reply was.
func (w *watch) findStop() stop {
	var request, reply, lostRequest, lostReply *journey
	all := w.journeys()
	for i, j := range all {
		switch {
		case w.smallerThanAsked(j):
		case j.reply && !w.arrived(j):
			reply, lostReply = &all[i], &all[i]
		case j.reply:
			reply = &all[i]
		case !w.arrived(j):
			request, lostRequest = &all[i], &all[i]
		default:
			request = &all[i]
		}
	}
	var asked *Sighting
	if request != nil {
		last := request.last()
		asked = &last
	}
	switch {
	case lostRequest != nil:
		last := lostRequest.last()
		return w.stopAt(stop{what: "the request", last: &last, request: &last, way: lostRequest.seen})
	case lostReply != nil:
		last := lostReply.last()
		return w.stopAt(stop{what: "a reply", last: &last, request: asked, way: lostReply.seen})
	case reply != nil:
		last := reply.last()
		return w.stopAt(stop{what: "a reply", last: &last, request: asked, way: reply.seen, arrived: true})
	case asked != nil:
		return stop{
			what: "a reply", place: w.place(asked.Place), source: asked.Destination, destination: asked.Source,
			request: asked,
		}
	}
	return stop{what: "the request", place: w.from, source: w.local, destination: w.spec.To}
}

func (w *watch) stopAt(e stop) stop {
	e.place, e.source, e.destination = w.place(e.last.Place), e.last.Source, e.last.Destination
	return e
}

// sender returns the first sighting of the packet's last frame: what leaves a device may also leave the device below
// it, or a bridge.
func (e stop) sender() Sighting {
	for _, s := range e.way {
		if s.Outgoing && s.DestinationMAC == e.last.DestinationMAC && s.SourceMAC == e.last.SourceMAC {
			return s
		}
	}
	return *e.last
}

// smallerThanAsked reports whether a packet is too small for a probe with packets of a given size. Fragments have no
// size of their own.
func (w *watch) smallerThanAsked(j journey) bool {
	return w.spec.Size > 0 && j.seen[0].Length < w.spec.Size && !strings.Contains(j.seen[0].Info, "fragment")
}

// where says in words where a packet was seen last.
func (w *watch) where(e stop) string {
	of := w.sizeText()
	switch {
	case e.last == nil && e.request == nil:
		return fmt.Sprintf("the request%s never left %s", of, e.place.Name)
	case e.last == nil:
		return fmt.Sprintf("the request%s was last seen %s, and no reply%s left %s", of, at(*e.request), of,
			e.place.Name)
	case e.what == "a reply" && e.request != nil:
		return fmt.Sprintf("the request%s was last seen %s, a reply%s was last seen %s", of, at(*e.request), of,
			at(*e.last))
	}
	return fmt.Sprintf("%s%s was last seen %s", e.what, of, at(*e.last))
}

func at(s Sighting) string {
	direction := "entering"
	if s.Outgoing {
		direction = "leaving"
	}
	return fmt.Sprintf("%s %s of %s", direction, s.Interface, s.Place)
}

// translation says where the source of a request was translated.
func (w *watch) translation(context.Context) string {
	for _, j := range w.journeys() {
		if j.reply {
			continue
		}
		for i, s := range j.seen[1:] {
			before := j.seen[i]
			if s.Source == before.Source {
				continue
			}
			return fmt.Sprintf("the request had the source %s when it was last seen %s, and %s %s; %s",
				before.Source, at(before), s.Source, at(s), w.translator(before, s))
		}
	}
	return "no translation was seen when the same probe was repeated with captures on"
}

// translator returns what translated the source of a packet between two sightings.
func (w *watch) translator(before, after Sighting) string {
	for _, v := range w.watched[after.Place].Verdicts {
		if v.Action == witness.Translated && v.Source == before.Source && translatesSource(v.Rule) {
			return fmt.Sprintf("%s translated it: rule %q of the nftables chain %q", after.Place, v.Rule, v.Chain)
		}
	}
	return after.Place + " translated it"
}

// translatesSource reports whether a rule translates source addresses.
func translatesSource(rule string) bool {
	return slices.ContainsFunc([]string{"masquerade", "snat", "MASQUERADE", "SNAT", "NETMAP"}, func(word string) bool {
		return strings.Contains(rule, word)
	})
}
