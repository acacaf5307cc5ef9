package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/timing"
)

// longestUnits is how many of the longest scenarios and requirements are printed.
const longestUnits = 15

// printTimings prints what the time of a run went to.
func printTimings(out io.Writer, units []timing.Summary) {
	sum := timing.Sum(units)
	fmt.Fprintf(out, "\ntime of %d scenarios and requirements, which run beside each other: %s\n", len(units),
		tenths(sum.Wall))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range sum.Phases {
		share := 100 * float64(p.Time) / float64(max(1, sum.Wall))
		fmt.Fprintf(table, "  %s\t%s\t%.0f %%\t", p.Phase, tenths(p.Time), share)
		if p.Phase != timing.Suite {
			fmt.Fprintf(table, "%d times", p.Count)
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintf(table, "the longest\n")
	slices.SortFunc(units, func(a, b timing.Summary) int { return cmp.Compare(b.Wall, a.Wall) })
	for _, u := range units[:min(longestUnits, len(units))] {
		var parts []string
		for _, p := range u.Phases[:min(3, len(u.Phases))] {
			parts = append(parts, fmt.Sprintf("%s %s", p.Phase, tenths(p.Time)))
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", u.Name, tenths(u.Wall), strings.Join(parts, ", "))
	}
	table.Flush()
}

// tenths returns a time in seconds, to a tenth.
func tenths(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
