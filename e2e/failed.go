package e2e

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cnitest/cnitest/e2e/report"
)

// failures are what did not succeed in an earlier run.
type failures struct {
	results []report.Result
	// all means that every scenario belongs to it: something was left on a node, by any of them.
	all bool
}

// failuresIn returns what a run must repeat: failures that count, what they blocked, and what the lab could not find
// out.
func failuresIn(r *report.Report) (*failures, error) {
	f := &failures{}
	for _, res := range r.Results {
		switch {
		case !r.Counts(res):
		case res.Result == report.Fail, res.Result == report.Vacuous, res.Result == report.Blocked, res.LabFailed:
			f.results = append(f.results, res)
			f.all = f.all || res.ID == leavesNothingID
		}
	}
	if len(f.results) == 0 {
		return nil, errors.New("the earlier run has no failure to repeat; leave --failed out to run everything")
	}
	return f, nil
}

// contains reports whether a unit did not succeed. Results of scenarios can name the plugin that is to blame, units of
// scenarios name none.
func (f *failures) contains(u *Unit) bool {
	return u.scenario != nil && f.all || slices.ContainsFunc(f.results, func(res report.Result) bool {
		return res.ID == u.ID && (u.scenario != nil || res.Plugin == u.Plugin)
	})
}

// failFast ends the run if a result is the first failure that counts.
func (s *Suite) failFast(r report.Result) {
	if s.options.FailFast && (r.Result == report.Fail || r.Result == report.Vacuous) && s.report.Counts(r) {
		s.stop(fmt.Errorf("stopped by the first failure, %s,", r.ID))
	}
}
