package environment

import (
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Failure is an error with what was seen when it happened.
type Failure struct {
	Err error
	// Step is the step that failed; nil for a failure outside of steps, or of a part of one.
	Step *scenario.Step
	// Plugin is the one whose call failed; empty if no plugin's did.
	Plugin   string
	Evidence []report.Evidence
}

// Error returns the text without the evidence.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
