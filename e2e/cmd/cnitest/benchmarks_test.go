package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// TestBenchmarks checks that the tables of e2e/reports and of the repository agree with the benchmarks there, and that
// this version could have written them.
func TestBenchmarks(t *testing.T) {
	const dir = "../../reports"
	readmes := []struct{ path, toReports, table string }{
		{path: dir + "/README.md"},
		{path: "../../../README.md", toReports: "e2e/reports/"},
	}
	files, err := filepath.Glob(dir + "/bench-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("want benchmarks, got %v, %v", files, err)
	}
	for i, file := range files {
		b, err := benchmark.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		for r := range readmes {
			if i == 0 {
				readmes[r].table += noopRow(b)
			}
			readmes[r].table += benchmarkRow(readmes[r].toReports+name, b)
		}
		for _, ending := range []string{".html", ".md"} {
			if _, err := os.Stat(filepath.Join(dir, name+ending)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, readme := range readmes {
		checkGenerated(t, readme.path, "bench", "bench", "| chain | ADD (× noop) | CHECK (× noop) | DEL (× noop) | "+
			"ADDs a second, 64 at once | ADD with many attachments | netlink messages, system calls, dumped bytes of "+
			"ADD | pages |\n|---|---|---|---|---|---|---|---|\n"+readme.table)
	}
}

// noopRow is the row of the chain that does nothing.
func noopRow(b *benchmark.Benchmark) string {
	for _, c := range b.Chains {
		if c.Role == benchmark.Nothing {
			return benchmarkCells(c.Name, c.Name, b) + "–, – | |\n"
		}
	}
	return ""
}

// benchmarkRow is the row of the chain under test. It names the pages without their endings.
func benchmarkRow(pages string, b *benchmark.Benchmark) string {
	row := benchmarkCells(b.Chain().Name, "**"+b.Chain().Name+"**", b)
	for _, c := range b.Costs {
		if c.Chain == b.Chain().Name && c.Verb == "ADD" && c.Callers == 1 {
			row += fmt.Sprintf("%d, %d, %d", c.NetlinkSent, c.SystemCalls, c.DumpBytes)
		}
	}
	return fmt.Sprintf("%s | [html](%s.html) [md](%s.md) [json](%s.json) |\n", row, pages, pages, pages)
}

// benchmarkCells are the cells about the calls of a chain.
func benchmarkCells(chain, name string, b *benchmark.Benchmark) string {
	row := "| " + name + " |"
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		c := b.Call(chain, verb, b.Fewest(), 1)
		switch {
		case c == nil:
			row += " – |"
		case c.Ratio == nil:
			row += " " + benchmark.Time(c.Seconds.Median) + " |"
		default:
			row += fmt.Sprintf(" %s (%.1f) |", benchmark.Time(c.Seconds.Median), c.Ratio.Median)
		}
	}
	if c := b.Call(chain, "ADD", b.Fewest(), 64); c != nil {
		row += fmt.Sprintf(" %.0f |", c.PerSecond)
	} else {
		row += " – |"
	}
	for _, g := range b.Growth {
		if g.Chain == chain && g.Verb == "ADD" {
			return row + fmt.Sprintf(" %d: %.1f times as long | ", g.Most, g.Factor.Median)
		}
	}
	return row + " – | "
}
