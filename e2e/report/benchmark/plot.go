package benchmark

import (
	"fmt"
	"html/template"
	"slices"
)

// ratioBars shows how many times as long as noop's each chain's calls take, one at a time.
func (b *Benchmark) ratioBars() template.HTML {
	var rows []bar
	first := b.Fewest()
	for _, verb := range b.verbs(func(c Call) bool { return c.Callers == 1 }) {
		rows = append(rows, bar{label: verb + ", times noop", heading: true})
		for i, chain := range b.Chains {
			c := b.Call(chain.Name, verb, first, 1)
			if c == nil || c.Ratio == nil {
				continue
			}
			rows = append(rows, bar{
				label: chain.Name, parts: []float64{c.Ratio.Median}, colour: i, low: c.Ratio.Low, high: c.Ratio.High,
				text: digits(c.Ratio.Median),
			})
		}
	}
	return bars("how many times as long as noop's the calls of each chain take", rows, 1)
}

// throughput shows how many ADDs end in a second, by the number of callers.
func (b *Benchmark) throughput() template.HTML {
	var series []line
	first := b.Fewest()
	for i, chain := range b.Chains {
		l := line{name: chain.Name, colour: i}
		for _, n := range b.numbers(func(c Call) (int, bool) { return c.Callers, c.Attachments == first }) {
			if c := b.Call(chain.Name, "ADD", first, n); c != nil && chain.Role != Nothing {
				l.points = append(l.points, point{float64(n), c.PerSecond})
			}
		}
		series = append(series, l)
	}
	return lines("ADDs in a second by the number of callers", "callers", "ADDs in a second", series)
}

// growthLines shows the ratios to noop by the number of attachments.
func (b *Benchmark) growthLines() template.HTML {
	var series []line
	sizes := b.numbers(func(c Call) (int, bool) { return c.Attachments, c.Callers == 1 })
	tested := b.Chain().Name
	for i, verb := range b.verbs(func(Call) bool { return true }) {
		l := line{name: verb, colour: 2 * i}
		for _, n := range sizes {
			if c := b.Call(tested, verb, n, 1); c != nil && c.Ratio != nil {
				l.points = append(l.points, point{float64(n), c.Ratio.Median})
			}
		}
		series = append(series, l)
	}
	return lines("how many times as long as noop's the calls take by the number of attachments",
		"attachments on the node", tested+", times noop", series)
}

// shareBars shows where the time of a call goes. The kinds of work beyond the colours are left to the table.
func (b *Benchmark) shareBars() template.HTML {
	var names []string
	for _, c := range b.Costs {
		for _, s := range c.Shares {
			if s.Seconds > 0 && !slices.Contains(names, s.What) {
				names = append(names, s.What)
			}
		}
	}
	sum := map[string]float64{}
	for _, c := range b.Costs {
		for _, s := range c.Shares {
			sum[s.What] += s.Seconds
		}
	}
	for len(names) > colours {
		least := slices.MinFunc(names, func(a, b string) int {
			if sum[a] < sum[b] {
				return -1
			}
			return 1
		})
		names = slices.DeleteFunc(names, func(n string) bool { return n == least })
	}
	var rows []bar
	chain := ""
	for _, c := range b.Costs {
		all, row := 0.0, bar{label: c.Verb}
		for _, s := range c.Shares {
			all += s.Seconds
		}
		if all == 0 || c.Callers > 1 {
			continue
		}
		if c.Chain != chain {
			chain = c.Chain
			rows = append(rows, bar{label: chain, heading: true})
		}
		for _, name := range names {
			part := 0.0
			for _, s := range c.Shares {
				if s.What == name {
					part = s.Seconds
				}
			}
			row.parts = append(row.parts, part)
		}
		row.text = Time(all)
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	return legend(names) + bars("where the time of calls goes", rows, 0)
}

// trafficBars shows one kind of traffic beside a bare veth pair.
func (b *Benchmark) trafficBars(kind string) template.HTML {
	var rows []bar
	var paths []string
	for _, t := range b.Traffic {
		if t.Kind == kind && t.Ratio != nil && !slices.Contains(paths, t.Path) {
			paths = append(paths, t.Path)
		}
	}
	for _, path := range paths {
		rows = append(rows, bar{label: path, heading: true})
		for _, t := range b.Traffic {
			if t.Kind != kind || t.Path != path || t.Ratio == nil {
				continue
			}
			colour := slices.IndexFunc(b.Chains, func(c Chain) bool { return c.Name == t.Chain })
			rows = append(rows, bar{
				label: t.Chain, parts: []float64{t.Ratio.Median}, colour: max(colour, 0), low: t.Ratio.Low,
				high: t.Ratio.High, text: Rate(t.Rate.Median, t.Unit),
			})
		}
	}
	return bars(fmt.Sprintf("%s beside a bare veth pair", kind), rows, 1)
}
