// Package bench measures what calls of a chain of plugins and the traffic of its pods cost, beside a chain that does
// nothing and upstream's plugins, in turn: A B C A B C …, so that other work of the machine slows all of them alike. It
// judges nothing; its document is that of package benchmark.
//
// Calls run through libcni on a node with nothing else on it, one node for each chain. Their time is that of the
// plugins, each from the start of its process to its end.
//
// Run its tests: go test ./e2e/bench (as root, for the one that measures)
package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Options say what to measure, and for how long.
type Options struct {
	// Request has the conflist under test, the directory of the binaries, the target and the network; its nodes are
	// set here.
	Request cluster.Request
	// Node is what each node has besides a name.
	Node    scenario.Node
	Backend cluster.Backend
	// Duration bounds the whole run, from the start; what has begun then is brought to its end.
	Duration time.Duration
	// Rounds bounds how often each call is measured with one number of callers and attachments; more than 100 are never
	// made, and 0 means 100.
	Rounds int
	// Callers are numbers of calls at the same time, Attachments numbers of attachments that stand on the node; both
	// ascend, and calls that are made one at a time are always measured.
	Callers, Attachments []int
	// Traffic measures traffic too, Services that of a service among it.
	Traffic, Services bool
	// Version is the one of this program.
	Version string
	// Tell gets a line about what is measured next. It may be nil.
	Tell func(text string)
}

// CallError is a call of the chain under test that failed, so that nothing can be measured.
type CallError struct {
	Chain string
	Err   error
}

// Error names the chain.
func (e *CallError) Error() string { return fmt.Sprintf("%s: %s", e.Chain, e.Err) }

// Unwrap returns the error of the call.
func (e *CallError) Unwrap() error { return e.Err }

// bench is a benchmark under way.
type bench struct {
	options Options
	begin   time.Time
	doc     *benchmark.Benchmark
	// chains has the one under test first and the one that does nothing behind it.
	chains []*chain
	series map[seriesKey]samples
	growth map[growthKey]growth
	// spare is the node with few attachments beside which growth is measured; nil until then.
	spare *chain
	// fillRate is how many attachments of the chain under test can be made in a second; 0 until some were.
	fillRate float64
}

// Run measures until all is done or the time is over. A *CallError says that a call of the chain under test failed. If
// ctx ends, the document has what was measured until then, and the error is the cause of the end.
func Run(ctx context.Context, options Options) (*benchmark.Benchmark, error) {
	if options.Tell == nil {
		options.Tell = func(string) {}
	}
	if key, _ := options.Request.Conflist.DeviceKey(); key != "" {
		reason := fmt.Sprintf("%s gives each pod a device of its node (%s), of which a node has few: its calls cannot "+
			"be measured with many pods", options.Request.Conflist.Path, key)
		return &benchmark.Benchmark{}, &cluster.UnfitError{Reason: reason}
	}
	b := &bench{
		options: options, begin: time.Now(), series: map[seriesKey]samples{}, growth: map[growthKey]growth{},
		doc: &benchmark.Benchmark{
			APIVersion: benchmark.APIVersion, Kind: benchmark.Kind,
			Suite: report.Suite{Version: options.Version}, Conflist: options.Request.Conflist.Path,
			Started: time.Now().UTC().Truncate(time.Second), Machine: machine(),
			Calls: []benchmark.Call{}, Growth: []benchmark.Growth{}, Costs: []benchmark.Cost{},
			Traffic: []benchmark.Traffic{}, Findings: []string{}, Missing: []benchmark.Missing{}, Notes: []string{},
		},
	}
	defer b.close()
	err := b.measure(ctx)
	b.doc.DurationSeconds = time.Since(b.begin).Seconds()
	b.summarize()
	var failed *CallError
	if ctx.Err() != nil {
		b.miss("the rest", context.Cause(ctx).Error())
		return b.doc, context.Cause(ctx)
	}
	if errors.As(err, &failed) {
		b.miss("the rest", failed.Error())
		if failed.Chain != b.chains[0].Name {
			err = fmt.Errorf("%s, beside the chain under test: %w", failed.Chain, failed.Err)
		}
	}
	return b.doc, err
}

// measure goes through all parts. The shares of the time are of what is left when a part begins.
func (b *bench) measure(ctx context.Context) error {
	if err := b.setUp(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		share float64
		do    func(ctx context.Context, until time.Time) error
	}{{0.12, b.alone}, {0.2, b.together}, {0.1, b.trace}, {0.25, b.carry}, {1, b.grow}} {
		until := time.Now().Add(time.Duration(part.share * float64(b.left())))
		if err := part.do(ctx, until); err != nil {
			return err
		}
	}
	return nil
}

// left returns the time that is left.
func (b *bench) left() time.Duration { return max(0, b.options.Duration-time.Since(b.begin)) }

func (b *bench) miss(what, why string) {
	b.doc.Missing = append(b.doc.Missing, benchmark.Missing{What: what, Why: why})
}

func (b *bench) close() {
	for _, c := range append(b.chains, b.spare) {
		if c != nil {
			c.close()
		}
	}
}
