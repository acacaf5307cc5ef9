package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/report"
)

// loadExpectation reads the file of --expect. Its profile, features and plugins apply unless the command line has these
// flags.
func (f *runFlags) loadExpectation(flags *pflag.FlagSet) (err error) {
	if f.expect == "" {
		return nil
	}
	if f.repeat > 1 || f.soak > 0 {
		return errors.New("--expect with --repeat or --soak: want one of them")
	}
	if f.expected, err = expectation.Load(f.expect); err != nil {
		return err
	}
	if f.expected.Profile != "" && !flags.Changed("profile") {
		f.profile = string(f.expected.Profile)
	}
	if f.expected.Features != nil && !flags.Changed("features") {
		for _, feature := range f.expected.Features {
			f.claims = append(f.claims, string(feature))
		}
	}
	if f.expected.Plugins != nil && !flags.Changed("plugin") {
		f.plugins = f.expected.Plugins
	}
	return nil
}

// explainExpected writes the report again, with the reasons of the file.
func (f *runFlags) explainExpected(r *report.Report) error {
	if f.expected == nil || f.expected.Explain(r) == 0 || f.reportDir == "" {
		return nil
	}
	return r.WriteDir(f.reportDir)
}

// compareExpected prints how the report differs from what was expected. With a difference the status is that of a
// plugin that is not conformant; without one the verdict not-conformant is no error.
func (f *runFlags) compareExpected(out io.Writer, r *report.Report) error {
	switch {
	case !printExpected(out, r, f.expected, f.expect):
		return &exitError{status: exitNotConformant}
	case r.Verdict == report.NotConformant:
		return nil
	}
	return f.status(r)
}

// printExpected prints how a report differs from an expectation file, and reports whether it does not.
func printExpected(out io.Writer, r *report.Report, expected *expectation.Expectation, file string) (same bool) {
	differences := expected.Compare(r)
	if len(differences) == 0 {
		fmt.Fprintf(out, "as expected in %s\n", file)
		return true
	}
	fmt.Fprintf(out, "differs from %s:\n", file)
	for _, line := range differences {
		fmt.Fprintf(out, "    %s\n", line)
	}
	return false
}
