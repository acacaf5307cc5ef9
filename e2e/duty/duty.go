// Package duty asks a runtime for what the CNI specification demands of runtimes (package contract has the sentences,
// with ids from RUN-1). Plugins that record their calls stand in the runtime's configuration. The runtime is asked to
// attach, check and delete pods, and what the plugins got is compared with the specification.
//
// It does not test plugins, which package contract does, nor whether pods can be reached.
//
// Run its tests: sudo go test ./e2e/duty
package duty

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/report"
)

// Options say what to ask.
type Options struct {
	Runtime Runtime
	// Node is the agent of the node on which the runtime runs.
	Node *agent.Client
	// Label is a part of the names of networks and pods, letters and digits. Every Run on a node needs another one.
	Label string
	// CNIVersion is the version of the specification at which most duties are asked, the highest that the runtime
	// knows; empty means Newest.
	CNIVersion string
	// Match chooses duties by their ids; nil asks all.
	Match func(id string) bool
	// Done is called after each duty, unless it is nil.
	Done func(report.Result)
}

// checks returns the check of each duty. A check returns nil, a *wrong, an *exempt, or why the lab failed.
func checks() map[string]func(context.Context, *bench) error {
	all := map[string]func(context.Context, *bench) error{}
	for _, part := range []map[string]func(context.Context, *bench) error{
		configuration(), parameters(), lifecycle(), exclusion(), deriving(), afterPowerCut(),
	} {
		maps.Copy(all, part)
	}
	return all
}

// Run asks a runtime for its duties, one after the other. Each has a network, pods and records of its own.
func Run(ctx context.Context, options Options) ([]report.Result, error) {
	if err := options.Node.InstallStubs(ctx); err != nil {
		return nil, err
	}
	all, plain := checks(), &plain{}
	var results []report.Result
	for _, r := range contract.Requirements() {
		check := all[r.ID]
		if check == nil || options.Match != nil && !options.Match(r.ID) {
			continue
		}
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		result := judge(ctx, options, plain, r, check)
		results = append(results, result)
		if options.Done != nil {
			options.Done(result)
		}
	}
	return results, nil
}

// judge asks for one duty.
func judge(ctx context.Context, options Options, life *plain, r *contract.Requirement,
	check func(context.Context, *bench) error,
) report.Result {
	b := &bench{
		runtime: options.Runtime, agent: options.Node, plain: life, network: r.ID + options.Label,
		version: cmp.Or(options.CNIVersion, Newest),
		log:     filepath.Join("/run/cnitest-runtime", r.ID+options.Label),
	}
	result := report.Result{
		ID: r.ID, Title: r.Text, Why: r.Why, Kind: "requirement", Plugin: options.Runtime.Name(),
		Level: string(r.Level), Result: report.Pass, Covers: r.Covers,
	}
	start := time.Now()
	err := check(ctx, b)
	result.DurationSeconds = time.Since(start).Seconds()
	var failed *wrong
	var free *exempt
	switch {
	case err == nil:
	case errors.As(err, &failed):
		result.Result, result.Reason, result.Evidence = report.Fail, failed.text, b.evidence(ctx)
	case errors.As(err, &free):
		result.Result, result.Reason = report.NotApplicable, free.reason
	default:
		result.LabFails(err)
	}
	return result
}

// evidence is what the runtime was asked for, and what the plugins got.
func (b *bench) evidence(ctx context.Context) []report.Evidence {
	evidence := []report.Evidence{{
		Title: "what the runtime was asked for, and what it said", Text: strings.Join(b.told, "\n"),
	}}
	calls, err := b.all(ctx)
	if err != nil {
		return evidence
	}
	var text strings.Builder
	for _, c := range calls {
		fmt.Fprintf(&text, "%s %s\n", c.Start.Format("15:04:05.000000"), c.name())
		for _, e := range slices.Sorted(slices.Values(c.Env)) {
			if strings.HasPrefix(e, "CNI_") {
				fmt.Fprintf(&text, "  %s\n", e)
			}
		}
		fmt.Fprintf(&text, "  %s\n", strings.TrimSpace(c.Stdin))
	}
	return append(evidence, report.Evidence{
		Title: fmt.Sprintf("what the plugins got, in the order of time (each is %s)", stub.Chained),
		Text:  text.String(),
	})
}
