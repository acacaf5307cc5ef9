package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/reporters"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
)

// Describe adds a spec for each scenario to the Ginkgo suite under construction; call it where Ginkgo allows a Describe
// at top level. Specs have their features, failure modes and level ("core", "extended") as labels. It may be called
// again with other options.
func Describe(options Options) {
	suite, err := New(options)
	if err != nil {
		ginkgo.It("reads "+options.Conflist, func() { ginkgo.Fail(err.Error()) })
		return
	}
	suite.describe(context.Background(), func(error, *report.Report) {})
}

// Run runs everything in one test function and returns the report, or nil if there is none. The test fails if the
// verdict is not-conformant. Ginkgo allows one call in a process.
func Run(t ginkgo.GinkgoTestingT, options Options) (*report.Report, error) {
	suite, err := New(options)
	if err != nil {
		t.Fail()
		return nil, err
	}
	return suite.runSpecs(context.Background(), t)
}

// RunSpecs runs the specs of the suite with Ginkgo, as Run does, until ctx ends. labelFilter is an expression of
// Ginkgo's label language; empty selects all.
func (s *Suite) RunSpecs(ctx context.Context, labelFilter string) (*report.Report, error) {
	if _, err := s.Matching(labelFilter); err != nil {
		return nil, err
	}
	config, reporter := ginkgo.GinkgoConfiguration()
	config.LabelFilter = labelFilter
	s.labelFilter = labelFilter
	s.selection = strings.TrimSpace(s.selection + " " + labelFilter)
	return s.runSpecs(ctx, ignoredT{}, config, reporter)
}

// ignoredT is a test whose outcome nobody reads: the report has everything.
type ignoredT struct{}

func (ignoredT) Fail() {}

func (s *Suite) runSpecs(ctx context.Context, t ginkgo.GinkgoTestingT, config ...any) (*report.Report, error) {
	var (
		outcome error
		result  *report.Report
	)
	finish := s.describe(ctx, func(err error, r *report.Report) { outcome, result = err, r })
	ginkgo.RunSpecs(t, "cnitest "+s.options.Conflist, config...)
	if ctx.Err() != nil {
		// If Ginkgo is interrupted twice, it skips AfterAll.
		return finish()
	}
	if outcome == nil && result == nil {
		outcome = errors.New("the run was stopped before its end")
	}
	return result, outcome
}

// describe builds the specs. They end with ctx: Ginkgo's own contexts know of no signal that came before it listened.
// done is called at the end; the returned function ends the run and may be called again.
func (s *Suite) describe(ctx context.Context, done func(error, *report.Report)) func() (*report.Report, error) {
	ctx, s.stop = context.WithCancelCause(ctx)
	ahead := newReadAhead(s, s.Units())
	units := ahead.units
	// The label filter may leave the last spec out; the report is written nevertheless.
	finish := sync.OnceValues(func() (*report.Report, error) {
		r, err := s.finishAfter(ctx, ahead)
		done(err, r)
		return r, err
	})
	prepared := false
	ginkgo.Describe(s.file.Network, ginkgo.Ordered, ginkgo.ContinueOnFailure, func() {
		ginkgo.BeforeAll(func(specCtx ginkgo.SpecContext) {
			both, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(specCtx, cancel)()
			if err := s.prepare(both); err != nil {
				if both.Err() != nil {
					ahead.stopped.Store(true)
					ginkgo.Skip(stopped)
				}
				done(err, nil)
				s.endUnprepared(err)
			}
			prepared = true
			ahead.start(ctx)
		})
		ginkgo.It(contract.FirstAttachment, ginkgo.Label(leavesNothingLabels(units)...), func() {
			if s.obstacle != nil {
				s.verdictOf(*s.obstacle)
			}
		})
		for _, u := range units {
			ginkgo.It(u.Name(), ginkgo.Labels(u.Labels), func(ctx ginkgo.SpecContext) {
				s.verdictOf(ahead.result(ctx, u))
			})
		}
		ginkgo.AfterAll(func() {
			if prepared || ahead.stopped.Load() {
				_, _ = finish()
			}
		})
		ginkgo.It(leavesNothingID, ginkgo.Label(leavesNothingLabels(units)...), func() {
			r, err := finish()
			if err != nil {
				ginkgo.Fail(err.Error())
			}
			s.verdictOfResidue(r)
		})
	})
	ginkgo.ReportAfterSuite("JUnit report", func(r ginkgo.Report) {
		if ctx.Err() != nil || ahead.stopped.Load() {
			// If Ginkgo is interrupted twice, it comes here without AfterAll.
			_, _ = finish()
		}
		s.writeJUnit(r)
	})
	return finish
}

// finishAfter stops what runs ahead and finishes the report.
func (s *Suite) finishAfter(ctx context.Context, ahead *readAhead) (*report.Report, error) {
	ahead.stop()
	if ahead.stopped.Load() || ctx.Err() != nil {
		s.interrupt(causeOf(ctx), ahead.asked())
	}
	return s.Finish()
}

// verdictOfResidue ends a spec with the results of leaves-nothing. The first that is no pass ends it, so those that
// count come first.
func (s *Suite) verdictOfResidue(r *report.Report) {
	for _, counts := range []bool{true, false} {
		for _, result := range r.Results {
			if result.ID == leavesNothingID && r.Counts(result) == counts {
				s.verdictOf(result)
			}
		}
	}
}

// endUnprepared ends the specs with the error of Prepare: skipped if the machine cannot run them, else failed.
func (s *Suite) endUnprepared(err error) {
	var unfit *cluster.UnfitError
	if !errors.As(err, &unfit) {
		ginkgo.Fail(err.Error())
	}
	if err := s.unfit(err); err != nil {
		ginkgo.Fail(err.Error())
	}
	ginkgo.Skip(err.Error())
}

// writeJUnit writes the specs of Ginkgo, with the results in them, beside the report.
func (s *Suite) writeJUnit(r ginkgo.Report) {
	if s.options.ReportDir == "" {
		return
	}
	file := filepath.Join(s.options.ReportDir, report.JUnitName)
	if err := reporters.GenerateJUnitReport(s.withResults(r), file); err != nil {
		ginkgo.Fail(err.Error())
	}
}

// causeOf returns why a run ends early: Ginkgo may notice a signal before ctx does.
func causeOf(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(100 * time.Millisecond):
		return errors.New("interrupted")
	}
}

// leavesNothingLabels returns the labels of all units, so that every selection includes leaves-nothing.
func leavesNothingLabels(units []*Unit) []string {
	seen := map[string]bool{}
	var all []string
	for _, u := range units {
		for _, l := range u.Labels {
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
	switch s.stateOf(r) {
	case types.SpecStatePassed:
	case types.SpecStateFailed:
		ginkgo.Fail(r.Reason)
	default:
		ginkgo.Skip(string(r.Result) + ": " + r.Reason)
	}
}

// withResults sets the time of each spec to that of its scenario, since specs wait for scenarios that were started
// ahead. After an interruption it also adds the results of the specs that Ginkgo did not come to.
func (s *Suite) withResults(r ginkgo.Report) ginkgo.Report {
	results := map[string]report.Result{}
	for _, result := range s.report.Results {
		name := result.Name()
		if result.ID == leavesNothingID {
			name = leavesNothingID // one spec for all plugins
		}
		if former, ok := results[name]; !ok || former.Result == report.Pass {
			results[name] = result
		}
	}
	for i := range r.SpecReports {
		spec := &r.SpecReports[i]
		result, ok := results[spec.LeafNodeText]
		if !ok {
			continue
		}
		spec.RunTime = time.Duration(result.DurationSeconds * float64(time.Second))
		if s.interrupted {
			spec.State, spec.Failure.Message = s.stateOf(result), result.Reason
		}
	}
	return r
}

// stateOf returns the state of a spec that ends with a result.
func (s *Suite) stateOf(r report.Result) types.SpecState {
	switch {
	case r.Result == report.Pass:
		return types.SpecStatePassed
	case (r.Result == report.Fail || r.Result == report.Vacuous) && s.report.Counts(r):
		return types.SpecStateFailed
	}
	return types.SpecStateSkipped
}
