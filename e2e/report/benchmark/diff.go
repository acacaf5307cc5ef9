package benchmark

import (
	"fmt"
	"io"
	"strings"
)

// DefaultMargin is how much worse a ratio may be, if its interval is apart from the old one: more than other work of a
// machine makes of two runs of the same plugins.
const DefaultMargin = 0.25

// Change is a value that differs between two benchmarks by more than the margin.
type Change struct {
	// What names it: "ADD with 10 attachments, 1 caller".
	What     string
	From, To string
}

// Difference is the difference between a benchmark and a later one.
type Difference struct {
	// Worse and Better are about the chain under test, Others about the chains beside it, which no change of the
	// plugins under test can have changed.
	Worse, Better, Others []Change
	// Compared is how many values of the chain under test both documents have.
	Compared int
	// Notes say how the runs differ.
	Notes []string
}

// Diff compares two benchmarks by their ratios to the chain that does nothing, by what calls ask of the machine, and by
// the ratios of traffic to a bare pair: never by times. A value is worse if it is worse by more than the margin (0.25
// is a quarter) and its interval does not touch the old one. The error says why they cannot be compared.
func Diff(before, after *Benchmark, margin float64) (*Difference, error) {
	if from, to := before.nothing(), after.nothing(); from != to {
		return nil, fmt.Errorf("noop is %s in the old one and %s in the new one, so that ratios to it differ; measure "+
			"both with the same --bin-dir", from, to)
	}
	d := &Difference{}
	if before.Chain().Name != after.Chain().Name {
		d.note("the chain under test was %s and is %s", before.Chain().Name, after.Chain().Name)
	}
	if before.CNIVersion != after.CNIVersion {
		d.note("the CNI version was %s and is %s", before.CNIVersion, after.CNIVersion)
	}
	if before.Machine != after.Machine {
		d.note("the machines differ: Linux %s with %d processors, and Linux %s with %d", before.Machine.Kernel,
			before.Machine.Processors, after.Machine.Kernel, after.Machine.Processors)
	}
	old := map[string]quantity{}
	for _, q := range before.quantities() {
		old[q.key] = q
	}
	for _, q := range after.quantities() {
		was, known := old[q.key]
		if !known {
			continue
		}
		if q.tested {
			d.Compared++
		}
		d.sort(was, q, margin)
	}
	return d, nil
}

func (d *Difference) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// sort puts a value where it belongs.
func (d *Difference) sort(was, is quantity, margin float64) {
	more := is.value.Median > was.value.Median*(1+margin) && is.value.Low > was.value.High
	less := is.value.Median*(1+margin) < was.value.Median && is.value.High < was.value.Low
	if !more && !less {
		return
	}
	c := Change{What: is.what, From: was.text(), To: is.text()}
	switch {
	case !is.tested:
		d.Others = append(d.Others, c)
	case more != is.moreIsBetter:
		d.Worse = append(d.Worse, c)
	default:
		d.Better = append(d.Better, c)
	}
}

// nothing names the program that does nothing.
func (b *Benchmark) nothing() string {
	for _, c := range b.Chains {
		if c.Role == Nothing && len(c.Plugins) > 0 {
			return c.Plugins[0].Type
		}
	}
	return "missing"
}

// quantity is a value that can be compared with the one of another machine.
type quantity struct {
	key, what    string
	tested       bool
	value        Estimate
	moreIsBetter bool
	count        bool // a number of things, not a ratio
}

func (q quantity) text() string {
	if q.count {
		return fmt.Sprintf("%.0f", q.value.Median)
	}
	return (&q.value).factor()
}

// quantities returns all values that can be compared. The chain under test counts as the same one under another name.
func (b *Benchmark) quantities() (list []quantity) {
	tested := b.Chain().Name
	add := func(chain, what string, value Estimate, moreIsBetter, count bool) {
		q := quantity{
			key: chain + ": " + what, what: chain + ": " + what, tested: chain == tested, value: value,
			moreIsBetter: moreIsBetter, count: count,
		}
		if q.tested {
			q.key, q.what = what, what
		}
		list = append(list, q)
	}
	for _, c := range b.Calls {
		if c.Ratio != nil {
			add(c.Chain, fmt.Sprintf("%s with %s and %s, times noop", c.Verb, plural(c.Attachments, "attachment"),
				plural(c.Callers, "caller")), *c.Ratio, false, false)
		}
	}
	for _, g := range b.Growth {
		add(g.Chain, fmt.Sprintf("%s with %s, times that with fewest", g.Verb, plural(g.Most, "attachment")), g.Factor,
			false, false)
	}
	for _, c := range b.Costs {
		if c.Callers > 1 {
			continue
		}
		for _, count := range []struct {
			what  string
			value int64
		}{
			{"system calls", int64(c.SystemCalls)},
			{"netlink messages", int64(c.NetlinkSent)},
			{"bytes of dumps", c.DumpBytes},
			{"programs", int64(c.Programs)},
			{"bytes of memory", c.PeakBytes},
		} {
			value := float64(count.value)
			add(c.Chain, c.Verb+", "+count.what, Estimate{value, value, value}, false, true)
		}
	}
	for _, t := range b.Traffic {
		if t.Ratio != nil {
			add(t.Chain, fmt.Sprintf("%s, %s, times a bare veth pair", t.Kind, t.Path), *t.Ratio, true, false)
		}
	}
	return list
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Print writes the difference for people.
func (d *Difference) Print(out io.Writer) error {
	var b strings.Builder
	for _, part := range []struct {
		title   string
		changes []Change
	}{{"worse", d.Worse}, {"better", d.Better}, {"beside it", d.Others}} {
		for _, c := range part.changes {
			fmt.Fprintf(&b, "%s: %s: %s -> %s\n", part.title, c.What, c.From, c.To)
		}
	}
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	fmt.Fprintf(&b, "%d worse, %d better, of %d values\n", len(d.Worse), len(d.Better), d.Compared)
	_, err := io.WriteString(out, b.String())
	return err
}
