package packetpath

import (
	"context"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/witness"
)

// refused explains a packet for which the kernel of the last place has no route: there is none, a rule or route
// rejects it, or it came in by an interface that fails the reverse path filter.
func (w *watch) refused(ctx context.Context, e stop) string {
	questions := []witness.Question{{Destination: e.destination, Source: e.source}}
	switch {
	case e.arrived:
		return ""
	case e.last == nil && e.request != nil:
		// Either the request was refused on its way in, or the reply on its way out.
		questions = append([]witness.Question{
			{Destination: e.request.Destination, Source: e.request.Source, Interface: e.request.Interface},
		}, questions...)
	case e.last != nil && e.last.Outgoing:
		return ""
	case e.last != nil:
		questions[0].Interface = e.last.Interface
	}
	for _, q := range questions {
		way, err := w.way(ctx, e.place, q)
		if err != nil || way.Refusal == "" {
			continue
		}
		if way.ReversePath {
			return w.reversePath(ctx, e.place, q, way)
		}
		whose := ""
		if e.request != nil && q.Destination == e.request.Source {
			whose = ", the source of the request"
		}
		return fmt.Sprintf("%s has no route to %s%s: %s", e.place.Name, q.Destination, whose, refusalText(way))
	}
	return ""
}

// way asks the kernel of a place for a route. Without a source the kernel chooses one, as for a socket.
func (w *watch) way(ctx context.Context, place *cluster.Place, q witness.Question) (witness.Way, error) {
	if place == w.from && q.Interface == "" && w.spec.From == "" {
		q.Source = ""
	}
	return place.Agent.Lookup(ctx, place.Netns, q)
}

// refusalText describes what rejected a packet.
func refusalText(way witness.Way) string {
	switch {
	case way.Rule != "" && way.Route != "":
		return fmt.Sprintf("policy rule %q leads to route %q", way.Rule, way.Route)
	case way.Rule != "":
		return fmt.Sprintf("policy rule %q decides", way.Rule)
	case way.Route != "":
		return fmt.Sprintf("route %q decides", way.Route)
	}
	return fmt.Sprintf("none of its routes matches (%s)", way.Refusal)
}

// reversePath explains a packet that came in by an interface by which the kernel would not send to its source.
func (w *watch) reversePath(ctx context.Context, place *cluster.Place, q witness.Question, way witness.Way) string {
	text := fmt.Sprintf("the reverse path filter of %s (rp_filter %d on %s) dropped it", place.Name, way.Filter,
		q.Interface)
	back, err := place.Agent.Lookup(ctx, place.Netns, witness.Question{Destination: q.Source})
	switch {
	case err != nil:
		return text
	case back.Refusal != "":
		return fmt.Sprintf("%s: it has no route back to %s, %s", text, q.Source, refusalText(back))
	}
	return fmt.Sprintf("%s: its own way to %s is %s", text, q.Source, routeWords(back))
}

// routeWords returns the route of an answer, or "by DEVICE" if none is known, and the rule if it is not one of the
// default rules.
func routeWords(way witness.Way) string {
	text := "by " + way.Device
	if way.Route != "" {
		text = fmt.Sprintf("route %q", way.Route)
	}
	if way.Rule != "" {
		text += fmt.Sprintf(" after policy rule %q", way.Rule)
	}
	return text
}

// tooLarge explains a packet that its own host cannot send because of its size.
func (w *watch) tooLarge(ctx context.Context, e stop) string {
	if e.last != nil || !strings.Contains(w.result.Error, "message too long") {
		return ""
	}
	way, err := w.way(ctx, w.from, witness.Question{Destination: w.spec.To})
	if err != nil || way.MTU == 0 {
		return ""
	}
	return fmt.Sprintf("%s has learned that on its way to %s, %s, packets of more than %d bytes do not pass",
		w.from.Name, w.spec.To, routeWords(way), way.MTU)
}

// sent names the route by which a lost packet left, or should have left.
func (w *watch) sent(ctx context.Context, e stop) string {
	switch {
	case e.arrived || e.last == nil || e.sender().Place == cluster.FabricName:
		return ""
	case e.last.Outgoing:
		sent := e.sender()
		sender := w.place(sent.Place)
		way, err := w.wayOut(ctx, sent)
		if err != nil || way.Refusal != "" || way.Route == "" || way.Device != sent.Interface {
			return ""
		}
		text := fmt.Sprintf("%s sent it there by %s", sender.Name, routeWords(way))
		if reason := w.macvlanParent(ctx, sender, sent.Destination, way.Device); reason != "" {
			text += "; " + reason
		}
		return text
	}
	way, err := w.way(ctx, e.place, witness.Question{
		Destination: e.destination, Source: e.source, Interface: e.last.Interface,
	})
	switch {
	case err != nil || way.Refusal != "" || way.Route == "":
		return ""
	case way.Local:
		return fmt.Sprintf("%s takes it for its own by %s", e.place.Name, routeWords(way))
	}
	return fmt.Sprintf("%s would send it on by %s", e.place.Name, routeWords(way))
}

// wayOut returns how a packet that was seen leaving a place was sent.
func (w *watch) wayOut(ctx context.Context, sent Sighting) (witness.Way, error) {
	q := witness.Question{Destination: sent.Destination, Source: sent.Source}
	for _, s := range w.seen {
		if s.Place == sent.Place && !s.Outgoing && !s.Passing && s.Source == sent.Source &&
			s.Destination == sent.Destination {
			q.Interface = s.Interface // it was forwarded
		}
	}
	return w.way(ctx, w.place(sent.Place), q)
}
