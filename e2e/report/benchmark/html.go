package benchmark

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/cnitest/cnitest/e2e/report"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// section is a table with its plot.
type section struct {
	Table
	// ID is its place on the page, Short its name in the list of sections.
	ID, Short string
	Plot      template.HTML
}

// page has what the template shows besides the document.
type page struct {
	*Benchmark
	Style    template.CSS
	Sections []section
}

// WriteHTML renders the document as one page that needs no other file: no script, no font and no picture.
func (b *Benchmark) WriteHTML(out io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{"bytes": Bytes}).Parse(pageText)
	if err != nil {
		return err
	}
	p := page{Benchmark: b, Style: report.Style() + template.CSS(pageStyle), Sections: b.sections()}
	if err := t.Execute(out, p); err != nil {
		return fmt.Errorf("benchmark: render the page: %w", err)
	}
	return nil
}

func (b *Benchmark) sections() (list []section) {
	add := func(t Table, id, short string, plot template.HTML) {
		if len(t.Rows) > 0 {
			list = append(list, section{t, id, short, plot})
		}
	}
	add(b.alone(), "alone", "one call at a time", b.ratioBars())
	add(b.together(), "together", "many at once", b.throughput())
	add(b.growing(), "growth", "growth", b.growthLines())
	add(b.costs(), "costs", "what a call asks for", "")
	add(b.shares(), "time", "where the time goes", b.shareBars())
	for i, t := range b.traffic() {
		id := fmt.Sprintf("traffic-%d", i)
		add(t, id, t.Title, b.trafficBars(t.Title[len(trafficTitle):]))
	}
	add(b.binaries(), "programs", "programs", "")
	return list
}
