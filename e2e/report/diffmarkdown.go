package report

import (
	"fmt"
	"strings"
)

// changesShown bounds the changes of each kind in the Markdown of a difference.
const changesShown = 30

// Markdown renders the difference for a comment on a pull request: after is the later report. It starts with a line by
// which a workflow finds its own comment again.
func (d *Difference) Markdown(after *Report) string {
	var b strings.Builder
	regressions := 0
	for _, c := range d.Worse {
		if c.Counts {
			regressions++
		}
	}
	outcome := "no regression"
	switch {
	case regressions == 1:
		outcome = "1 regression"
	case regressions > 1:
		outcome = fmt.Sprintf("%d regressions", regressions)
	}
	fmt.Fprintf(&b, "<!-- cnitest %s -->\n", strings.ReplaceAll(after.Implementation.Conflist, "--", "- -"))
	fmt.Fprintf(&b, "### %s cnitest: %s, %s\n\n%s, profile %s: %s.\n", map[bool]string{
		true:  "✗",
		false: "✓",
	}[regressions > 0],
		after.Verdict, outcome, plain(after.Chain()), after.Profile, after.Tally())
	for _, part := range []struct {
		title   string
		changes []Change
		open    bool
	}{
		{"Worse", d.Worse, true},
		{"Better", d.Better, true},
		{"Changed", d.Changed, false},
		{"New", d.New, false},
		{"Gone", d.Gone, false},
	} {
		d.markdownPart(&b, part.title, part.changes, part.open)
	}
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "\n%s\n", plain(note))
	}
	return b.String()
}

// markdownPart writes the changes of a kind, folded unless they are open.
func (d *Difference) markdownPart(b *strings.Builder, title string, changes []Change, open bool) {
	if len(changes) == 0 {
		return
	}
	if open {
		fmt.Fprintf(b, "\n**%s**\n\n", title)
	} else {
		fmt.Fprintf(b, "\n<details><summary>%s (%d)</summary>\n\n", title, len(changes))
	}
	for i, c := range changes {
		if i == changesShown {
			fmt.Fprintf(b, "- and %d more\n", len(changes)-changesShown)
			break
		}
		fmt.Fprintf(b, "- **%s** %s", plain(c.What), plain(c.transition()))
		if !c.Counts {
			b.WriteString(" (does not count)")
		}
		if c.Reason != "" {
			fmt.Fprintf(b, ": %s", plain(oneLine(clip(c.Reason, briefReason))))
		}
		b.WriteString("\n")
	}
	if !open {
		b.WriteString("\n</details>\n")
	}
}
