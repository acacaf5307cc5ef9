package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/report"
)

// earlierFlags name reports of earlier runs.
type earlierFlags struct {
	// failed is a report whose failures run again, repeated its content; nil without a report.
	failed   string
	repeated *report.Report
	// like is a report whose failures are believed at once, liked its content; nil without a report.
	like  string
	liked *report.Report
}

func (f *earlierFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.failed, "failed", "",
		"run again what failed in an earlier run: its report.json, or the directory of its report")
	flags.StringVar(&f.like, "like", "",
		"a report of an earlier run, such as that of the version before: what fails in the same words as there is not "+
			"tried a second time on a busy machine")
}

// readEarlier reads the reports, before a report of this run replaces them.
func (f *earlierFlags) readEarlier() error {
	return errors.Join(readFlag("--failed", f.failed, &f.repeated), readFlag("--like", f.like, &f.liked))
}

// readFlag reads the report that a flag names.
func readFlag(flag, path string, to **report.Report) (err error) {
	if path == "" {
		return nil
	}
	if *to, err = readReport(path); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}
