package packetpath

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/environment"
)

// why returns what stopped a packet: in the words of the kernel if it reports a reason, else what is known about a
// packet lost at this place. It is empty if nothing is known.
func (w *watch) why(ctx context.Context, e stop) string {
	for _, find := range []func(context.Context, stop) string{
		w.dropped, w.tooLarge, w.pastTheProxy, w.astray, w.refused, w.unanswered, w.disguisedReply, w.rejected,
		w.misdirected, w.sent, w.counted,
		w.legacyPolicy,
	} {
		if reason := find(ctx, e); reason != "" {
			return reason
		}
	}
	return ""
}

// disguisedReply explains a reply that the client ignored since its source is not the address that was asked.
func (w *watch) disguisedReply(ctx context.Context, e stop) string {
	if !e.arrived || e.last == nil || e.last.Source == w.spec.To {
		return ""
	}
	text := fmt.Sprintf("the reply has the source %s (%s) there, and %s was asked", e.last.Source,
		w.owner(ctx, e.last.Source), w.spec.To)
	for _, j := range w.journeys() {
		for i := 1; i < len(j.seen) && !j.reply; i++ {
			translator := j.seen[i].Place
			if j.seen[i].Destination != j.seen[i-1].Destination && !slices.ContainsFunc(e.way, func(s Sighting) bool {
				return s.Place == translator && !s.Passing
			}) {
				return text + ": it did not come back through " + translator + ", which had translated the request"
			}
		}
	}
	return text
}

// rejected names the place that answered with an error: a router by ICMP, or the destination itself if nobody listens
// there.
func (w *watch) rejected(ctx context.Context, e stop) string {
	for _, s := range w.seen {
		refusal := slices.ContainsFunc([]string{
			"Unreachable", "TimeExceeded", "TooBig", "FragmentationNeeded", "Prohibited",
		}, func(word string) bool {
			return strings.HasPrefix(s.Protocol, "ICMP") && strings.Contains(s.Info, word)
		})
		if refusal && s.Source != s.Destination && (s.Destination == e.source || e.last == nil) {
			return fmt.Sprintf("%s answered with %q", w.owner(ctx, s.Source), s.Info)
		}
	}
	if e.what == "a reply" && e.last != nil && strings.Contains(e.last.Info, "RST") {
		return fmt.Sprintf("%s refused the connection: nothing listens there on that port, or a rule says so",
			w.owner(ctx, e.source))
	}
	return ""
}

// counted names counters of dropped packets that grew at the place where a packet was lost.
func (w *watch) counted(_ context.Context, e stop) string {
	var grown []string
	for name := range w.watched[e.place.Name].Counters {
		grown = append(grown, name)
	}
	if len(grown) == 0 {
		return ""
	}
	slices.Sort(grown)
	return fmt.Sprintf("%s dropped packets meanwhile: %s grew", e.place.Name,
		strings.Join(grown, ", "))
}

// owner returns the place that has an address, or the address if none has it.
func (w *watch) owner(ctx context.Context, address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	for _, p := range w.places {
		if own, err := environment.Owns(ctx, p, addr); err == nil && own {
			return p.Name
		}
	}
	return address
}
