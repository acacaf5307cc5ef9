package benchmark

import (
	"fmt"
	"slices"
)

// costs has what a call asks of the machine.
func (b *Benchmark) costs() Table {
	t := Table{
		Title: "What a call asks of the machine",
		Note: "Counted under a tracer, medians. Programs: those that are started, the plugins of the chain included. " +
			"Dumps: the bytes that netlink answers to requests for whole tables. Memory: of the largest program. " +
			"Binaries: the size of all of them.",
		Header: []string{
			"chain", "verb", "system calls", "netlink messages", "dumps", "programs", "memory", "binaries",
		},
	}
	for _, c := range b.Costs {
		if c.Callers > 1 {
			continue
		}
		t.Rows = append(t.Rows, []string{
			c.Chain, c.Verb, fmt.Sprint(c.SystemCalls), fmt.Sprint(c.NetlinkSent), Bytes(c.DumpBytes),
			fmt.Sprint(c.Programs), Bytes(c.PeakBytes), Bytes(b.sizeOf(c.Chain)),
		})
	}
	return t
}

// sizeOf returns the size of a chain's programs.
func (b *Benchmark) sizeOf(chain string) (size int64) {
	for _, c := range b.Chains {
		for _, p := range c.Plugins {
			if c.Name == chain {
				size += p.SizeBytes
			}
		}
	}
	return size
}

// shares has where the time of a call goes.
func (b *Benchmark) shares() Table {
	t := Table{
		Title: "Where the time of a call goes",
		Note: "Medians of calls under the tracer, which stops them at some system calls: shares, not times to " +
			"compare with those above. Until main: the program is loaded and its runtime starts, until it reads its " +
			"configuration. Netlink asleep: the kernel waits in a netlink call, for RCU or for the RTNL lock. A wait " +
			"for a processor counts where it happens.",
		Header: []string{"chain", "verb"},
	}
	var names []string
	for _, c := range b.Costs {
		for _, s := range c.Shares {
			if !slices.Contains(names, s.What) {
				names = append(names, s.What)
			}
		}
	}
	t.Header = append(t.Header, names...)
	t.Header = append(t.Header, "all")
	for _, c := range b.Costs {
		all := 0.0
		for _, s := range c.Shares {
			all += s.Seconds
		}
		if all == 0 {
			continue
		}
		row := []string{c.Chain, c.Verb}
		if c.Callers > 1 {
			row[1] = fmt.Sprintf("%s, %d at once", c.Verb, c.Callers)
		}
		for _, name := range names {
			text := dash
			for _, s := range c.Shares {
				if s.What == name && s.Seconds > 0 {
					text = fmt.Sprintf("%.0f %%", 100*s.Seconds/all)
				}
			}
			row = append(row, text)
		}
		t.Rows = append(t.Rows, append(row, Time(all)))
	}
	return t
}

// traffic has a table for each kind of traffic.
func (b *Benchmark) traffic() (all []Table) {
	var kinds []string
	for _, t := range b.Traffic {
		if !slices.Contains(kinds, t.Kind) {
			kinds = append(kinds, t.Kind)
		}
	}
	for _, kind := range kinds {
		all = append(all, b.trafficOf(kind))
	}
	return all
}

// trafficTitle begins the title of a table of one kind of traffic.
const trafficTitle = "Traffic: "

func (b *Benchmark) trafficOf(kind string) Table {
	t := Table{
		Title: trafficTitle + kind,
		Note: "Medians with their intervals; × veth: how many times the rate of a bare veth pair between two " +
			"namespaces in the same turn.",
		Header: []string{"path", "chain", "rate", "× veth"},
	}
	var paths []string
	extra := ""
	for _, row := range b.Traffic {
		if row.Kind == kind && !slices.Contains(paths, row.Path) {
			paths = append(paths, row.Path)
		}
		switch {
		case row.Kind == kind && row.P99Seconds > 0:
			extra = "p99"
		case row.Kind == kind && row.Unit == "packets/s":
			extra = "lost"
		}
	}
	if extra != "" {
		t.Header = append(t.Header, extra)
	}
	for _, path := range paths {
		for _, row := range b.Traffic {
			if row.Kind != kind || row.Path != path {
				continue
			}
			cells := []string{path, row.Chain, Rate(row.Rate.Median, row.Unit), row.Ratio.factor()}
			switch extra {
			case "p99":
				cells = append(cells, Time(row.P99Seconds))
			case "lost":
				cells = append(cells, fmt.Sprintf("%.1f %%", 100*row.Lost))
			}
			t.Rows = append(t.Rows, cells)
		}
	}
	return t
}

// Rate returns a rate for people: "9.41 Gbit/s".
func Rate(value float64, unit string) string {
	for _, prefix := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if value >= prefix.size && (unit == "bit/s" || prefix.size == 1e3 && value >= 1e4) {
			return digits(value/prefix.size) + " " + prefix.name + unit
		}
	}
	return digits(value) + " " + unit
}
