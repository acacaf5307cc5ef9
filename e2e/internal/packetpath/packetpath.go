// Package packetpath says how far the packets of a failed probe came, and what stopped them.
//
// It repeats the probe while all places on the path are watched, follows each packet from place to place, and asks the
// kernel of the place where the last one was seen what it does with such a packet. If identify does not know a
// protocol, the explanation says that its packets never left.
//
// Run its tests: go test ./e2e/internal/packetpath
package packetpath

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report"
)

const (
	// repeatedFor is longer than the kernel waits between two questions for a neighbour (arp(7), retrans_time), so that
	// one of them is seen.
	repeatedFor = 1500 * time.Millisecond
	// explainedWithin bounds the time for the explanation of a failure, including the repeated probe, counted in the
	// time that the machine gives: on a busy machine the last causes would otherwise not be examined.
	explainedWithin = 5 * time.Second
)

// Explainer explains failed probes of one scenario. If many fail at the same time it explains only the first; the
// others keep their own errors. Its methods may be called concurrently.
type Explainer struct {
	env *environment.Environment
	// keep stores a file of packets beside the report and returns its path there; empty if nothing is written.
	keep func(scenario string, pcapng []byte) (path string)
	used atomic.Bool
}

// New returns an explainer. keep stores a file of packets, named after the scenario, beside the report, and returns the
// file's path there; it returns an empty path if it stored nothing.
func New(env *environment.Environment, keep func(scenario string, pcapng []byte) (path string)) *Explainer {
	return &Explainer{env: env, keep: keep}
}

// Failed is a probe whose outcome is not the wanted one.
type Failed struct {
	From, To *cluster.Place
	Spec     probe.Spec
	Result   probe.Result
}

// Unanswered explains a probe without an answer: it repeats the probe once, while all places on the path are watched,
// and says how far the packets got and why no farther. The error is an *environment.Failure.
func (e *Explainer) Unanswered(ctx context.Context, f Failed) error {
	what := fmt.Sprintf("%s to %s", f.Spec.Protocol, f.Spec.To)
	if f.Spec.Port != 0 {
		what += fmt.Sprintf(" port %d", f.Spec.Port)
	}
	err := fmt.Errorf("%s to %s, %s: %s", f.From.Name, f.To.Name, what, f.Result.Error)
	return e.explain(ctx, err, f, (*watch).explanation)
}

// Silent explains why something gets no reply, which err describes and the failed probe shows: it repeats the probe and
// says where the packets end. The error is an *environment.Failure.
func (e *Explainer) Silent(ctx context.Context, err error, f Failed) error {
	return e.explain(ctx, err, f, (*watch).explanation)
}

// WrongSource explains a probe whose destination saw a wrong source, which err describes: it repeats the probe and says
// where the request got that source. The error is an *environment.Failure.
func (e *Explainer) WrongSource(ctx context.Context, err error, f Failed) error {
	return e.explain(ctx, err, f, (*watch).translation)
}

// explain adds a sentence and evidence to the error of a probe.
func (e *Explainer) explain(ctx context.Context, err error, f Failed,
	explanation func(*watch, context.Context) string,
) error {
	failure := &environment.Failure{Err: err}
	if !e.used.CompareAndSwap(false, true) {
		return failure
	}
	w := &watch{env: e.env, probed: probed{from: f.From, to: f.To, spec: f.Spec, local: f.Result.Local}}
	w.spec.Within, w.spec.Attempts = repeatedFor, 1
	ctx, cancel := machinetime.WithTimeoutCause(ctx, explainedWithin, fmt.Errorf("the explanation took longer than %s",
		explainedWithin))
	defer cancel()
	if err := w.repeat(ctx); err != nil {
		failure.Err = fmt.Errorf("%w (no capture: %w)", failure.Err, err)
		return failure
	}
	sentence := explanation(w, ctx)
	failure.Evidence = e.evidence(ctx, w, fmt.Sprintf("%s; %s", failure.Err, sentence))
	if sentence != "" {
		failure.Err = fmt.Errorf("%w; %s", failure.Err, sentence)
	}
	return failure
}

// evidence returns what was seen, and stores the packets themselves with a comment.
func (e *Explainer) evidence(ctx context.Context, w *watch, comment string) []report.Evidence {
	var lines []string
	for _, s := range w.seen {
		lines = append(lines, s.String())
	}
	way := report.Evidence{Title: "path of the packets", Text: strings.Join(lines, "\n")}
	if data, err := pcapng(w.seen, comment); err != nil {
		way.Text += "\n(no file of it: " + err.Error() + ")"
	} else {
		way.File = e.keep(e.env.Scenario.Name, data)
	}
	return []report.Evidence{
		way, {Title: "routes", Text: w.routeText(ctx)}, {Title: "what the kernels say", Text: w.witnessText()},
	}
}
