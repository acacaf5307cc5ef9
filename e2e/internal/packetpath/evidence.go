package packetpath

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// routeText returns the routes by which both ends send to each other, a line for each.
func (w *watch) routeText(ctx context.Context) string {
	var lines []string
	for _, end := range []struct {
		place *cluster.Place
		dst   string
	}{{w.from, w.spec.To}, {w.to, w.local}} {
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

// witnessText returns what netfilter dropped and translated, and which counters of lost packets grew, place by place.
func (w *watch) witnessText() string {
	var lines []string
	for _, p := range w.places {
		watched := w.watched[p.Name]
		for _, v := range watched.Verdicts {
			rule := "policy of the chain"
			if v.Rule != "" {
				rule = v.Rule
			}
			lines = append(lines, fmt.Sprintf("%s: nftables chain %s %s %d of %s > %s: %s", p.Name, v.Chain, v.Action,
				v.Times, v.Source, v.Destination, rule))
		}
		if p.Name == cluster.FabricName {
			continue // a bridge handles no IP packets, and counts frames that are flooded to it
		}
		for _, name := range slices.Sorted(maps.Keys(watched.Counters)) {
			lines = append(lines, fmt.Sprintf("%s: counter %s +%d", p.Name, name, watched.Counters[name]))
		}
		if watched.Unwatched != "" {
			lines = append(lines, p.Name+": "+watched.Unwatched)
		}
	}
	if len(lines) == 0 {
		return "nftables dropped and translated nothing, and no counter of lost packets grew"
	}
	return strings.Join(lines, "\n")
}
