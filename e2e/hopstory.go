package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/witness"
)

// stop is where a packet of the probe came to its end.
type stop struct {
	// what is "the request" or "a reply".
	what string
	// last is where it was seen last; nil when it never was, and then place is where it should have come from.
	last  *sighting
	place *cluster.Place
	// arrived tells whether it came to where it was to go.
	arrived bool
	// source and destination are its addresses there. Of a reply that was never seen they are those of the request, turned round.
	source, destination string
	// request is where the last request was seen; nil when there was none.
	request *sighting
	// way is where the packet was seen, up to last.
	way []sighting
}

// story is one sentence: where the request or the reply was seen last, and what decided that it got no farther.
func (w *watching) story(ctx context.Context) string {
	if w.result.OK {
		return "the same probe succeeded when it was repeated with captures on"
	}
	e := w.findStop()
	story := w.where(e)
	if why := w.why(ctx, e); why != "" {
		story += "; " + why
	}
	return story
}

// findStop looks for the last request that did not arrive. Where all did, a reply is looked for.
func (w *watching) findStop() stop {
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
	var asked *sighting
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
		return stop{what: "a reply", place: w.place(asked.place), source: asked.Destination, destination: asked.Source, request: asked}
	}
	return stop{what: "the request", place: w.from, source: w.local, destination: w.spec.To}
}

func (w *watching) stopAt(e stop) stop {
	e.place, e.source, e.destination = w.place(e.last.place), e.last.Source, e.last.Destination
	return e
}

// sender is where the last frame of a packet was made: what leaves a device may leave the one below it, or a bridge, as well.
func (e stop) sender() sighting {
	for _, s := range e.way {
		if s.Outgoing && s.DestinationMAC == e.last.DestinationMAC && s.SourceMAC == e.last.SourceMAC {
			return s
		}
	}
	return *e.last
}

// smallerThanAsked reports whether a packet of the right kind is too small to be one of the probe, which says how large its are. What
// is in fragments has no size of its own.
func (w *watching) smallerThanAsked(j journey) bool {
	return w.spec.Size > 0 && j.seen[0].Length < w.spec.Size && !strings.Contains(j.seen[0].Info, "fragment")
}

// where says where a packet was seen last.
func (w *watching) where(e stop) string {
	of := w.sizeText()
	switch {
	case e.last == nil && e.request == nil:
		return fmt.Sprintf("the request%s never left %s", of, e.place.Name)
	case e.last == nil:
		return fmt.Sprintf("the request%s was last seen %s, and no reply%s left %s", of, at(*e.request), of, e.place.Name)
	case e.what == "a reply" && e.request != nil:
		return fmt.Sprintf("the request%s was last seen %s, a reply%s was last seen %s", of, at(*e.request), of, at(*e.last))
	}
	return fmt.Sprintf("%s%s was last seen %s", e.what, of, at(*e.last))
}

func at(s sighting) string {
	direction := "entering"
	if s.Outgoing {
		direction = "leaving"
	}
	return fmt.Sprintf("%s %s of %s", direction, s.Interface, s.place)
}

// disguise says where a request got another source than it had.
func (w *watching) disguise(context.Context) string {
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

// translator is who gave a packet another source on its way from one sighting to the next.
func (w *watching) translator(before, after sighting) string {
	for _, v := range w.watched[after.place].Verdicts {
		if v.Action == witness.Translated && v.Source == before.Source && translatesSource(v.Rule) {
			return fmt.Sprintf("%s translated it: rule %q of the nftables chain %q", after.place, v.Rule, v.Chain)
		}
	}
	return after.place + " translated it"
}

// translatesSource reports whether a rule is one of source addresses.
func translatesSource(rule string) bool {
	return slices.ContainsFunc([]string{"masquerade", "snat", "MASQUERADE", "SNAT", "NETMAP"}, func(word string) bool { return strings.Contains(rule, word) })
}
