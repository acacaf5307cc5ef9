package benchmark_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

func TestReadFile(t *testing.T) {
	dir, want := t.TempDir(), sample()
	if err := want.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, benchmark.JSONName)
	got, err := benchmark.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was written and what was read (-want +got):\n%s", diff)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, from, to, want string }{
		{"another kind", `"Benchmark"`, `"Report"`, `kind "Report": want Benchmark; is it a bench.json of cnitest bench?`},
		{
			"a later version", "cnitest/v1alpha1", "cnitest/v9",
			`apiVersion "cnitest/v9": want cnitest/v1alpha1; it was written by cnitest v1.2.3, whose own bench command reads it`,
		},
		{"an unknown field", `"cniVersion"`, `"version"`, `document: unknown property "version"`},
		{"a wrong role", `"noop",`, `"other",`, `chains.1.role: got "other": must be one of the following: "tested", "noop", "beside"`},
		{"cut off", "}\n", "", "want a benchmark of cnitest in JSON: line "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := bytes.Replace(whole, []byte(tt.from), []byte(tt.to), 1)
			if tt.to == "" {
				changed = whole[:len(whole)/2]
			}
			if tt.from == `"noop",` {
				changed = bytes.Replace(whole, []byte(`"role": "noop"`), []byte(`"role": "other"`), 1)
			}
			if err := os.WriteFile(path, changed, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := benchmark.ReadFile(path)
			if err == nil || !strings.HasPrefix(err.Error(), path+": "+tt.want) {
				t.Errorf("got %v, want %s: %s", err, path, tt.want)
			}
		})
	}
}

// TestSchema wants the schema to refuse what it does not know; TestReadFile has what it accepts.
func TestSchema(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(benchmark.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if schema["title"] != "Benchmark of cnitest" || schema["additionalProperties"] != false {
		t.Errorf("got %v", schema["title"])
	}
}

func TestRenderings(t *testing.T) {
	b := sample()
	var page strings.Builder
	if err := b.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"page": page.String(), "Markdown": b.Markdown()}
	wanted := []string{"macvlan + mine", "ADD takes long.", "not reached: there was no time", "a note", "net.d/10-mine.conflist"}
	for _, table := range b.Tables() {
		for _, row := range table.Rows {
			wanted = append(wanted, row...)
		}
	}
	for name, text := range texts {
		for _, want := range wanted {
			if !strings.Contains(strings.ReplaceAll(text, "&#43;", "+"), want) {
				t.Errorf("%s: got no %q", name, want)
			}
		}
		if strings.Contains(text, "<script") {
			t.Errorf("%s: got a script", name)
		}
	}
	// Alone, at once, growth, time with its legend, and three kinds of traffic.
	if got := strings.Count(page.String(), "<svg"); got != 8 {
		t.Errorf("got %d plots, want 8", got)
	}
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("got %q in the page", bad)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*benchmark.Benchmark)
		want   string
	}{
		{"the same", func(*benchmark.Benchmark) {}, "0 worse, 0 better, of 30 values\n"},
		{
			"a call that takes longer", func(b *benchmark.Benchmark) { *b.Calls[0].Ratio = exact(9) },
			"worse: ADD with 10 attachments and 1 caller, times noop: 6.00 [5.40, 6.60] -> 9.00 [8.10, 9.90]\n" +
				"1 worse, 0 better, of 30 values\n",
		},
		{
			"a machine that is slower", func(b *benchmark.Benchmark) {
				for i := range b.Calls {
					b.Calls[i].Seconds, b.Calls[i].P99Seconds = exact(1), 2
				}
			}, "0 worse, 0 better, of 30 values\n",
		},
		{
			"within the margin", func(b *benchmark.Benchmark) { *b.Calls[0].Ratio = exact(7.4) },
			"0 worse, 0 better, of 30 values\n",
		},
		{
			"beyond the margin, but uncertain", func(b *benchmark.Benchmark) {
				*b.Calls[0].Ratio = benchmark.Estimate{Median: 9, Low: 6, High: 30}
			}, "0 worse, 0 better, of 30 values\n",
		},
		{
			"more messages, less memory",
			func(b *benchmark.Benchmark) { b.Costs[2].NetlinkSent, b.Costs[2].PeakBytes = 48, 5e6 },
			"worse: DEL, netlink messages: 24 -> 48\nbetter: DEL, bytes of memory: 11000000 -> 5000000\n" +
				"1 worse, 1 better, of 30 values\n",
		},
		{
			"slower traffic", func(b *benchmark.Benchmark) { *b.Traffic[0].Ratio = exact(0.4) },
			"worse: TCP throughput, node to pod, times a bare veth pair: 0.80 [0.72, 0.88] -> 0.40 [0.36, 0.44]\n" +
				"1 worse, 0 better, of 30 values\n",
		},
		{
			"growth", func(b *benchmark.Benchmark) { b.Growth[0].Factor = exact(4) },
			"worse: ADD with 100 attachments, times that with fewest: 1.33 [1.20, 1.46] -> 4.00 [3.60, 4.40]\n" +
				"1 worse, 0 better, of 30 values\n",
		},
		{
			"another name", func(b *benchmark.Benchmark) {
				b.Chains[0].Name = "mine"
				for i := range b.Calls {
					if b.Calls[i].Chain != "noop" {
						b.Calls[i].Chain = "mine"
					}
				}
				b.Growth, b.Costs, b.Traffic = nil, nil, nil
			}, "note: the chain under test was macvlan + mine and is mine\n0 worse, 0 better, of 9 values\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after := sample()
			tt.change(after)
			d, err := benchmark.Diff(sample(), after, benchmark.DefaultMargin)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := d.Print(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	other := sample()
	other.Chains[1].Plugins[0].Type = "cnitest-ipam"
	_, err := benchmark.Diff(sample(), other, 0.1)
	want := "noop is static in the old one and cnitest-ipam in the new one, so that ratios to it differ; measure both " +
		"with the same --bin-dir"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
