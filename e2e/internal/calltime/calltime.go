// Package calltime measures how long the calls of plugins took: all calls of a run, and those of a series in which each
// call is preceded by a call of a plugin that does nothing. Only the ratios of such a series decide anything, since a
// busy machine slows both.
//
// Run its tests: go test ./e2e/internal/calltime
package calltime

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
)

// Key identifies a verb of a plugin.
type Key struct {
	Plugin string
	Verb   cni.Verb
}

// Recorder records how long calls took. The zero value is ready. Its methods may be called concurrently, and on nil.
type Recorder struct {
	mu   sync.Mutex
	took map[Key][]time.Duration
}

// Keep adds a call, unless it failed: the time until a failure says nothing about the work.
func (r *Recorder) Keep(call cni.Call) {
	if r == nil || call.Failed() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.took == nil {
		r.took = map[Key][]time.Duration{}
	}
	key := Key{call.Plugin, call.Verb}
	r.took[key] = append(r.took[key], call.Duration)
}

// Table returns a row for each verb of each plugin, with the results of a series of its calls if there was one.
func (r *Recorder) Table(plugins []string, series func(Key) Series) []report.CallTime {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rows []report.CallTime
	for _, plugin := range plugins {
		for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del, cni.GC, cni.Status} {
			took := slices.Sorted(slices.Values(r.took[Key{plugin, verb}]))
			if len(took) == 0 {
				continue
			}
			row := report.CallTime{
				Plugin: plugin, Verb: string(verb), Calls: len(took),
				MedianSeconds: Quantile(took, 0.5).Seconds(), P99Seconds: Quantile(took, 0.99).Seconds(),
			}
			if s := series(Key{plugin, verb}); len(s) > 0 {
				row.Paired = &report.PairedTime{Ratio: s.Ratio()}
				if growth, uncertainty := s.Growth(); !math.IsInf(uncertainty, 1) {
					nothing := s.Nothing().Seconds()
					row.Paired.Growth = &report.Growth{Seconds: growth * nothing, ErrorSeconds: uncertainty * nothing}
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// Quantile returns a quantile of sorted values, of which there is one at least: 0.5 is the median.
func Quantile[T cmp.Ordered](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// Sample is a call, together with one of a plugin that does nothing.
type Sample struct {
	// Present is the number of attachments that were on the node already.
	Present int
	// Took is the time of the call, Nothing that of the plugin that does nothing.
	Took, Nothing time.Duration
}

// Series contains the calls of one verb of one plugin in the order in which they were made.
type Series []Sample

func (s Series) sorted(of func(Sample) time.Duration) []time.Duration {
	times := make([]time.Duration, len(s))
	for i, sample := range s {
		times[i] = of(sample)
	}
	slices.Sort(times)
	return times
}

// Quickest returns the time of the shortest call, which other work of the machine slowed least.
func (s Series) Quickest() time.Duration {
	return slices.MinFunc(s, func(a, b Sample) int { return cmp.Compare(a.Took, b.Took) }).Took
}

// Nothing returns the median of the plugin that does nothing.
func (s Series) Nothing() time.Duration {
	return Quantile(s.sorted(func(s Sample) time.Duration { return s.Nothing }), 0.5)
}

// Ratio returns the ratio of the quickest calls. In a run that uses all processors half of the calls wait for one, for
// longer than a plugin that does nothing takes: the ratio of the medians was 4.0 in one run and 0.9 in the next.
func (s Series) Ratio() float64 {
	nothing := s.sorted(func(s Sample) time.Duration { return s.Nothing })
	return float64(s.Quickest()) / float64(nothing[0])
}

// Growth returns how much longer a call takes for each attachment that is present, in units of the time that a plugin
// that does nothing takes, with its standard error. It is the slope of the line of least squares, after removing the
// part that varies with the plugin that does nothing, since that is caused by the machine. Fewer than eight calls are
// not enough.
func (s Series) Growth() (slope, uncertainty float64) {
	if len(s) < 8 {
		return 0, math.Inf(1)
	}
	took, present, load := make([]float64, len(s)), make([]float64, len(s)), make([]float64, len(s))
	nothing := float64(s.Nothing())
	for i, sample := range s {
		took[i], present[i] = float64(sample.Took)/nothing, float64(sample.Present)
		// Use the median of three neighbours: a plugin that does nothing is quick, and sometimes disturbed.
		load[i] = float64(s[max(0, i-1):min(len(s), i+2)].Nothing())
	}
	load, _ = residuals(load, make([]float64, len(s)))
	took, _ = residuals(took, load)
	present, _ = residuals(present, load)
	took, slope = residuals(took, present)
	square := func(v []float64) (sum float64) {
		for _, x := range v {
			sum += x * x
		}
		return sum
	}
	if square(present) < 1e-9 {
		return 0, math.Inf(1)
	}
	return slope, math.Sqrt(square(took) / float64(len(s)-3) / square(present))
}

// residuals returns the slope of the line of least squares through y over x, whose mean is 0, and the distances of y
// from it.
func residuals(y, x []float64) (rest []float64, slope float64) {
	var mean, xx, xy float64
	for i := range y {
		mean += y[i] / float64(len(y))
	}
	for i := range y {
		xx += x[i] * x[i]
		xy += x[i] * (y[i] - mean)
	}
	if xx > 0 {
		slope = xy / xx
	}
	for i := range y {
		rest = append(rest, y[i]-mean-slope*x[i])
	}
	return rest, slope
}
