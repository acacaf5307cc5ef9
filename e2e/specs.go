package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/reporters"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Describe adds a spec for each scenario to the Ginkgo suite under construction; call it where Describe of Ginkgo may stand
// at the top level. Specs bear their features, failure modes and level ("core", "extended") as labels. It may be called again
// with other options.
func Describe(options Options) {
	suite, err := New(options)
	if err != nil {
		ginkgo.It("reads "+options.Conflist, func() { ginkgo.Fail(err.Error()) })
		return
	}
	suite.describe(context.Background(), func(error, *report.Report) {})
}

// Run runs everything in one test function and returns the report, nil when there is none. The test fails where the verdict is
// not-conformant. Ginkgo allows one call in a process.
func Run(t ginkgo.GinkgoTestingT, options Options) (*report.Report, error) {
	suite, err := New(options)
	if err != nil {
		t.Fail()
		return nil, err
	}
	return suite.runSpecs(context.Background(), t)
}

// RunSpecs runs the specs of the suite with Ginkgo, as Run does, until ctx ends. labelFilter is in Ginkgo's language; empty
// selects all.
func (s *Suite) RunSpecs(ctx context.Context, labelFilter string) (*report.Report, error) {
	if _, err := s.Matching(labelFilter); err != nil {
		return nil, err
	}
	config, reporter := ginkgo.GinkgoConfiguration()
	config.LabelFilter = labelFilter
	s.selection = strings.TrimSpace(s.selection + " " + labelFilter)
	return s.runSpecs(ctx, ignoredT{}, config, reporter)
}

// ignoredT is a test that nobody looks at: the report says it all.
type ignoredT struct{}

func (ignoredT) Fail() {}

func (s *Suite) runSpecs(ctx context.Context, t ginkgo.GinkgoTestingT, config ...any) (*report.Report, error) {
	var (
		outcome error
		result  *report.Report
	)
	s.describe(ctx, func(err error, r *report.Report) { outcome, result = err, r })
	ginkgo.RunSpecs(t, "cnitest "+s.options.Conflist, config...)
	if outcome == nil && result == nil {
		outcome = errors.New("the run was stopped before its end")
	}
	return result, outcome
}

// Matching are the chosen scenarios whose labels match an expression in Ginkgo's language; empty matches all. The error is
// one line.
func (s *Suite) Matching(labelFilter string) ([]*scenario.Scenario, error) {
	matches, err := types.ParseLabelFilter(labelFilter)
	var reason types.GinkgoError
	switch {
	case errors.As(err, &reason):
		// Its first line repeats the expression and marks the place with colours.
		lines := strings.Split(strings.TrimSpace(reason.Message), "\n")
		return nil, fmt.Errorf("label filter %q: %s", labelFilter, strings.TrimSpace(lines[len(lines)-1]))
	case err != nil:
		return nil, fmt.Errorf("label filter %q: %w", labelFilter, err)
	}
	var found []*scenario.Scenario
	for _, sc := range s.scenarios {
		if matches(s.labels(sc)) {
			found = append(found, sc)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("label filter %q matches none of %d scenarios; labels are features, failure modes, core and extended", labelFilter, len(s.scenarios))
	}
	return found, nil
}

// describe builds the specs. They end with ctx: Ginkgo's own contexts know of no signal that came before it listened. done is
// told of the end.
func (s *Suite) describe(ctx context.Context, done func(error, *report.Report)) {
	ahead := newReadAhead(s)
	// The label filter may leave the last spec out; the report is due all the same.
	finish := sync.OnceValues(func() (*report.Report, error) {
		ahead.stop()
		r, err := s.Finish()
		done(err, r)
		return r, err
	})
	prepared := false
	ginkgo.Describe(s.file.Network, ginkgo.Ordered, ginkgo.ContinueOnFailure, func() {
		ginkgo.BeforeAll(func(specCtx ginkgo.SpecContext) {
			both, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(specCtx, cancel)()
			if err := s.Prepare(both); err != nil {
				done(err, nil)
				var unfit *UnfitError
				if errors.As(err, &unfit) {
					if err := s.unfit(err); err != nil {
						ginkgo.Fail(err.Error())
					}
					ginkgo.Skip(err.Error())
				}
				ginkgo.Fail(err.Error())
			}
			prepared = true
			ahead.start(ctx)
		})
		for _, sc := range s.scenarios {
			ginkgo.It(sc.Name, s.labels(sc), func(ctx ginkgo.SpecContext) { s.verdictOf(ahead.result(ctx, sc)) })
		}
		ginkgo.AfterAll(func() {
			if prepared {
				_, _ = finish()
			}
		})
		ginkgo.It(leavesNothingID, ginkgo.Label(s.leavesNothingLabels()...), func() {
			r, err := finish()
			if err != nil {
				ginkgo.Fail(err.Error())
			}
			// The first that is no pass ends the spec: those that count come first.
			for _, counts := range []bool{true, false} {
				for _, result := range r.Results {
					if result.ID == leavesNothingID && r.Counts(result) == counts {
						s.verdictOf(result)
					}
				}
			}
		})
	})
	ginkgo.ReportAfterSuite("JUnit report", func(r ginkgo.Report) {
		if s.options.ReportDir == "" {
			return
		}
		if err := reporters.GenerateJUnitReport(s.withDurations(r), filepath.Join(s.options.ReportDir, "junit.xml")); err != nil {
			ginkgo.Fail(err.Error())
		}
	})
}

func (s *Suite) labels(sc *scenario.Scenario) ginkgo.Labels {
	labels := ginkgo.Labels{report.Extended}
	if s.options.Profile.Core(sc) {
		labels[0] = report.Core
	}
	for _, f := range sc.Features {
		labels = append(labels, string(f))
	}
	return append(labels, sc.Covers...)
}

// leavesNothingLabels are those of all scenarios, so that every selection ends with it.
func (s *Suite) leavesNothingLabels() []string {
	seen := map[string]bool{}
	var all []string
	for _, sc := range s.scenarios {
		for _, l := range s.labels(sc) {
			if !seen[l] {
				seen[l] = true
				all = append(all, l)
			}
		}
	}
	return all
}

// verdictOf turns a result into the end of a spec.
func (s *Suite) verdictOf(r report.Result) {
	for _, e := range r.Evidence {
		ginkgo.AddReportEntry(e.Title, e.Text, ginkgo.ReportEntryVisibilityFailureOrVerbose)
	}
	switch {
	case r.Result == report.Pass:
	case (r.Result == report.Fail || r.Result == report.Vacuous) && s.report.Counts(r):
		ginkgo.Fail(r.Reason)
	default:
		ginkgo.Skip(string(r.Result) + ": " + r.Reason)
	}
}

// withDurations gives each spec the time of its scenario: specs wait for scenarios that were started ahead.
func (s *Suite) withDurations(r ginkgo.Report) ginkgo.Report {
	times := map[string]time.Duration{}
	for _, result := range s.report.Results {
		times[result.ID] = time.Duration(result.DurationSeconds * float64(time.Second))
	}
	for i := range r.SpecReports {
		if d, ok := times[r.SpecReports[i].LeafNodeText]; ok {
			r.SpecReports[i].RunTime = d
		}
	}
	return r
}

// readAhead runs scenarios at once, while Ginkgo asks for one after the other.
type readAhead struct {
	suite  *Suite
	cancel context.CancelFunc
	ended  <-chan struct{} // closed by cancel
	wait   sync.WaitGroup
	ends   map[string]chan report.Result
}

func newReadAhead(s *Suite) *readAhead {
	a := &readAhead{suite: s, ends: map[string]chan report.Result{}, cancel: func() {}}
	for _, sc := range s.scenarios {
		a.ends[sc.Name] = make(chan report.Result, 1)
	}
	return a
}

// start begins with the scenarios that Ginkgo's label filter leaves.
func (a *readAhead) start(ctx context.Context) {
	config, _ := ginkgo.GinkgoConfiguration()
	matches, err := types.ParseLabelFilter(config.LabelFilter)
	if err != nil {
		return
	}
	ctx, a.cancel = context.WithCancel(ctx)
	a.ended = ctx.Done()
	queue := make(chan *scenario.Scenario)
	for range a.suite.options.Workers {
		a.wait.Go(func() {
			for sc := range queue {
				a.ends[sc.Name] <- a.suite.Run(ctx, sc)
			}
		})
	}
	a.wait.Go(func() {
		defer close(queue)
		for _, sc := range longestFirst(a.suite.scenarios) {
			if !matches(a.suite.labels(sc)) {
				continue
			}
			select {
			case queue <- sc:
			case <-ctx.Done():
				return
			}
		}
	})
}

// longestFirst orders scenarios so that none of the long ones is left to run alone at the end.
func longestFirst(all []*scenario.Scenario) []*scenario.Scenario {
	patience := func(sc *scenario.Scenario) time.Duration {
		var sum time.Duration
		for _, step := range sc.Steps {
			sum += time.Duration(step.Wait)
			if step.Churn != nil {
				sum += time.Duration(step.Churn.For)
			}
		}
		for _, p := range sc.Pods {
			// A pod takes some tens of milliseconds of a processor.
			sum += time.Duration(max(1, p.Count)) * 50 * time.Millisecond
		}
		return sum
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b *scenario.Scenario) int { return cmp.Compare(patience(b), patience(a)) })
	return sorted
}

// result waits for a scenario's.
func (a *readAhead) result(ctx context.Context, sc *scenario.Scenario) report.Result {
	select {
	case r := <-a.ends[sc.Name]:
		return r
	case <-ctx.Done():
		a.cancel()
	case <-a.ended:
	}
	return report.Result{ID: sc.Name, Result: report.Skipped, Reason: "the run was stopped"}
}

// stop ends what still runs and waits for it: its clusters go with it.
func (a *readAhead) stop() {
	a.cancel()
	a.wait.Wait()
}
