package benchmark

import (
	"fmt"
	"slices"
	"strings"
)

// Markdown renders the document for a step summary, or a page of a repository.
func (b *Benchmark) Markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "# What %s costs\n\n", plain(b.Chain().Name))
	fmt.Fprintf(&out, "`%s`, CNI %s, measured by cnitest %s on %s in %.0f s: Linux %s, %d processors (%s), %s of "+
		"memory. Milliseconds are those of this machine; ratios to noop, a plugin that does nothing, hold on others "+
		"too.\n", b.Conflist, b.CNIVersion, b.Suite.Version, b.Started.Format("2006-01-02"), b.DurationSeconds,
		b.Machine.Kernel, b.Machine.Processors, plain(b.Machine.Processor), Bytes(b.Machine.MemoryBytes))
	if len(b.Findings) > 0 {
		out.WriteString("\n## Findings\n\n")
		for _, finding := range b.Findings {
			fmt.Fprintf(&out, "- %s\n", plain(finding))
		}
	}
	for _, t := range b.Tables() {
		fmt.Fprintf(&out, "\n## %s\n\n", t.Title)
		if t.Note != "" {
			fmt.Fprintf(&out, "%s\n\n", plain(t.Note))
		}
		t.markdown(&out)
	}
	if len(b.Missing)+len(b.Notes) > 0 {
		out.WriteString("\n## Notes\n\n")
		for _, m := range b.Missing {
			fmt.Fprintf(&out, "- not measured: %s: %s\n", plain(m.What), plain(m.Why))
		}
		for _, note := range b.Notes {
			fmt.Fprintf(&out, "- %s\n", plain(note))
		}
	}
	return out.String()
}

// markdown writes the table alone.
func (t Table) markdown(out *strings.Builder) {
	row := func(cells []string) {
		cells = slices.Clone(cells)
		for i := range cells {
			cells[i] = plain(cells[i])
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	row(t.Header)
	out.WriteString("|" + strings.Repeat("---|", len(t.Header)) + "\n")
	for _, cells := range t.Rows {
		row(cells)
	}
}

// plain keeps a text from being taken for Markdown.
func plain(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "'", "\n", " ").Replace(text)
}
