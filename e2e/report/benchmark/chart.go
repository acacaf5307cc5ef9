package benchmark

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// These are the measures of a chart, in pixels.
const (
	chartWidth = 640
	labelWidth = 250
	textWidth  = 120
	barHeight  = 22
	plotHeight = 260
	plotMargin = 56
	colours    = 6 // classes c0 to c5 of the style
)

// bar is a row of a chart of bars.
type bar struct {
	label string
	// parts are the lengths of its parts, one after the other, each in the colour of its place, or of colour alone if
	// there is one part.
	parts  []float64
	colour int
	// low and high are the ends of a whisker; none if both are 0.
	low, high float64
	text      string
	// heading starts a group: it has only a label.
	heading bool
}

// drawing collects an SVG.
type drawing struct{ strings.Builder }

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

// short cuts a label to what fits.
func short(label string) string {
	const most = 36
	if letters := []rune(label); len(letters) > most {
		return string(letters[:most-1]) + "…"
	}
	return label
}

func escape(text string) string { return template.HTMLEscapeString(text) }

// open begins a picture that is described by words for those who do not see it.
func (d *drawing) open(height int, words string) {
	d.add(`<svg class="chart" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`, chartWidth,
		height, chartWidth, height, escape(words))
}

func (d *drawing) close() template.HTML {
	d.WriteString("</svg>")
	return template.HTML(d.String())
}

// bars draws rows; mark is a value with a line across all of them, none at 0.
func bars(words string, rows []bar, mark float64) template.HTML {
	most := mark
	for _, r := range rows {
		sum := 0.0
		for _, p := range r.parts {
			sum += p
		}
		most = max(most, sum, min(r.high, 2*sum))
	}
	if len(rows) == 0 || most <= 0 {
		return ""
	}
	d := &drawing{}
	height := len(rows)*barHeight + 8
	d.open(height, words)
	room := float64(chartWidth - labelWidth - textWidth)
	x := func(value float64) float64 { return labelWidth + room*min(value, most)/most }
	if mark > 0 {
		d.add(`<path class="mark" d="M%.1f 0V%d"/>`, x(mark), height)
	}
	for i, r := range rows {
		y := i*barHeight + 4
		if r.heading {
			d.add(`<text class="name" x="0" y="%d">%s</text>`, y+14, escape(r.label))
			continue
		}
		d.add(`<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-8, y+14, escape(short(r.label)))
		from := 0.0
		for place, part := range r.parts {
			colour := r.colour
			if len(r.parts) > 1 {
				colour = place
			}
			d.add(`<rect class="c%d" x="%.1f" y="%d" width="%.1f" height="%d"/>`, colour%colours, x(from), y+3,
				max(0, x(from+part)-x(from)), barHeight-8)
			from += part
		}
		end := from
		if r.high > 0 {
			d.add(`<path class="whisker" d="M%.1f %dH%.1fM%.1f %dv8M%.1f %dv8"/>`, x(r.low), y+10, x(r.high), x(r.low),
				y+6, x(r.high), y+6)
			end = max(end, r.high)
		}
		d.add(`<text x="%.1f" y="%d">%s</text>`, x(end)+6, y+14, escape(r.text))
	}
	return d.close()
}

// line is a series of a chart of lines.
type line struct {
	name   string
	colour int
	points []point
}

type point struct{ x, y float64 }

// lines draws series over a logarithmic axis. The values of x are labelled as they are.
func lines(words, xName, yName string, series []line) template.HTML {
	series = slices.DeleteFunc(slices.Clone(series), func(l line) bool { return len(l.points) < 2 })
	var xs []float64
	most := 0.0
	for _, l := range series {
		for _, p := range l.points {
			most = max(most, p.y)
			if !slices.Contains(xs, p.x) {
				xs = append(xs, p.x)
			}
		}
	}
	if len(xs) < 2 || most <= 0 {
		return ""
	}
	slices.Sort(xs)
	d := &drawing{}
	legend := (len(series) + 1) / 2 * 20
	height := plotHeight + plotMargin + legend
	d.open(height, words)
	scale := func(v float64) float64 { return math.Log(max(v, 1)) }
	x := func(v float64) float64 {
		return plotMargin + (chartWidth-plotMargin-40)*(scale(v)-scale(xs[0]))/(scale(xs[len(xs)-1])-scale(xs[0]))
	}
	step := niceStep(most / 4)
	top := step * math.Ceil(most/step)
	y := func(v float64) float64 { return 24 + (plotHeight-24)*(1-v/top) }
	d.add(`<text x="0" y="14">%s</text>`, escape(yName))
	for v := 0.0; v <= top*1.001; v += step {
		d.add(`<path class="grid" d="M%d %.1fH%d"/>`, plotMargin, y(v), chartWidth-40)
		d.add(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, plotMargin-6, y(v)+4, trim(v))
	}
	for _, v := range xs {
		d.add(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(v), plotHeight+18, trim(v))
	}
	d.add(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, chartWidth/2, plotHeight+38, escape(xName))
	for i, l := range series {
		var path strings.Builder
		for n, p := range l.points {
			fmt.Fprintf(&path, "%s%.1f %.1f", []string{"L", "M"}[b2i(n == 0)], x(p.x), y(p.y))
			d.add(`<circle class="c%d" cx="%.1f" cy="%.1f" r="3.5"/>`, l.colour%colours, x(p.x), y(p.y))
		}
		d.add(`<path class="line c%d" d="%s"/>`, l.colour%colours, path.String())
		d.key(l.colour, l.name, plotMargin+(i%2)*(chartWidth-plotMargin)/2, plotHeight+plotMargin+i/2*20)
	}
	return d.close()
}

// key draws an entry of a legend.
func (d *drawing) key(colour int, name string, x, y int) {
	d.add(`<rect class="c%d" x="%d" y="%d" width="12" height="12"/>`, colour%colours, x, y-4)
	d.add(`<text x="%d" y="%d">%s</text>`, x+18, y+7, escape(name))
}

// legend draws the names of parts of bars.
func legend(names []string) template.HTML {
	d := &drawing{}
	d.open((len(names)+2)/3*20+4, "legend")
	for i, name := range names {
		d.key(i, name, i%3*chartWidth/3, i/3*20+8)
	}
	return d.close()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// niceStep returns 1, 2 or 5 times a power of ten that is not below the step.
func niceStep(step float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, times := range []float64{1, 2, 5} {
		if times*power >= step {
			return times * power
		}
	}
	return 10 * power
}

// trim returns a number without needless zeros.
func trim(v float64) string { return fmt.Sprintf("%.4g", v) }
