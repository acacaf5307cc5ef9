package packetpath

import (
	"context"
	"fmt"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/snapshot"
	"github.com/cnitest/cnitest/e2e/witness"
)

// dropped names the rule or policy of nftables that dropped a packet.
func (w *watch) dropped(_ context.Context, e stop) string {
	type packet struct{ what, place, source, destination string }
	packets := []packet{{e.what, e.place.Name, e.source, e.destination}}
	if e.request != nil && (e.last == nil || e.arrived) {
		// A missing reply may mean that the request was dropped behind the interface.
		packets = append([]packet{{"the request", e.request.Place, e.request.Source, e.request.Destination}},
			packets...)
	}
	for _, p := range packets {
		if v, ok := w.dropAt(p.place, p.source, p.destination); ok {
			return fmt.Sprintf("%s dropped %s: %s", p.place, strings.Replace(p.what, "a ", "the ", 1), dropText(v))
		}
	}
	return ""
}

// dropAt returns a drop of a packet at a place. Addresses that were translated in the meantime do not count.
func (w *watch) dropAt(place, source, destination string) (witness.Verdict, bool) {
	likeness := func(v witness.Verdict) int {
		n := 0
		if v.Source == source {
			n++
		}
		if v.Destination == destination {
			n++
		}
		return n
	}
	var best witness.Verdict
	found := -1
	for _, v := range w.watched[place].Verdicts {
		turned := v.Source == destination || v.Destination == source
		if v.Action == witness.Dropped && !turned && likeness(v) > found {
			best, found = v, likeness(v)
		}
	}
	return best, found >= 0
}

// dropText describes the rule or the policy of a drop.
func dropText(v witness.Verdict) string {
	if v.Rule == "" {
		return fmt.Sprintf("the nftables chain %q drops what none of its rules accepts", v.Chain)
	}
	text := fmt.Sprintf("rule %q of the nftables chain %q", v.Rule, v.Chain)
	if strings.Contains(v.Rule, "redirect") {
		// nf_nat_redirect_ipv4 of net/netfilter/nf_nat_redirect.c drops what came in by one without.
		text += ", which needs an address on that interface"
	}
	return text
}

// legacyPolicy names a chain of iptables-legacy whose policy is to drop: rules of iptables-legacy cannot be traced.
func (w *watch) legacyPolicy(ctx context.Context, _ stop) string {
	for _, node := range w.env.Cluster.Nodes() {
		state, err := node.Agent.Snapshot(ctx, agent.SnapshotArgs{Kinds: []string{snapshot.Iptables}})
		if err != nil {
			return ""
		}
		for _, item := range state.Items {
			if strings.Contains(item.Name+" "+item.Text, "FORWARD DROP") {
				return fmt.Sprintf("on %s the %s %s drops what it does not accept: an administrator adds an accept "+
					"for the pods' addresses there",
					node.Name, item.Kind, item.Name)
			}
		}
	}
	return ""
}
