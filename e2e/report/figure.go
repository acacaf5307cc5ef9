package report

import (
	"fmt"
	"slices"
	"strings"
)

// Figure is a time that users of a plugin feel when a container runtime calls it.
type Figure struct {
	// What says what took the time, and is the figure's identity.
	What string `json:"what"`
	// Times is how often it was measured.
	Times         int     `json:"times"`
	MedianSeconds float64 `json:"medianSeconds"`
	// WorstSeconds is the longest; 0 where only the whole was measured.
	WorstSeconds float64 `json:"worstSeconds,omitempty"`
	// LimitSeconds is what users can live with; 0 means that nobody named a limit.
	LimitSeconds float64 `json:"limitSeconds,omitempty"`
}

// Median returns the median as text.
func (f Figure) Median() string { return milliseconds(f.MedianSeconds) }

// Worst returns the longest time as text; a dash if only the whole was measured.
func (f Figure) Worst() string { return orDash(f.WorstSeconds) }

// Limit returns the limit as text; a dash if there is none.
func (f Figure) Limit() string { return orDash(f.LimitSeconds) }

func orDash(seconds float64) string {
	if seconds == 0 {
		return "–"
	}
	return milliseconds(seconds)
}

// KeepFigure adds a figure, in place of an earlier one of the same thing.
func (r *Report) KeepFigure(f Figure) {
	i := slices.IndexFunc(r.Figures, func(known Figure) bool { return known.What == f.What })
	if i < 0 {
		r.Figures = append(r.Figures, f)
		return
	}
	r.Figures[i] = f
}

// figuresNote explains the table of figures.
const figuresNote = "With a container runtime. Limits count only time that the machine gave, and are not those of " +
	"the specification: beyond them a kubelet or a node's shutdown suffers."

// markdownFigures returns the table of figures; empty if there are none.
func (r *Report) markdownFigures() string {
	if len(r.Figures) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n### What a container runtime waits for\n\n" + figuresNote + "\n\n")
	b.WriteString("| what | times | median | longest | limit |\n|---|---:|---:|---:|---:|\n")
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", plain(f.What), f.Times, f.Median(), f.Worst(), f.Limit())
	}
	return b.String()
}
