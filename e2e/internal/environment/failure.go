package environment

import (
	"fmt"

	"github.com/cnitest/cnitest/e2e/internal/refusal"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Failure is an error with the evidence that was collected when it happened.
type Failure struct {
	Err error
	// Step is the step that failed; nil if the failure is not of a step, or only of a part of one.
	Step *scenario.Step
	// Plugin is the plugin whose call failed; empty if no call failed.
	Plugin   string
	Evidence []report.Evidence
}

// Explain puts what the kernel refused before all other evidence. If the kernel lacks a feature, no plugin is to blame:
// the cause is then a *cluster.UnfitError.
func (f *Failure) Explain(explanation refusal.Explanation) {
	f.Evidence = append(explanation.Evidence(), f.Evidence...)
	if unfit := explanation.Unfit(); unfit != nil {
		f.Err = unfit
		return
	}
	if reason := explanation.Reason(); reason != "" {
		f.Err = fmt.Errorf("%w%s", f.Err, reason)
	}
}

// Error returns the text without the evidence.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
