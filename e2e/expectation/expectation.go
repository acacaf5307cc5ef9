// Package expectation reads the expectation file, which lists the results of a conflist that are known not to pass,
// with reasons, and compares a report with it. With such a file the CI of a plugin fails only on new failures, and
// known ones stay documented.
//
// The command runs the suite. Package report compares a report with an earlier one, without reasons.
//
// Run its tests: go test ./e2e/expectation
package expectation

import (
	"fmt"
	"slices"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Kind is the kind of an expectation file; its apiVersion is that of scenarios.
const Kind = "Expectation"

// Expectation contains the known deviations of a conflist.
type Expectation struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`

	// Profile, Features and Plugins are the flags of these names for the run; empty means their defaults.
	Profile  scenario.Profile   `yaml:"profile"`
	Features []scenario.Feature `yaml:"features"`
	Plugins  []string           `yaml:"plugins"`
	// Deviations are all results that count for the verdict and do not pass.
	Deviations []Deviation `yaml:"deviations"`

	file string
}

// Deviation is a group of results with the same reason.
type Deviation struct {
	// Plugin is the type of the plugin that the results are about; empty means report.Chain.
	Plugin string `yaml:"plugin"`
	// IDs are ids of scenarios and requirements.
	IDs []string `yaml:"ids"`
	// Result is report.Fail or report.Vacuous.
	Result report.Outcome `yaml:"result"`
	// Sometimes allows the results to pass as well, for a plugin with a race.
	Sometimes bool `yaml:"sometimes"`
	// Reason explains why, to somebody who expected a pass.
	Reason string `yaml:"reason"`
}

func (d *Deviation) plugin() string {
	if d.Plugin == "" {
		return report.Chain
	}
	return d.Plugin
}

// Compare returns the differences between a report and the expectation, one per line. It ignores results of plugins
// that are not under test, and results that were not run or cannot be run on the machine.
func (e *Expectation) Compare(r *report.Report) []string {
	var lines []string
	for _, result := range r.Results {
		if !r.Counts(result) {
			continue
		}
		known := e.find(result)
		switch deviates := result.Result == report.Fail || result.Result == report.Vacuous; {
		case deviates && known == nil:
			lines = append(lines, fmt.Sprintf("%s: want a pass, got %s: %s", name(result.ID, result.Plugin),
				result.Result, result.Reason))
		case deviates && result.Result != known.Result:
			lines = append(lines, fmt.Sprintf("%s: want %s, got %s: %s", name(result.ID, result.Plugin), known.Result,
				result.Result, result.Reason))
		case result.Result == report.Pass && known != nil && !known.Sometimes:
			lines = append(lines, fmt.Sprintf("%s: want %s, got a pass; if it is to stay so, take it out of %s",
				name(result.ID, result.Plugin), known.Result, e.file))
		}
	}
	return lines
}

// Explain adds the reasons of the file to the evidence of expected deviations, and returns the number of these results.
func (e *Expectation) Explain(r *report.Report) int {
	n := 0
	for i := range r.Results {
		result := &r.Results[i]
		if known := e.find(*result); known != nil && known.Result == result.Result && r.Counts(*result) {
			result.Evidence = slices.Insert(slices.Clone(result.Evidence), 0, report.Evidence{
				Title: "expected", Text: known.Reason,
			})
			n++
		}
	}
	return n
}

// Steady returns a copy of a report in which a result that the file allows to pass sometimes is the file's, also where
// it passed. Two reports of a plugin with a race can be compared then.
func (e *Expectation) Steady(r *report.Report) *report.Report {
	steady := *r
	steady.Results = slices.Clone(r.Results)
	for i, result := range steady.Results {
		if known := e.find(result); known != nil && known.Sometimes && result.Result == report.Pass {
			steady.Results[i].Result = known.Result
		}
	}
	return &steady
}

func (e *Expectation) find(result report.Result) *Deviation {
	i := slices.IndexFunc(e.Deviations, func(d Deviation) bool {
		return d.plugin() == result.Plugin && slices.Contains(d.IDs, result.ID)
	})
	if i < 0 {
		return nil
	}
	return &e.Deviations[i]
}

func name(id, plugin string) string {
	if plugin == report.Chain {
		return id
	}
	return id + " of " + plugin
}
