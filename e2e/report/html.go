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

// WriteHTML renders the document as one page that needs nothing but itself: no script, no font and no picture from
// elsewhere. Links to packet captures are relative to the report's directory.
func (r *Report) WriteHTML(out io.Writer) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"anchor": anchor, "group": func(title string, open bool, results []Result) group {
			return group{title, open, results}
		},
		"symbol": Outcome.symbol, "parts": reasonParts, "lines": evidenceLines, "href": href, "aligned": aligned,
		"symptoms": r.symptoms, "name": Result.Name, "join": func(list []string) string {
			return strings.Join(list, ", ")
		},
		"brief":    func(text string) string { return clip(text, briefReason) },
		"outcomes": Outcomes, "add": func(a, b int) int {
			return a + b
		}, "networkY": func(i int) int {
			return (i + 1) * lineHeight
		}, "meaning": Outcome.meaning, "having": r.with, "counts": r.Counts,
	}).Parse(pageText)
	if err != nil {
		return err
	}
	if err := page.Execute(out, r.page()); err != nil {
		return fmt.Errorf("report: render the page: %w", err)
	}
	return nil
}

// page is what the template shows beside the document.
type page struct {
	*Report
	Style                                 template.CSS
	Chain, UnderTest, Tally, VerdictWords string
	Failures                              []Result
	// Causes are what most failures come from, MoreCauses how many others there are.
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
		Report: r, Style: template.CSS(pageStyle), Chain: r.chain(), UnderTest: r.underTest(), Tally: r.Tally(),
		VerdictWords: r.Verdict.meaning(),
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

// table is requirements by plugin.
type table struct {
	Plugins []string
	Rows    []row
}

// row is the requirements that share the first part of their ids: a verb or a family.
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

// family is what ids of one kind have in common: "ADD" of ADD-1, "F" of F01.
func family(id string) string {
	if head, _, found := strings.Cut(id, "-"); found && head == strings.ToUpper(head) {
		return head
	}
	return cmp.Or(strings.TrimRight(id, "0123456789"), id)
}

// mode is a failure mode with the results that would show it.
type mode struct {
	FailureMode
	// Outcome is the worst of the results that count; empty where none does.
	Outcome Outcome
	Results []Result
}

func (r *Report) modes() []mode {
	// From the worst: what passed at least once was looked at.
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

// symptoms are what users saw where plugins failed as the result tells.
func (r *Report) symptoms(res Result) []FailureMode {
	return slices.DeleteFunc(slices.Clone(r.FailureModes), func(m FailureMode) bool {
		return !slices.Contains(res.Covers, m.ID)
	})
}

// anchor is the id of a result's place on the page.
func anchor(res Result) string { return "r-" + strings.ReplaceAll(res.Name(), " ", "-") }

// href is a link to a file beside the page, whatever characters its name has.
func href(file string) string { return (&url.URL{Path: file}).String() }

// reasonParts are the steps of a reason, which stand on lines of their own.
func reasonParts(reason string) []string { return strings.Split(reason, "; ") }

var columns = regexp.MustCompile(`\S {2,}\S+ {2,}\S`)

// aligned reports whether a text has columns, which would not survive a line that is broken.
func aligned(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	return columns.MatchString(first)
}

// line is a line of evidence, with the class that colours it.
type line struct {
	Class, Text string
	// Before and After are the two sides of a change.
	Before, After string
}

var stateLine = regexp.MustCompile(`^([+~-]) [a-z]`)

// evidenceLines colours the differences of states: "+ link eth1: …", "- route …", "~ link eth0: … -> …".
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
