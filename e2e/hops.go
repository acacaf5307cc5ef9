package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report"
)

const (
	// repeatedFor is longer than the kernel waits between two questions for a neighbour (arp(7), retrans_time), so that one is seen.
	repeatedFor = 1500 * time.Millisecond
	// explainedWithin bounds what the explanation of a failure may cost, the repeated probe included.
	explainedWithin = 3 * time.Second
)

// explainProbe repeats a failed probe once, with all places on its way watched, and says how far its packets got and why not farther.
func (r *run) explainProbe(ctx context.Context, from, to *cluster.Place, spec probe.Spec, failed probe.Result) error {
	what := fmt.Sprintf("%s to %s", spec.Protocol, spec.To)
	if spec.Port != 0 {
		what += fmt.Sprintf(" port %d", spec.Port)
	}
	dead := &environment.Failure{Err: fmt.Errorf("%s to %s, %s: %s", from.Name, to.Name, what, failed.Error)}
	spec.Within, spec.Attempts = repeatedFor, 1
	return r.explain(ctx, dead, &watching{run: r, from: from, to: to, spec: spec, local: failed.Local}, (*watching).story)
}

// explainSource repeats a probe whose far end saw a source that it should not, and says where it got that.
func (r *run) explainSource(ctx context.Context, err error, from, to *cluster.Place, spec probe.Spec, answered probe.Result) error {
	spec.Within, spec.Attempts = repeatedFor, 1
	return r.explain(ctx, &environment.Failure{Err: err}, &watching{run: r, from: from, to: to, spec: spec, local: answered.Local}, (*watching).disguise)
}

// explain adds a sentence and evidence to a dead probe, and leaves its own error alone. Of many that fail at once, one tells the story
// of all.
func (r *run) explain(ctx context.Context, dead *environment.Failure, w *watching, tell func(*watching, context.Context) string) error {
	if !r.explaining.CompareAndSwap(false, true) {
		return dead
	}
	ctx, cancel := context.WithTimeoutCause(ctx, explainedWithin, fmt.Errorf("the explanation took longer than %s", explainedWithin))
	defer cancel()
	if err := w.repeat(ctx); err != nil {
		dead.Err = fmt.Errorf("%w (no capture: %w)", dead.Err, err)
		return dead
	}
	story := tell(w, ctx)
	dead.Evidence = w.evidence(ctx, fmt.Sprintf("%s; %s", dead.Err, story))
	if story != "" {
		dead.Err = fmt.Errorf("%w; %s", dead.Err, story)
	}
	return dead
}

// evidence is what was seen, and beside the report the packets themselves.
func (w *watching) evidence(ctx context.Context, story string) []report.Evidence {
	var lines []string
	for _, s := range w.seen {
		lines = append(lines, s.String())
	}
	way := report.Evidence{Title: "way of the packets", Text: strings.Join(lines, "\n")}
	if data, err := pcapng(w.seen, story); err != nil {
		way.Text += "\n(no file of it: " + err.Error() + ")"
	} else {
		way.File = w.run.suite.keepCapture(w.run.env.Scenario.Name, data)
	}
	return []report.Evidence{way, {Title: "routes", Text: w.routeText(ctx)}, {Title: "what the kernels say", Text: w.witnessText()}}
}

// routeText is how both ends would send to the other.
func (w *watching) routeText(ctx context.Context) string {
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

// witnessText is what netfilter dropped and translated, and which counters of lost packets grew, place by place.
func (w *watching) witnessText() string {
	var lines []string
	for _, p := range w.places {
		watched := w.watched[p.Name]
		for _, v := range watched.Verdicts {
			rule := "policy of the chain"
			if v.Rule != "" {
				rule = v.Rule
			}
			lines = append(lines, fmt.Sprintf("%s: nftables chain %s %s %d of %s > %s: %s", p.Name, v.Chain, v.Action, v.Times, v.Source, v.Destination, rule))
		}
		if p.Name == fabricName {
			continue // a bridge has no part in IP, and counts what is flooded to it
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
