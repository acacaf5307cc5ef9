package matrix

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/mod/semver"

	"github.com/cnitest/cnitest/e2e/report"
)

// These are the names of the files of a matrix.
const (
	JSONName     = "matrix.json"
	HTMLName     = "matrix.html"
	MarkdownName = "matrix.md"
)

// WriteDir writes the document and its renderings into a directory, which it makes if it does not exist.
func (m *Matrix) WriteDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name   string
		render func(io.Writer) error
	}{{JSONName, m.WriteJSON}, {HTMLName, m.WriteHTML}, {MarkdownName, m.WriteMarkdown}} {
		var text strings.Builder
		if err := f.render(&text); err != nil {
			return err
		}
		if err := renameio.WriteFile(filepath.Join(dir, f.name), []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (draft 2020-12) of the document.
func Schema() []byte { return slices.Clone(schema) }

// WriteJSON writes the document.
func (m *Matrix) WriteJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(m)
}

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// WriteHTML renders the document as one page that needs no other file. Its links lead to the pages of the reports.
func (m *Matrix) WriteHTML(out io.Writer) error {
	page, err := template.New("matrix").Funcs(template.FuncMap{
		"symbol": report.Outcome.Symbol, "meaning": report.Outcome.Meaning, "outcomes": report.Outcomes,
		"href": href, "failed": Version.failed, "brief": brief,
	}).Parse(pageText)
	if err != nil {
		return err
	}
	if err := page.Execute(out, struct {
		*Matrix
		Style    template.CSS
		Projects []project
	}{m, report.Style() + template.CSS(pageStyle), m.projects()}); err != nil {
		return fmt.Errorf("matrix: render the page: %w", err)
	}
	return nil
}

// project is a group of plugins that have versions in common, as those of one project have.
type project struct {
	// Versions are those of all of them, from the oldest.
	Versions []string
	// Plugins are their places in the matrix.
	Plugins []int
}

// projects groups the plugins.
func (m *Matrix) projects() []project {
	var all []project
	for i, p := range m.Plugins {
		own := project{Plugins: []int{i}}
		for _, v := range p.Versions {
			own.Versions = append(own.Versions, v.Version)
		}
		at := slices.IndexFunc(all, func(of project) bool {
			return slices.ContainsFunc(own.Versions, func(v string) bool { return slices.Contains(of.Versions, v) })
		})
		if at < 0 {
			all = append(all, own)
			continue
		}
		of := &all[at]
		of.Plugins = append(of.Plugins, i)
		for _, v := range own.Versions {
			if !slices.Contains(of.Versions, v) {
				of.Versions = append(of.Versions, v)
			}
		}
	}
	for _, of := range all {
		slices.SortFunc(of.Versions, func(a, b string) int {
			return cmp.Or(semver.Compare(a, b), strings.Compare(a, b))
		})
	}
	return all
}

// At returns the version of a name; nil if the plugin has none.
func (p Plugin) At(version string) *Version {
	i := slices.IndexFunc(p.Versions, func(v Version) bool { return v.Version == version })
	if i < 0 {
		return nil
	}
	return &p.Versions[i]
}

// failed is the number of failures.
func (v Version) failed() int { return v.Counts[report.Fail] + v.Counts[report.Vacuous] }

// Differing returns the rows that are not the same in each version.
func (p Plugin) Differing() []Row {
	return slices.DeleteFunc(slices.Clone(p.Rows), func(r Row) bool { return r.same() })
}

// Same is a group of rows that have the same outcome in each version.
type Same struct {
	Outcome report.Outcome
	Rows    []Row
}

// Alike returns the other rows, grouped by their outcome.
func (p Plugin) Alike() []Same {
	var groups []Same
	for _, o := range report.Outcomes() {
		group := Same{Outcome: o}
		for _, r := range p.Rows {
			if r.same() && r.Outcomes[0] == o {
				group.Rows = append(group.Rows, r)
			}
		}
		if group.Rows != nil {
			groups = append(groups, group)
		}
	}
	return groups
}

func (r Row) same() bool {
	return !slices.ContainsFunc(r.Outcomes, func(o report.Outcome) bool { return o != r.Outcomes[0] })
}

// Step is what came and what went with a version.
type Step struct {
	// From and To are the versions, CNI says which versions of the specification they were asked at if these differ.
	From, To, CNI     string
	Went, Came, Asked []Change
}

// Steps returns the changes, by version.
func (p Plugin) Steps() []Step {
	var steps []Step
	for _, c := range p.Changes {
		if len(steps) == 0 || steps[len(steps)-1].To != c.To {
			step := Step{From: c.From, To: c.To}
			if from, to := p.At(c.From).CNIVersion, p.At(c.To).CNIVersion; from != to {
				step.CNI = fmt.Sprintf("CNI %s, not %s", to, from)
			}
			steps = append(steps, step)
		}
		last := &steps[len(steps)-1]
		switch c.What {
		case Went:
			last.Went = append(last.Went, c)
		case Came:
			last.Came = append(last.Came, c)
		default:
			last.Asked = append(last.Asked, c)
		}
	}
	return steps
}

// more is what a heading says beside the versions.
func (s Step) more() string {
	if s.CNI == "" {
		return ""
	}
	return " (" + s.CNI + ")"
}

// href is a link to the page of a report, in any directory.
func href(dir string) string {
	link := (&url.URL{Path: path.Join(filepath.ToSlash(dir), report.HTMLName)}).String()
	if !strings.HasPrefix(link, "/") && !strings.HasPrefix(link, ".") {
		link = "./" + link
	}
	return link
}

// brief is the start of a reason.
func brief(reason string) string {
	const limit = 300
	reason = strings.Join(strings.Fields(reason), " ")
	if letters := []rune(reason); len(letters) > limit {
		return string(letters[:limit]) + " …"
	}
	return reason
}

// WriteMarkdown renders the document for a repository or a step summary.
func (m *Matrix) WriteMarkdown(out io.Writer) error {
	var b strings.Builder
	for _, of := range m.projects() {
		b.WriteString("| plugin |")
		for _, v := range of.Versions {
			fmt.Fprintf(&b, " %s |", plain(v))
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(of.Versions)) + "\n")
		for _, i := range of.Plugins {
			p := m.Plugins[i]
			fmt.Fprintf(&b, "| %s |", plain(p.title()))
			for _, name := range of.Versions {
				v := p.At(name)
				if v == nil {
					b.WriteString(" |")
					continue
				}
				fmt.Fprintf(&b, " [%s](%s) |", v.short(), href(v.Report))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	b.WriteString("✓ is nothing that failed, ✗ the number of failures, ↷ that something could not be run.\n")
	for _, p := range m.Plugins {
		p.markdown(&b)
	}
	for i, note := range m.Notes {
		if i == 0 {
			b.WriteString("\n## Not in it\n\n")
		}
		fmt.Fprintf(&b, "- %s\n", plain(note))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// short is the verdict in two words.
func (v Version) short() string {
	switch n := v.failed(); {
	case n > 0:
		return fmt.Sprintf("✗ %d", n)
	case v.Verdict == report.Partial:
		return "↷"
	}
	return "✓"
}

// title is the name with the chain and the profile.
func (p Plugin) title() string {
	switch {
	case p.Profile == "":
		return p.Name
	case p.Chain == p.Name:
		return fmt.Sprintf("%s (%s)", p.Name, p.Profile)
	}
	return fmt.Sprintf("%s (of %s, %s)", p.Name, p.Chain, p.Profile)
}

func (p Plugin) markdown(b *strings.Builder) {
	if len(p.Versions) < 2 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n", plain(p.title()))
	for _, step := range p.Steps() {
		fmt.Fprintf(b, "\n%s, after %s%s:\n\n", plain(step.To), plain(step.From), step.more())
		for _, part := range []struct {
			word    string
			changes []Change
		}{{Went, step.Went}, {Asked, step.Asked}, {Came, step.Came}} {
			for _, c := range part.changes {
				fmt.Fprintf(b, "- %s: **%s** (%s → %s) %s", part.word, plain(c.ID), c.Before, c.After, plain(c.Title))
				if part.word != Came && c.Reason != "" {
					fmt.Fprintf(b, " %s", plain(brief(c.Reason)))
				}
				b.WriteString("\n")
			}
		}
	}
	if len(p.Changes) == 0 {
		b.WriteString("\nNothing came and nothing went.\n")
	}
	rows := p.Differing()
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n| |")
	for _, v := range p.Versions {
		fmt.Fprintf(b, " %s |", plain(v.Version))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(p.Versions)) + "\n")
	for _, r := range rows {
		fmt.Fprintf(b, "| %s |", plain(r.ID))
		for _, o := range r.Outcomes {
			if o == "" {
				b.WriteString(" |")
				continue
			}
			fmt.Fprintf(b, " %s %s |", o.Symbol(), o)
		}
		b.WriteString("\n")
	}
}

// plain escapes the characters that have a meaning in Markdown and HTML.
func plain(text string) string {
	var marks []string
	for _, mark := range []string{`\`, "`", "*", "_", "[", "]", "|", "~"} {
		marks = append(marks, mark, `\`+mark)
	}
	return strings.NewReplacer(append(marks, "\n", " ")...).Replace(html.EscapeString(text))
}
