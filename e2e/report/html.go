package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// Style returns the style sheet of the page, for other pages that are to look like it.
func Style() template.CSS { return template.CSS(pageStyle) }

// WriteHTML renders the document as one page that needs no other file: no script, no font and no picture. Links to
// packet captures are relative to the report's directory.
func (r *Report) WriteHTML(out io.Writer) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"anchor": anchor, "callTimesNote": func() string { return callTimesNote },
		"figuresNote": func() string { return figuresNote },
		"group": func(title string, open bool, results []Result) group {
			return group{title, open, results}
		},
		"symbol": Outcome.Symbol, "parts": reasonParts, "lines": evidenceLines, "href": href, "aligned": aligned,
		"symptoms": r.symptoms, "name": Result.Name, "join": func(list []string) string {
			return strings.Join(list, ", ")
		},
		"brief":    func(text string) string { return clip(text, briefReason) },
		"outcomes": Outcomes, "add": func(a, b int) int {
			return a + b
		}, "networkY": func(i int) int {
			return (i + 1) * lineHeight
		}, "meaning": Outcome.Meaning, "having": r.with, "counts": r.Counts,
	}).Parse(pageText)
	if err != nil {
		return err
	}
	if err := page.Execute(out, r.page()); err != nil {
		return fmt.Errorf("report: render the page: %w", err)
	}
	return nil
}

// page has what the template shows besides the document.
type page struct {
	*Report
	Style                                 template.CSS
	Chain, UnderTest, Tally, VerdictWords string
	// Whose says who publishes the plugins under test.
	Whose string
	// What is the word for what was tested.
	What     string
	Failures []Result
	// Causes are the causes of most failures, MoreCauses the number of others.
	Causes       []Cause
	MoreCauses   int
	Scenarios    []Result
	Table        table
	Broken, Held []mode
	Drawing      *drawing
}

// group is a foldable list of results.
type group struct {
	Title   string
	Open    bool
	Results []Result
}

func (r *Report) page() page {
	p := page{
		Report: r, Style: template.CSS(pageStyle), Chain: r.Chain(), UnderTest: r.underTest(), Tally: r.Tally(),
		What: r.what(), Whose: r.Implementation.whose(),
		VerdictWords: r.verdictWords(),
		Failures:     r.failures(), Table: r.table(), Drawing: r.drawing(),
	}
	p.Causes = r.Causes()
	p.MoreCauses = max(0, len(p.Causes)-causesShown)
	p.Causes = p.Causes[:len(p.Causes)-p.MoreCauses]
	for _, res := range r.Results {
		if res.Kind == "scenario" {
			p.Scenarios = append(p.Scenarios, res)
		}
	}
	for _, m := range r.modes() {
		if m.Outcome == Fail || m.Outcome == Vacuous {
			p.Broken = append(p.Broken, m)
		} else {
			p.Held = append(p.Held, m)
		}
	}
	return p
}

// table has requirements by plugin.
type table struct {
	Plugins []string
	Rows    []row
}

// row has the requirements whose ids share the first part: a verb or a family.
type row struct {
	Label string
	Cells [][]Result
}

func (r *Report) table() table {
	var t table
	for _, res := range r.Results {
		if res.Kind != "scenario" && !slices.Contains(t.Plugins, res.Plugin) {
			t.Plugins = append(t.Plugins, res.Plugin)
		}
	}
	order := func(plugin string) int {
		return slices.IndexFunc(r.Implementation.Plugins, func(p Plugin) bool { return p.Type == plugin })
	}
	slices.SortFunc(t.Plugins, func(a, b string) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a, b))
	})
	for _, res := range r.Results {
		if res.Kind == "scenario" {
			continue
		}
		label := family(res.ID)
		i := slices.IndexFunc(t.Rows, func(row row) bool { return row.Label == label })
		if i < 0 {
			t.Rows = append(t.Rows, row{Label: label, Cells: make([][]Result, len(t.Plugins))})
			i = len(t.Rows) - 1
		}
		column := slices.Index(t.Plugins, res.Plugin)
		t.Rows[i].Cells[column] = append(t.Rows[i].Cells[column], res)
	}
	return t
}

// family returns the common part of ids: "ADD" of ADD-1, "F" of F01.
func family(id string) string {
	if head, _, found := strings.Cut(id, "-"); found && head == strings.ToUpper(head) {
		return head
	}
	return cmp.Or(strings.TrimRight(id, "0123456789"), id)
}

// mode is a failure mode with its results.
type mode struct {
	FailureMode
	// Outcome is the worst of the results that count; empty if there is none.
	Outcome Outcome
	Results []Result
}

func (r *Report) modes() []mode {
	// The order is from the worst: a result that passed at least once was tested.
	order := []Outcome{Fail, Vacuous, Pass, Blocked, Skipped, KnownUpstream, NotApplicable, NotClaimed}
	var modes []mode
	for _, known := range r.FailureModes {
		m := mode{FailureMode: known}
		for _, res := range r.Results {
			if !slices.Contains(res.Covers, known.ID) {
				continue
			}
			m.Results = append(m.Results, res)
			if r.Counts(res) && (m.Outcome == "" || slices.Index(order, res.Result) < slices.Index(order, m.Outcome)) {
				m.Outcome = res.Result
			}
		}
		modes = append(modes, m)
	}
	return modes
}

// symptoms returns what users saw from plugins that failed as the result says.
func (r *Report) symptoms(res Result) []FailureMode {
	return slices.DeleteFunc(slices.Clone(r.FailureModes), func(m FailureMode) bool {
		return !slices.Contains(res.Covers, m.ID)
	})
}

// anchor returns the id of a result's place on the page.
func anchor(res Result) string { return "r-" + strings.ReplaceAll(res.Name(), " ", "-") }

// href returns a link to a file beside the page, with any characters in its name.
func href(file string) string { return (&url.URL{Path: file}).String() }

// reasonParts returns the parts of a reason, each for a line of its own.
func reasonParts(reason string) []string { return strings.Split(reason, "; ") }

var columns = regexp.MustCompile(`\S {2,}\S+ {2,}\S`)

// aligned reports whether a text has columns, which must not be wrapped.
func aligned(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	return columns.MatchString(first)
}

// line is a line of evidence, with its class for colours.
type line struct {
	Class, Text string
	// Before and After are the two sides of a change.
	Before, After string
}

var stateLine = regexp.MustCompile(`^([+~-]) [a-z]`)

// evidenceLines colours differences of states: "+ link eth1: …", "- route …", "~ link eth0: … -> …".
func evidenceLines(text string) []line {
	var lines []line
	for _, text := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		l := line{Text: text}
		if kind := stateLine.FindStringSubmatch(text); kind != nil {
			l.Class = map[string]string{"+": "came", "-": "went", "~": "changed"}[kind[1]]
		}
		if before, after, found := strings.Cut(text, " -> "); found && l.Class == "changed" {
			l.Before, l.After = before, after
		}
		lines = append(lines, l)
	}
	return lines
}
