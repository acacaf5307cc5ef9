package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/report"
)

// printSummary prints the end of a run for people.
func printSummary(out io.Writer, r *report.Report, dir string) {
	var types []string
	for _, p := range r.Implementation.Plugins {
		name := p.Type
		if p.UnderTest {
			name += "*"
		}
		types = append(types, name)
	}
	fmt.Fprintf(out, "\nverdict: %s   %s (CNI %s, profile %s, * under test)\n", r.Verdict, strings.Join(types, " + "),
		r.Implementation.CNIVersion, r.Profile)
	fmt.Fprintf(out, "%s in %.1fs\n", r.Tally(), r.DurationSeconds)
	printNotClaimed(out, r)
	printScores(out, r)
	printTimes(out, r)
	printFigures(out, r)
	printFindings(out, r)
	printResidue(out, r.Residue)
	for _, note := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", note)
	}
	printFailed(out, r, dir)
	if dir != "" {
		fmt.Fprintf(out, "report: %s\n", filepath.Join(dir, report.HTMLName))
	}
}

// printScores prints what CHECK and STATUS of the plugins under test noticed.
func printScores(out io.Writer, r *report.Report) {
	for _, s := range r.Scores {
		if !r.Counts(report.Result{Plugin: s.Plugin}) {
			continue
		}
		fmt.Fprintf(out, "%s of %s noticed %d of %d things that were broken on purpose", s.Verb, s.Plugin, s.Noticed,
			s.Provoked)
		if len(s.Missed) > 0 {
			fmt.Fprintf(out, "; not: %s", strings.Join(s.Missed, ", "))
		}
		fmt.Fprintln(out)
	}
}

// printTimes prints a line for each plugin under test with how long its calls took.
func printTimes(out io.Writer, r *report.Report) {
	for _, p := range r.Implementation.Plugins {
		var times []string
		for _, c := range r.CallTimes {
			if c.Plugin == p.Type && p.UnderTest && c.Paired != nil {
				times = append(times, fmt.Sprintf("%s %s (%s)", c.Verb, c.Median(), c.Ratio()))
			}
		}
		if times != nil {
			fmt.Fprintf(out, "calls of %s, in brackets how many times as long as a plugin that does nothing: %s\n",
				p.Type, strings.Join(times, ", "))
		}
	}
}

// printFigures prints what a container runtime waits for, in a line each.
func printFigures(out io.Writer, r *report.Report) {
	for _, f := range r.Figures {
		fmt.Fprintf(out, "%s: %s", f.What, f.Median())
		if f.WorstSeconds > 0 {
			fmt.Fprintf(out, ", %s at most", f.Worst())
		}
		if f.LimitSeconds > 0 {
			fmt.Fprintf(out, " (limit %s)", f.Limit())
		}
		fmt.Fprintln(out)
	}
}

// printFindings prints a line for each plugin that is not under test and has findings.
func printFindings(out io.Writer, r *report.Report) {
	byPlugin := map[string][]string{}
	for _, f := range r.Findings() {
		byPlugin[f.Plugin] = append(byPlugin[f.Plugin], f.ID)
	}
	for _, plugin := range slices.Sorted(maps.Keys(byPlugin)) {
		fmt.Fprintf(out, "findings about %s, which is not under test: %s\n", plugin, strings.Join(byPlugin[plugin],
			", "))
	}
}

// printNotClaimed prints the scenarios that were not run, in a line.
func printNotClaimed(out io.Writer, r *report.Report) {
	var names []string
	for _, res := range r.Results {
		if res.Result == report.NotClaimed {
			names = append(names, res.ID)
		}
	}
	const shown = 4
	if more := len(names) - shown; more > 1 {
		names = append(names[:shown], fmt.Sprintf("%d more", more))
	}
	if len(names) > 0 {
		fmt.Fprintf(out, "not run, since beyond the profile and not claimed with --features: %s\n",
			strings.Join(names, ", "))
	}
}

// printFailed prints the failures again, since they may have scrolled away, one of each cause, and what to do next.
func printFailed(out io.Writer, r *report.Report, dir string) {
	var names []string
	folded := false
	for _, c := range r.Causes() {
		names = append(names, c.Results[0].Name()+c.More())
		folded = folded || c.More() != ""
	}
	if names == nil {
		return
	}
	fmt.Fprintf(out, "failed: %s\n", strings.Join(names, ", "))
	next := []string{"cnitest explain NAME says why it matters", "--scenario NAME --keep-on-failure opens its lab"}
	if r.AboutRuntime() {
		next = []string{"cnitest explain ID says why it matters, and how it is asked"}
	}
	if strings.HasPrefix(names[0], soak.ID) {
		next = []string{"--keep-on-failure opens its lab"}
	}
	if folded {
		next = append(next, "--each lists those with the same cause, too")
	}
	if dir == "" {
		next = append(next, "--report-dir DIR keeps the evidence")
	}
	fmt.Fprintln(out, strings.Join(next, "; "))
}

// printResidue prints what stays for each plugin, in a line.
func printResidue(out io.Writer, residue []report.Residue) {
	byPlugin := map[string][]string{}
	for _, r := range residue {
		byPlugin[r.Plugin] = append(byPlugin[r.Plugin], r.Item)
	}
	for _, plugin := range slices.Sorted(maps.Keys(byPlugin)) {
		fmt.Fprintf(out, "stays on a node after its first pod, once (%s): %s\n", plugin, strings.Join(byPlugin[plugin],
			", "))
	}
}
