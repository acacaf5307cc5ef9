package benchmark

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Table is a table of the document for people.
type Table struct {
	Title string
	// Note says how to read it.
	Note   string
	Header []string
	Rows   [][]string
}

const dash = "–"

// Tables returns what was measured; parts that were not measured have no table.
func (b *Benchmark) Tables() []Table {
	all := []Table{b.alone(), b.together(), b.growing(), b.costs(), b.shares()}
	all = append(all, b.traffic()...)
	all = append(all, b.binaries())
	return slices.DeleteFunc(all, func(t Table) bool { return len(t.Rows) == 0 })
}

// verbs returns the verbs of rows that have some, in the order of a pod's life.
func (b *Benchmark) verbs(chosen func(Call) bool) (verbs []string) {
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		if slices.ContainsFunc(b.Calls, func(c Call) bool { return c.Verb == verb && chosen(c) }) {
			verbs = append(verbs, verb)
		}
	}
	return verbs
}

// numbers returns the different numbers of rows, ascending.
func (b *Benchmark) numbers(of func(Call) (int, bool)) (list []int) {
	for _, c := range b.Calls {
		if n, ok := of(c); ok && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// Fewest is the smallest number of attachments with which calls were measured; 0 without any.
func (b *Benchmark) Fewest() int {
	list := b.numbers(func(c Call) (int, bool) { return c.Attachments, true })
	if len(list) == 0 {
		return 0
	}
	return list[0]
}

// alone has calls one at a time.
func (b *Benchmark) alone() Table {
	first := b.Fewest()
	t := Table{
		Title: fmt.Sprintf("One call at a time, with %d attachments on the node", first),
		Note: "Medians with intervals that hold the true one with a probability of 95 %; × noop: how many times as " +
			"long as noop's call in the same round; p99: one call in a hundred takes longer (of fewer than 100 calls " +
			"the longest); CPU: processor time of a call, with that of the programs that plugins start.",
		Header: []string{"chain", "verb", "time", "× noop", "p99", "CPU", "calls"},
	}
	for _, chain := range b.Chains {
		for _, verb := range b.verbs(func(c Call) bool { return c.Callers == 1 }) {
			if c := b.Call(chain.Name, verb, first, 1); c != nil {
				t.Rows = append(t.Rows, []string{
					chain.Name, verb, c.Seconds.times(), c.Ratio.factor(), Time(c.P99Seconds),
					Time(c.CPUSeconds.Median), fmt.Sprint(c.Count),
				})
			}
		}
	}
	return t
}

// together has calls at the same time.
func (b *Benchmark) together() Table {
	t := Table{
		Title: "ADDs at once",
		Note: "How many a second while so many callers are at work, and the time of one of them (p99 in brackets). A " +
			"plugin that holds a lock gets no faster with more callers.",
		Header: []string{"chain"},
	}
	first := b.Fewest()
	callers := b.numbers(func(c Call) (int, bool) { return c.Callers, c.Attachments == first })
	if len(callers) < 2 {
		return t
	}
	for _, n := range callers {
		t.Header = append(t.Header, fmt.Sprintf("%d, ADD/s", n), "time of one")
	}
	for _, chain := range b.Chains {
		row, known := []string{chain.Name}, false
		for _, n := range callers {
			c := b.Call(chain.Name, "ADD", first, n)
			if c == nil {
				row = append(row, dash, dash)
				continue
			}
			known = true
			row = append(row, digits(c.PerSecond), fmt.Sprintf("%s (%s)", Time(c.Seconds.Median), Time(c.P99Seconds)))
		}
		if known {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// growing has calls with more and more attachments.
func (b *Benchmark) growing() Table {
	t := Table{
		Title: "One call at a time, with more and more attachments on the node",
		Note: "Medians, and how many times as long as noop's call in the same round; per attachment: what each adds, " +
			"with the standard error of the fit; most/fewest: how many times as long with most attachments as on " +
			"another node with fewest, in the same rounds.",
		Header: []string{"chain", "verb"},
	}
	sizes := b.numbers(func(c Call) (int, bool) { return c.Attachments, c.Callers == 1 })
	if len(sizes) < 2 {
		return t
	}
	for _, n := range sizes {
		t.Header = append(t.Header, fmt.Sprint(n))
	}
	t.Header = append(t.Header, "per attachment", "most/fewest")
	for _, chain := range b.Chains {
		for _, verb := range b.verbs(func(Call) bool { return true }) {
			row, known := []string{chain.Name, verb}, 0
			for _, n := range sizes {
				c := b.Call(chain.Name, verb, n, 1)
				if c == nil {
					row = append(row, dash)
					continue
				}
				known++
				text := Time(c.Seconds.Median)
				if c.Ratio != nil {
					text += " (× " + digits(c.Ratio.Median) + ")"
				}
				row = append(row, text)
			}
			if known > 1 {
				t.Rows = append(t.Rows, append(row, b.slope(chain.Name, verb)...))
			}
		}
	}
	return t
}

// slope is what an attachment adds to a call, and what most of them do.
func (b *Benchmark) slope(chain, verb string) []string {
	for _, g := range b.Growth {
		if g.Chain == chain && g.Verb == verb {
			return []string{
				fmt.Sprintf("%+.2f ± %.2f µs", g.SecondsEach*1e6, g.ErrorSeconds*1e6), g.Factor.factor(),
			}
		}
	}
	return []string{dash, dash}
}

// binaries has the programs.
func (b *Benchmark) binaries() Table {
	t := Table{Title: "Programs", Header: []string{"plugin", "size", "SHA-256"}}
	for _, chain := range b.Chains {
		for _, p := range chain.Plugins {
			row := []string{p.Type, Bytes(p.SizeBytes), p.SHA256}
			if !slices.ContainsFunc(t.Rows, func(r []string) bool { return r[0] == row[0] }) {
				t.Rows = append(t.Rows, row)
			}
		}
	}
	return t
}

// times returns a median with its interval in its unit: "3.62 [3.60, 3.70] ms".
func (e Estimate) times() string {
	text := Time(e.Median)
	number, unit, _ := strings.Cut(text, " ")
	scale := map[string]float64{"s": 1, "ms": 1e3, "µs": 1e6, "ns": 1e9}[unit]
	return fmt.Sprintf("%s [%s, %s] %s", number, digits(e.Low*scale), digits(e.High*scale), unit)
}

// factor returns a ratio with its interval; a dash for none.
func (e *Estimate) factor() string {
	if e == nil {
		return dash
	}
	return fmt.Sprintf("%s [%s, %s]", digits(e.Median), digits(e.Low), digits(e.High))
}

// Bytes returns a size for people: "8.37 MB".
func Bytes(n int64) string {
	switch {
	case n >= 1e9:
		return digits(float64(n)/1e9) + " GB"
	case n >= 1e6:
		return digits(float64(n)/1e6) + " MB"
	case n >= 1e3:
		return digits(float64(n)/1e3) + " kB"
	}
	return fmt.Sprintf("%d B", n)
}

// Print writes the tables, the findings and what is missing as text.
func (b *Benchmark) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, t := range b.Tables() {
		if t.Title == "Programs" {
			continue
		}
		fmt.Fprintf(w, "%s\n", t.Title)
		for _, row := range append([][]string{t.Header}, t.Rows...) {
			fmt.Fprintf(w, "  %s\n", strings.Join(row, "\t"))
		}
		fmt.Fprintln(w)
	}
	for _, finding := range b.Findings {
		fmt.Fprintf(w, "finding: %s\n", finding)
	}
	for _, m := range b.Missing {
		fmt.Fprintf(w, "not measured: %s: %s\n", m.What, m.Why)
	}
	for _, note := range b.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	return w.Flush()
}
