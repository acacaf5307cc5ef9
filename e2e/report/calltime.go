package report

import (
	"fmt"
	"strings"
)

// CallTime says how long the successful calls of one verb of one plugin took in the whole run.
type CallTime struct {
	Plugin        string  `json:"plugin"`
	Verb          string  `json:"verb"`
	Calls         int     `json:"calls"`
	MedianSeconds float64 `json:"medianSeconds"`
	P99Seconds    float64 `json:"p99Seconds"`
	// Paired compares calls with calls of a plugin that does nothing; nil if none was made.
	Paired *PairedTime `json:"paired,omitempty"`
}

// PairedTime compares calls with those of a plugin that does nothing, on the same node at the same time.
type PairedTime struct {
	// Ratio is the ratio of the quickest calls, which other work slowed least.
	Ratio float64 `json:"ratio"`
	// Growth is the time that each attachment on the node adds to a call; nil if too few calls were made.
	Growth *Growth `json:"growth,omitempty"`
}

// Growth is the slope of a line through the times of calls.
type Growth struct {
	// Seconds is the time that each attachment adds, ErrorSeconds its standard error.
	Seconds      float64 `json:"seconds"`
	ErrorSeconds float64 `json:"errorSeconds"`
}

// Median returns the median as text.
func (c CallTime) Median() string { return milliseconds(c.MedianSeconds) }

// P99 returns, as text, the time that one call in a hundred exceeds.
func (c CallTime) P99() string { return milliseconds(c.P99Seconds) }

// Ratio returns the ratio to a plugin that does nothing as text; a dash if nothing was compared.
func (c CallTime) Ratio() string {
	if c.Paired == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", c.Paired.Ratio)
}

// Growth returns, as text, the time that an attachment adds, with its error; a dash if nothing was compared.
func (c CallTime) Growth() string {
	if c.Paired == nil || c.Paired.Growth == nil {
		return "–"
	}
	return fmt.Sprintf("%+.2f ± %.2f ms", 1e3*c.Paired.Growth.Seconds, 1e3*c.Paired.Growth.ErrorSeconds)
}

func milliseconds(seconds float64) string { return fmt.Sprintf("%.1f ms", 1e3*seconds) }

// callTimesNote explains the columns of the table of call times.
const callTimesNote = "Calls that succeeded, in the whole run. The ratio is that of the quickest of some twenty " +
	"calls to the quickest of a plugin that does nothing, called on the same node right before each; each attachment " +
	"on the node adds so much to one of these, with the standard error of the fit."

// markdownTimes returns the table of call times; empty if there was no call.
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
