package benchmark_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

func TestTime(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0.00 ns", 2e-9: "2.00 ns", 3.6214e-3: "3.62 ms", 0.108: "108 ms", 1.5: "1.50 s", 12.34e-6: "12.3 µs",
		-4e-6: "-4.00 µs", 1234: "1234 s",
	} {
		if got := benchmark.Time(seconds); got != want {
			t.Errorf("%g: got %q, want %q", seconds, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	for want, in := range map[string]struct {
		value float64
		unit  string
	}{
		"9.41 Gbit/s": {9.41e9, "bit/s"}, "941 Mbit/s": {941e6, "bit/s"}, "8123 exchanges/s": {8123, "exchanges/s"},
		"81.2 kexchanges/s": {81230, "exchanges/s"}, "0.00 packets/s": {0, "packets/s"},
	} {
		if got := benchmark.Rate(in.value, in.unit); got != want {
			t.Errorf("%g: got %q, want %q", in.value, got, want)
		}
	}
}

func exact(value float64) benchmark.Estimate {
	return benchmark.Estimate{Median: value, Low: 0.9 * value, High: 1.1 * value}
}

// sample returns a document with a row of everything.
func sample() *benchmark.Benchmark {
	ratio := func(value float64) *benchmark.Estimate {
		e := exact(value)
		return &e
	}
	b := &benchmark.Benchmark{
		APIVersion: benchmark.APIVersion, Kind: benchmark.Kind, Suite: report.Suite{Version: "v1.2.3"},
		Conflist: "net.d/10-mine.conflist", CNIVersion: "1.1.0",
		Started:         time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
		DurationSeconds: 100,
		Machine:         benchmark.Machine{Kernel: "6.18.5", Processor: "some", Processors: 2, MemoryBytes: 8 << 30},
		Chains: []benchmark.Chain{
			{Name: "macvlan + mine", Role: benchmark.Tested, Plugins: []benchmark.Plugin{
				{Type: "macvlan", SizeBytes: 4e6, SHA256: strings.Repeat("a", 64)},
				{Type: "mine", SizeBytes: 5e6, SHA256: strings.Repeat("b", 64)},
			}},
			{Name: "noop", Role: benchmark.Nothing, Plugins: []benchmark.Plugin{
				{Type: "static", SizeBytes: 3e6, SHA256: strings.Repeat("c", 64)},
			}},
		},
		Findings: []string{"ADD takes long."},
		Missing:  []benchmark.Missing{{What: "3000 attachments", Why: "not reached: there was no time"}},
		Notes:    []string{"a note"},
	}
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		for _, c := range []benchmark.Call{
			{Attachments: 10, Callers: 1, Seconds: exact(12e-3), Ratio: ratio(6)},
			{Attachments: 10, Callers: 8, Seconds: exact(50e-3), Ratio: ratio(7)},
			{Attachments: 100, Callers: 1, Seconds: exact(16e-3), Ratio: ratio(8)},
		} {
			c.Chain, c.Verb, c.Count, c.P99Seconds, c.PerSecond = "macvlan + mine", verb, 40, 3*c.Seconds.Median, 70
			c.CPUSeconds = exact(9e-3)
			b.Calls = append(b.Calls, c)
			c.Chain, c.Seconds, c.Ratio = "noop", exact(2e-3), nil
			b.Calls = append(b.Calls, c)
		}
		b.Growth = append(b.Growth, benchmark.Growth{
			Chain: "macvlan + mine", Verb: verb, Most: 100, SecondsEach: 40e-6, ErrorSeconds: 2e-6, NothingEach: 0.02,
			ErrorNothing: 0.001, Factor: exact(1.33),
		})
		b.Costs = append(b.Costs, benchmark.Cost{
			Chain: "macvlan + mine", Verb: verb, Callers: 1, Calls: 5, SystemCalls: 812, NetlinkSent: 24,
			DumpBytes: 4096, Programs: 3, PeakBytes: 11e6,
			Shares: []benchmark.Share{{What: "start", Seconds: 3e-3}, {What: "netlink", Seconds: 1e-3}},
		})
	}
	for _, row := range []benchmark.Traffic{
		{Kind: "TCP throughput", Rate: exact(20e9), Unit: "bit/s", Ratio: ratio(0.8)},
		{Kind: "TCP request and response", Rate: exact(30000), Unit: "exchanges/s", P99Seconds: 80e-6, Ratio: ratio(0.9)},
		{Kind: "UDP packets", Rate: exact(200000), Unit: "packets/s", Lost: 0.02, Ratio: ratio(0.7)},
	} {
		row.Chain, row.Path, row.Repeats = "macvlan + mine", "node to pod", 3
		b.Traffic = append(b.Traffic, row)
	}
	return b
}

func TestBenchmark_Print(t *testing.T) {
	var b strings.Builder
	if err := sample().Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"One call at a time, with 10 attachments on the node\n",
		"macvlan + mine  ADD    12.0 [10.8, 13.2] ms  6.00 [5.40, 6.60]  36.0 ms  9.00 ms  40",
		"ADDs at once\n", "ADD    12.0 ms (× 6.00)  16.0 ms (× 8.00)  +40.00 ± 2.00 µs  1.33 [1.20, 1.46]",
		"macvlan + mine  ADD    812           24                4.10 kB  3         11.0 MB  9.00 MB",
		"macvlan + mine  ADD    75 %   25 %     4.00 ms", "Traffic: TCP throughput\n",
		"node to pod  macvlan + mine  20.0 Gbit/s  0.80 [0.72, 0.88]", "2.0 %",
		"finding: ADD takes long.\n", "not measured: 3000 attachments: not reached: there was no time\n",
		"note: a note\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got no %q in:\n%s", want, b.String())
		}
	}
}

func TestBenchmark_Tables_leaves_out_what_was_not_measured(t *testing.T) {
	b := sample()
	b.Calls, b.Growth, b.Costs, b.Traffic = b.Calls[:2], nil, nil, nil
	var titles []string
	for _, table := range b.Tables() {
		titles = append(titles, table.Title)
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: got a row of %d, want %d: %q", table.Title, len(row), len(table.Header), row)
			}
		}
	}
	want := []string{"One call at a time, with 10 attachments on the node", "Programs"}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, table := range sample().Tables() {
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: got a row of %d, want %d: %q", table.Title, len(row), len(table.Header), row)
			}
		}
	}
}
