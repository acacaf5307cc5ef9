package report

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// markdownLimit bounds the rendered Markdown, in bytes. GitHub shows no step summary above 1 MiB for all steps of a job
// together, and people do not read that much.
const markdownLimit = 60_000

// The parts of the Markdown are bounded too, in bytes, so that a part that is too long leaves room for the others.
const (
	markdownEvidence = 4_000
	markdownReason   = 1_500
	markdownHead     = 8_000
)

// briefReason bounds a reason in short form, in bytes.
const briefReason = 600

// Markdown renders the document for a step summary of GitHub, in less than 60 KB. A sentence says what was cut.
func (r *Report) Markdown() string {
	cut := &cutter{}
	head := cut.text(r.markdownHead(), markdownHead)
	tail := r.markdownTail()
	failures := r.failures()
	short, full := make([]string, len(failures)), make([]string, len(failures))
	for i, res := range failures {
		short[i], full[i] = r.markdownFailure(res, ""), r.markdownFailure(res, markdownProof(res))
	}
	// This leaves room for the sentence at the end, and for what follows the failures.
	const sentence = 300
	room := markdownLimit - len(head) - sentence - min(len(tail), markdownLimit/4)
	shown := 0
	for shown < len(short) && len(short[shown]) <= room {
		room -= len(short[shown])
		shown++
	}
	proofs := 0
	for i := range shown {
		if more := len(full[i]) - len(short[i]); more <= room {
			room -= more
			short[i] = full[i]
			proofs++
		}
	}
	tail = cut.text(tail, markdownLimit/4+max(0, room))
	var missing []string
	if n := len(failures) - shown; n > 0 {
		missing = append(missing, fmt.Sprintf("%d of %d failures", n, len(failures)))
	}
	if n := shown - proofs; n > 0 {
		missing = append(missing, fmt.Sprintf("the evidence of %d failures", n))
	}
	if cut.done {
		missing = append(missing, "the end of long lists")
	}
	text := head + strings.Join(short[:shown], "") + tail
	if missing != nil {
		text += fmt.Sprintf("\n_To stay below %d KB, this leaves out %s; report.html has all._\n", markdownLimit/1000,
			strings.Join(missing, ", "))
	}
	return text
}

// cutter shortens texts at the ends of lines and counts what it cut.
type cutter struct{ done bool }

func (c *cutter) text(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	c.done = true
	text = text[:limit]
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		return text[:i+1]
	}
	return ""
}

func (r *Report) markdownHead() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s %s: %s\n\n", map[bool]string{true: "✓", false: "✗"}[r.Verdict == Conformant], r.Verdict,
		plain(r.Chain()))
	fmt.Fprintf(&b, "%s%s\n\n", r.verdictWords(), map[bool]string{
		true: "", false: " Under test: " + plain(r.underTest()) + ".",
	}[r.underTest() == ""])
	fmt.Fprintf(&b, "| | |\n|---|---|\n")
	for _, row := range [][2]string{
		{"results", r.Tally()},
		{"published by", r.markdownOrigin()},
		r.markdownSubject(),
		{"where", fmt.Sprintf("backend %s, Linux %s, cnitest %s", r.Backend, r.Kernel, r.Suite.Version)},
		{"when", fmt.Sprintf("%s, %.1f s", r.Started.Format("2006-01-02 15:04:05 MST"), r.DurationSeconds)},
		{"how sure", r.Certainty()},
	} {
		if row[1] == "" {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], plain(row[1]))
	}
	fmt.Fprintf(&b, "\n| %s | version | |\n|---|---|---|\n", r.what())
	for _, p := range r.Implementation.Plugins {
		version := p.Version
		if version == "" && len(p.SHA256) >= 12 {
			version = "SHA-256 " + p.SHA256[:12] + "…"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", plain(p.Type), plain(version), map[bool]string{
			true: "under test",
		}[p.UnderTest])
	}
	for _, s := range r.Scores {
		if r.Counts(Result{Plugin: s.Plugin}) {
			fmt.Fprintf(&b, "\n%s of %s noticed %d of %d things that were broken on purpose", s.Verb, plain(s.Plugin),
				s.Noticed, s.Provoked)
			if len(s.Missed) > 0 {
				fmt.Fprintf(&b, "; not: %s", plain(strings.Join(s.Missed, ", ")))
			}
			b.WriteString(".\n")
		}
	}
	if causes := r.Causes(); causes != nil {
		b.WriteString("\n### What is wrong, in short\n\n")
		for _, c := range causes[:min(len(causes), causesShown)] {
			fmt.Fprintf(&b, "- **%s**%s: %s\n", plain(c.Results[0].Name()), c.More(),
				plain(oneLine(clip(c.Text, briefReason))))
		}
		b.WriteString("\n### What failed\n")
	}
	return b.String()
}

// markdownOrigin says who publishes the plugins under test.
func (r *Report) markdownOrigin() string {
	var parts []string
	for _, part := range []string{r.Implementation.whose(), r.Implementation.URL, r.Implementation.Contact} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

// markdownSubject is the row about what was tested.
func (r *Report) markdownSubject() [2]string {
	if r.AboutRuntime() {
		return [2]string{"asked for", "the duties of a runtime, CNI " + r.Implementation.CNIVersion}
	}
	return [2]string{"conflist", fmt.Sprintf("%s, CNI %s, profile %s", r.Implementation.Conflist,
		r.Implementation.CNIVersion, r.Profile)}
}

func (r *Report) markdownFailure(res Result, proof string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n#### %s %s: %s\n\n", res.Result.Symbol(), plain(res.Name()), res.Result)
	fmt.Fprintf(&b, "%s\n\n", plain(clip(res.Title, markdownReason)))
	for i, part := range reasonParts(clip(res.Reason, markdownReason)) {
		if i > 0 {
			b.WriteString(";<br>\n")
		}
		b.WriteString("**" + strings.TrimSpace(plain(part)) + "**")
	}
	b.WriteString("\n")
	if res.Repeat != "" {
		b.WriteString("\nTo repeat it:\n\n" + fence(clip(res.Repeat, markdownReason)))
	}
	return b.String() + proof
}

// markdownProof returns the evidence, folded.
func markdownProof(res Result) string {
	if len(res.Evidence) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n<details><summary>evidence</summary>\n")
	for _, e := range res.Evidence {
		fmt.Fprintf(&b, "\n%s\n\n", plain(e.Title))
		if e.File != "" {
			fmt.Fprintf(&b, "packet capture, for Wireshark: %s\n\n", plain(e.File))
		}
		if e.Text != "" {
			b.WriteString(fence(clip(e.Text, markdownEvidence)))
		}
	}
	b.WriteString("\n</details>\n")
	return b.String()
}

// markdownTail returns a line for each result that does not count for the verdict.
func (r *Report) markdownTail() string {
	var b strings.Builder
	section := func(title string, results []Result) {
		if len(results) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n### %s\n\n", title)
		for _, res := range results {
			fmt.Fprintf(&b, "- %s: %s\n", plain(res.Name()), plain(oneLine(clip(res.Reason, markdownReason/4))))
		}
	}
	b.WriteString(r.markdownTimes())
	b.WriteString(r.markdownFigures())
	section("Skipped", r.with(Skipped))
	section("Known upstream", r.with(KnownUpstream))
	section("About plugins that are not under test", r.Findings())
	if len(r.Residue) > 0 {
		b.WriteString("\n### Stays on a node after its first pod, once\n\n")
		for _, res := range r.Residue {
			fmt.Fprintf(&b, "- %s: %s\n", plain(res.Plugin), plain(oneLine(res.Item)))
		}
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n### Notes\n\n")
		for _, note := range r.Notes {
			fmt.Fprintf(&b, "- %s\n", plain(oneLine(note)))
		}
	}
	var passed []string
	for _, res := range r.with(Pass) {
		if !slices.Contains(passed, res.ID) {
			passed = append(passed, res.ID)
		}
	}
	if passed != nil {
		fmt.Fprintf(&b, "\n<details><summary>%d passed</summary>\n\n%s\n\n</details>\n", r.Count(Pass),
			plain(strings.Join(passed, ", ")))
	}
	return b.String()
}

// clip cuts a text that is too long, between characters, and adds a sentence that says so.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	head := text[:limit]
	for !utf8.ValidString(head) && len(head) > limit-utf8.UTFMax {
		head = head[:len(head)-1]
	}
	return fmt.Sprintf("%s … (%d more bytes in report.html)", head, len(text)-len(head))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// plain escapes the characters that have a meaning in Markdown and HTML.
func plain(text string) string {
	marks := []string{"\n", "<br>"}
	for _, mark := range []string{`\`, "`", "*", "_", "[", "]", "|", "~"} {
		marks = append(marks, mark, `\`+mark)
	}
	return strings.NewReplacer(marks...).Replace(html.EscapeString(text))
}

// fence returns a code block that nothing in the text can end. GitHub colours differences in it.
func fence(text string) string {
	mark, language := "```", "text"
	if slices.ContainsFunc(strings.Split(text, "\n"), stateLine.MatchString) {
		language = "diff"
	}
	for strings.Contains(text, mark) {
		mark += "`"
	}
	return fmt.Sprintf("%s%s\n%s\n%s\n", mark, language, strings.TrimRight(text, "\n"), mark)
}
