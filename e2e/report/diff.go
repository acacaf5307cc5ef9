package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Change is a difference between two reports.
type Change struct {
	// What is "verdict", or the name of a result or of a score. From and To are its old and new value; From is empty if
	// it is new, To if it is gone.
	What, From, To string
	// Reason is the reason of the new result.
	Reason string
	// Counts says that it counts for the verdict in one of the reports.
	Counts bool
}

// Difference is the difference between a report and a later one.
type Difference struct {
	// Worse are regressions if they count: a pass that failed, was skipped, is no longer claimed or is gone; anything
	// that became vacuous or a failure; a lower score; a worse verdict.
	Worse []Change
	// Better are the reverse. New are results that the earlier report does not have; a new failure is a regression only
	// if it makes the verdict worse.
	Better, New []Change
	// Changed are neither: a pass that is now not-applicable, such as GC with an older cniVersion, or a result that
	// neither report showed.
	Changed []Change
	// Gone are results that the later report does not have and that did not pass.
	Gone []Change
	// Notes say how the runs differ.
	Notes []string
}

// Regressed reports whether something that counts is worse.
func (d *Difference) Regressed() bool {
	return slices.ContainsFunc(d.Worse, func(c Change) bool { return c.Counts })
}

// Diff compares two reports. Results correspond by id, those of requirements also by plugin; the plugin of a scenario's
// result is the one whose call failed.
func Diff(before, after *Report) *Difference {
	d := &Difference{}
	if a, b := badness(before.Verdict), badness(after.Verdict); a != b {
		d.sort(Change{What: "verdict", From: string(before.Verdict), To: string(after.Verdict), Counts: true},
			cmp.Compare(b, a))
	}
	for _, old := range before.Results {
		i := slices.IndexFunc(after.Results, func(res Result) bool { return same(old, res) })
		c := Change{What: old.Name(), From: string(old.Result), Counts: before.Counts(old)}
		if i < 0 {
			if old.Result == Pass {
				d.Worse = append(d.Worse, c)
			} else {
				d.Gone = append(d.Gone, c)
			}
			continue
		}
		now := after.Results[i]
		if now.Result == old.Result {
			continue
		}
		c.To, c.Reason, c.Counts = string(now.Result), now.Reason, c.Counts || after.Counts(now)
		d.sort(c, direction(old.Result, now.Result))
	}
	for _, now := range after.Results {
		if !slices.ContainsFunc(before.Results, func(res Result) bool { return same(res, now) }) {
			c := Change{What: now.Name(), To: string(now.Result), Counts: after.Counts(now)}
			if now.Result != Pass {
				c.Reason = now.Reason
			}
			d.New = append(d.New, c)
		}
	}
	d.compareScores(before, after)
	d.compareRuns(before, after)
	return d
}

// sort files a change: worse above 0, better below.
func (d *Difference) sort(c Change, direction int) {
	switch {
	case direction > 0:
		d.Worse = append(d.Worse, c)
	case direction < 0:
		d.Better = append(d.Better, c)
	default:
		d.Changed = append(d.Changed, c)
	}
}

func same(a, b Result) bool { return a.Kind == b.Kind && a.Name() == b.Name() }

func badness(v Verdict) int {
	return slices.Index([]Verdict{Conformant, Partial, NotConformant, EnvUnfit}, v)
}

// direction returns a number above 0 if a result got worse, below 0 if it got better.
func direction(before, after Outcome) int {
	failed := func(o Outcome) int {
		return map[Outcome]int{Vacuous: 1, Fail: 2}[o]
	}
	switch {
	case failed(before) > 0 && (after == Blocked || after == Skipped || after == NotClaimed || after == NotApplicable):
		// A result that was not seen is not mended.
		return 0
	case failed(before) != failed(after):
		return cmp.Compare(failed(after), failed(before))
	case after == Pass:
		return -1
	case before == Pass && (after == Blocked || after == Skipped || after == NotClaimed):
		return 1
	}
	return 0
}

func (d *Difference) compareScores(before, after *Report) {
	for _, old := range before.Scores {
		c := Change{
			What: fmt.Sprintf("score of %s of %s", old.Verb, old.Plugin), From: fmt.Sprintf("%d of %d", old.Noticed,
				old.Provoked),
			Counts: before.Counts(Result{Plugin: old.Plugin}),
		}
		i := slices.IndexFunc(after.Scores, func(s Score) bool { return s.Plugin == old.Plugin && s.Verb == old.Verb })
		if i < 0 || after.Scores[i].Provoked == 0 {
			if old.Noticed > 0 {
				d.Worse = append(d.Worse, c)
			}
			continue
		}
		now := after.Scores[i]
		c.To = fmt.Sprintf("%d of %d", now.Noticed, now.Provoked)
		if len(now.Missed) > 0 {
			c.Reason = "not: " + strings.Join(now.Missed, ", ")
		}
		// The suite may provoke more than before: the share counts.
		if share := cmp.Compare(old.Noticed*now.Provoked, now.Noticed*old.Provoked); share != 0 {
			d.sort(c, share)
		}
	}
}

// compareRuns notes differences that make the two reports answer different questions.
func (d *Difference) compareRuns(before, after *Report) {
	for _, setting := range [][3]string{
		{"plugins", before.Chain(), after.Chain()},
		{"plugins under test", before.underTest(), after.underTest()},
		{"cniVersion", before.Implementation.CNIVersion, after.Implementation.CNIVersion},
		{"profile", before.Profile, after.Profile},
		{"backend", before.Backend, after.Backend},
		{"cnitest", before.Suite.Version, after.Suite.Version},
	} {
		if setting[1] != setting[2] {
			d.Notes = append(d.Notes, fmt.Sprintf("%s: %s in the old report, %s in the new one", setting[0],
				cmp.Or(setting[1], "none"), cmp.Or(setting[2], "none")))
		}
	}
}

// Print writes the difference for people, regressions first.
func (d *Difference) Print(out io.Writer) error {
	var b strings.Builder
	regressions := 0
	for _, part := range []struct {
		title   string
		changes []Change
	}{{"worse", d.Worse}, {"better", d.Better}, {"changed", d.Changed}, {"new", d.New}, {"gone", d.Gone}} {
		if len(part.changes) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:\n", part.title)
		for _, c := range part.changes {
			fmt.Fprintf(&b, "  %-40s %s", c.What, c.transition())
			if !c.Counts {
				b.WriteString(" (does not count)")
			} else if part.title == "worse" {
				regressions++
			}
			b.WriteString("\n")
			if c.Reason != "" {
				fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(c.Reason, "\n", "\n      "))
			}
		}
	}
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	switch regressions {
	case 0:
		b.WriteString("no regression\n")
	case 1:
		b.WriteString("1 regression\n")
	default:
		fmt.Fprintf(&b, "%d regressions\n", regressions)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (c Change) transition() string {
	return cmp.Or(c.From, "(new)") + " -> " + cmp.Or(c.To, "(gone)")
}
