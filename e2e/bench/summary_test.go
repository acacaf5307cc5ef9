package bench

import (
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

func TestEstimate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   benchmark.Estimate
	}{
		{"none", nil, benchmark.Estimate{}},
		{"one", []float64{3}, benchmark.Estimate{Median: 3, Low: 3, High: 3}},
		{"too few for an interval", []float64{4, 1, 2, 3, 5}, benchmark.Estimate{Median: 3, Low: 1, High: 5}},
		// Of six, the true median is below the smallest or above the largest with a probability of 2 · 2^-6 = 3 %.
		{"six", []float64{6, 1, 2, 3, 4, 5}, benchmark.Estimate{Median: 3.5, Low: 1, High: 6}},
		// Of eleven, it is between the second and the ninth one with 96 % (binomial distribution with p = 1/2).
		{
			"eleven",
			[]float64{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1},
			benchmark.Estimate{Median: 6, Low: 2, High: 9},
		},
		{"an outlier", []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 900}, benchmark.Estimate{Median: 1, Low: 1, High: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, estimate(tt.values)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// made returns a benchmark with calls that were made up: alone, and eight at once.
func made(alone, together, cpu time.Duration) *bench {
	const milli = time.Millisecond
	b := &bench{
		options: Options{Callers: []int{8}, Attachments: []int{10}}, doc: &benchmark.Benchmark{},
		series: map[seriesKey]samples{}, growth: map[growthKey]growth{},
		chains: []*chain{
			{Chain: benchmark.Chain{Name: "mine", Role: benchmark.Tested}, verbs: []cni.Verb{cni.Add}},
			{Chain: benchmark.Chain{Name: "noop", Role: benchmark.Nothing}, verbs: []cni.Verb{cni.Add}},
		},
	}
	add := func(name string, callers int, took, wall, nothing, cpu time.Duration) {
		s := samples{}
		for range 10 {
			for range callers {
				s.took, s.cpu = append(s.took, took), append(s.cpu, cpu)
			}
			s.walls, s.nothing = append(s.walls, wall), append(s.nothing, nothing)
		}
		b.series[seriesKey{name, cni.Add, 10, callers}] = s
	}
	add("noop", 1, 2*milli, 2*milli, 2*milli, milli)
	add("noop", 8, 8*milli, 8*milli, 8*milli, milli*time.Duration(runtime.NumCPU()))
	add("mine", 1, alone, alone, 2*milli, cpu)
	add("mine", 8, together, together, 8*milli, cpu)
	return b
}

func TestLockFindings(t *testing.T) {
	const milli = time.Millisecond
	for _, tt := range []struct {
		name                 string
		alone, together, cpu time.Duration
		want                 string
	}{
		{
			"a lock held throughout", 300 * milli, 2400 * milli, 10 * milli,
			"ADD does not run beside itself: 8 at once take 1.00 times as long as 8 one after the other, and the processors " +
				"were idle, so each holds the others up for about 300 ms, as with a lock.",
		},
		{"no lock", 300 * milli, 320 * milli, 10 * milli, ""},
		{"work that keeps the processors busy", 10 * milli, 80 * milli, 10 * milli * time.Duration(runtime.NumCPU()), ""},
		{"a lock held for a moment", 10 * milli, 45 * milli, 5 * milli, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := made(tt.alone, tt.together, tt.cpu)
			b.summarize()
			if got := strings.Join(b.doc.Findings, "\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLockFindings_beside is about calls that wait for each other for a part of their time: only chains beside them
// tell whether that is the machine's doing.
func TestLockFindings_beside(t *testing.T) {
	const milli = time.Millisecond
	for _, tt := range []struct {
		name     string
		together time.Duration // of the other chain, whose calls take 25 ms alone
		want     int
	}{
		{"others overlap", 60 * milli, 1}, {"others do not either", 190 * milli, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := made(25*milli, 200*milli, 10*milli*time.Duration(runtime.NumCPU())/2)
			b.chains = append(b.chains, &chain{
				Chain: benchmark.Chain{Name: "upstream's", Role: benchmark.Beside}, verbs: []cni.Verb{cni.Add},
			})
			for callers, wall := range map[int]time.Duration{1: 25 * milli, 8: tt.together} {
				s := samples{}
				for range 10 {
					for range callers {
						s.took, s.cpu = append(s.took, wall), append(s.cpu, 10*milli*time.Duration(runtime.NumCPU())/2)
					}
					s.walls, s.nothing = append(s.walls, wall), append(s.nothing, milli)
				}
				b.series[seriesKey{"upstream's", cni.Add, 10, callers}] = s
			}
			b.summarize()
			if got := len(b.doc.Findings); got != tt.want {
				t.Errorf("got findings %q, want %d", b.doc.Findings, tt.want)
			}
		})
	}
}

func TestGrowthFindings(t *testing.T) {
	const milli = time.Millisecond
	for _, tt := range []struct {
		name string
		// each is added for an attachment, noise to every second call.
		each, noise time.Duration
		want        string
	}{
		{"grows", milli, 0, "ADD takes 1.00 ms ± 0.00 ns longer for each attachment on the node: with 100 " +
			"attachments 5.5 times as long as with 10."},
		{"stays", 0, 0, ""},
		{"noise alone", 0, 30 * milli, ""},
		{"grows a little", 20 * time.Microsecond, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := made(20*milli, 40*milli, milli)
			g := growth{most: 100}
			for i := range 20 {
				extra := time.Duration(i%2) * tt.noise
				took := func(present int) time.Duration {
					return 10*milli + time.Duration(present)*tt.each + extra
				}
				g.series = append(g.series, calltime.Sample{Present: 10, Took: took(10), Nothing: 2 * milli},
					calltime.Sample{Present: 100, Took: took(100), Nothing: 2 * milli})
				g.factors = append(g.factors, float64(took(100))/float64(took(10)))
			}
			b.growth[growthKey{"mine", cni.Add}] = g
			b.summarize()
			if diff := cmp.Diff(tt.want, strings.Join(b.doc.Findings, "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			want := tt.each.Seconds()
			if got := b.doc.Growth[0].SecondsEach; math.Abs(got-want) > want/100+1e-9 {
				t.Errorf("got a slope of %g, want %g", got, want)
			}
		})
	}
}

// TestRow wants ratios of calls of the same round, whatever the machine did in other rounds.
func TestRow(t *testing.T) {
	s := samples{}
	for i := 1; i <= 11; i++ {
		slow := time.Duration(i) * time.Millisecond
		s.took, s.walls = append(s.took, 5*slow), append(s.walls, 5*slow)
		s.cpu, s.nothing = append(s.cpu, slow), append(s.nothing, slow)
	}
	got := s.row(seriesKey{"mine", cni.Del, 10, 1}, false)
	want := benchmark.Call{
		Chain: "mine", Verb: "DEL", Attachments: 10, Callers: 1, Count: 11, P99Seconds: 0.055, PerSecond: 1 / 0.03,
		Seconds:    benchmark.Estimate{Median: 0.03, Low: 0.01, High: 0.045},
		CPUSeconds: benchmark.Estimate{Median: 0.006, Low: 0.002, High: 0.009},
		Ratio:      &benchmark.Estimate{Median: 5, Low: 5, High: 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := s.row(seriesKey{"noop", cni.Del, 10, 1}, true); got.Ratio != nil {
		t.Errorf("of noop: got a ratio %v, want none", got.Ratio)
	}
}
