package report

import (
	"fmt"
	"strings"
)

// CallTime is how long the calls of a verb of a plugin took that succeeded, in the whole run.
type CallTime struct {
	Plugin        string  `json:"plugin"`
	Verb          string  `json:"verb"`
	Calls         int     `json:"calls"`
	MedianSeconds float64 `json:"medianSeconds"`
	P99Seconds    float64 `json:"p99Seconds"`
	// Paired is what calls showed each of which stood beside one of a plugin that does nothing; nil where none was
	// made.
	Paired *PairedTime `json:"paired,omitempty"`
}

// PairedTime compares calls with those of a plugin that does nothing, on the same node at the same time.
type PairedTime struct {
	// Ratio is that of the medians.
	Ratio float64 `json:"ratio"`
	// Growth is what each attachment on the node adds to a call; nil where too few calls were made.
	Growth *Growth `json:"growth,omitempty"`
}

// Growth is a line through the times of calls.
type Growth struct {
	// Seconds is what each attachment adds, ErrorSeconds its standard error.
	Seconds      float64 `json:"seconds"`
	ErrorSeconds float64 `json:"errorSeconds"`
}

// Median and P99 are for people.
func (c CallTime) Median() string { return milliseconds(c.MedianSeconds) }

// P99 is the time that one call in a hundred exceeds, for people.
func (c CallTime) P99() string { return milliseconds(c.P99Seconds) }

// Ratio is for people; a dash where nothing was compared.
func (c CallTime) Ratio() string {
	if c.Paired == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", c.Paired.Ratio)
}

// Growth is what an attachment adds, with its error, for people; a dash where nothing was compared.
func (c CallTime) Growth() string {
	if c.Paired == nil || c.Paired.Growth == nil {
		return "–"
	}
	return fmt.Sprintf("%+.2f ± %.2f ms", 1e3*c.Paired.Growth.Seconds, 1e3*c.Paired.Growth.ErrorSeconds)
}

func milliseconds(seconds float64) string { return fmt.Sprintf("%.1f ms", 1e3*seconds) }

// callTimesNote says what the columns of the table of call times are.
const callTimesNote = "Calls that succeeded, in the whole run. The ratio is to a plugin that does nothing, called " +
	"on the same node right before each of some twenty calls; each attachment on the node adds so much to one of " +
	"these, with the standard error of the fit."

// markdownTimes is the table of call times; empty where no call was seen.
func (r *Report) markdownTimes() string {
	if len(r.CallTimes) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n### How long calls took\n\n" + callTimesNote + "\n\n")
	b.WriteString(
		"| plugin | verb | calls | median | p99 | ratio | per attachment |\n|---|---|---:|---:|---:|---:|---:|\n",
	)
	for _, c := range r.CallTimes {
		fmt.Fprintf(
			&b,
			"| %s | %s | %d | %s | %s | %s | %s |\n",
			plain(c.Plugin),
			c.Verb,
			c.Calls,
			c.Median(),
			c.P99(),
			c.Ratio(),
			c.Growth(),
		)
	}
	return b.String()
}
