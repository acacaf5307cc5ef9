package bench

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// confidence is that of all intervals.
const confidence = 0.95

// estimate returns the median of values with its interval, by order statistics, which assume nothing of how the values
// are distributed.
func estimate(values []float64) benchmark.Estimate {
	if len(values) == 0 {
		return benchmark.Estimate{}
	}
	sample := benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
	s := benchmath.AssumeNothing.Summary(sample, confidence)
	e := benchmark.Estimate{Median: s.Center, Low: s.Lo, High: s.Hi}
	if math.IsInf(e.Low, 0) || math.IsInf(e.High, 0) {
		e.Low, e.High = sample.Values[0], sample.Values[len(sample.Values)-1]
	}
	return e
}

func seconds(times []time.Duration) []float64 {
	values := make([]float64, len(times))
	for i, t := range times {
		values[i] = t.Seconds()
	}
	return values
}

// ratios divides pairwise; pairs without a divisor are left out.
func ratios(times, by []time.Duration) (values []float64) {
	for i, t := range times {
		if by[i] > 0 {
			values = append(values, float64(t)/float64(by[i]))
		}
	}
	return values
}

// row summarizes a series.
func (s samples) row(key seriesKey, nothing bool) benchmark.Call {
	took := seconds(s.took)
	c := benchmark.Call{
		Chain: key.chain, Verb: string(key.verb), Attachments: key.attachments, Callers: key.callers, Count: len(took),
		Seconds: estimate(took), CPUSeconds: estimate(seconds(s.cpu)),
		P99Seconds: calltime.Quantile(slices.Sorted(slices.Values(took)), 0.99),
		PerSecond:  float64(key.callers) / estimate(seconds(s.walls)).Median,
	}
	if values := ratios(s.walls, s.nothing); !nothing && len(values) > 0 {
		e := estimate(values)
		c.Ratio = &e
	}
	return c
}

// summarize puts what was measured into the document.
func (b *bench) summarize() {
	for _, c := range b.chains {
		for _, verb := range c.verbs {
			for _, size := range b.options.Attachments {
				for _, callers := range append([]int{1}, b.options.Callers...) {
					key := seriesKey{c.Name, verb, size, callers}
					s, measured := b.series[key]
					known := b.doc.Call(c.Name, string(verb), size, callers) != nil
					if measured && !known {
						b.doc.Calls = append(b.doc.Calls, s.row(key, c.Role == benchmark.Nothing))
					}
				}
			}
			key := growthKey{c.Name, verb}
			if g, measured := b.growth[key]; measured {
				b.doc.Growth = append(b.doc.Growth, g.fit(key))
			}
		}
	}
	if len(b.chains) > 1 {
		b.doc.Findings = append(b.growthFindings(), b.lockFindings()...)
	}
}

const (
	// Calls grow if the slope is so many standard errors, if with most attachments they take growthFactor times as long
	// as with few, in the same rounds, and if the interval of that stays above growthLow.
	slopeErrors, growthFactor, growthLow = 4, 1.2, 1.1
	// Calls that are made at once wait for each other if all of them take more than inLine of the time that they take
	// one after the other, while they use less than idle of the part of the processors' time that the chain that does
	// nothing uses in the same rounds: who waits for a processor waits for no lock, and on a busy machine nobody gets
	// all of them.
	inLine, idle = 0.9, 0.15
	// It is enough too if each of upstream's chains takes less than overlaps of that time, and one of them uses more
	// than moreBusy times as much of the processors: then it is not the machine, whose other programs hold locks of
	// the kernel.
	overlaps, moreBusy = 0.7, 2
)

// growthFindings says which verbs slow down with the attachments on the node.
func (b *bench) growthFindings() []string {
	list := []string{}
	for _, g := range b.doc.Growth {
		if g.NothingEach > slopeErrors*g.ErrorNothing && g.Factor.Median > growthFactor && g.Factor.Low > growthLow {
			list = append(list, fmt.Sprintf("%s takes %s ± %s longer for each attachment on the node: with %d "+
				"attachments %.1f times as long as with %d.", g.Verb, benchmark.Time(g.SecondsEach),
				benchmark.Time(g.ErrorSeconds), g.Most, g.Factor.Median, b.options.Attachments[0]))
		}
	}
	return list
}

// lockFindings says which verbs run one after the other although they are called at the same time.
func (b *bench) lockFindings() []string {
	list, first, name := []string{}, b.options.Attachments[0], b.chains[0].Name
	for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
		for _, callers := range slices.Backward(b.options.Callers) {
			alone, many := b.doc.Call(name, string(verb), first, 1), b.doc.Call(name, string(verb), first, callers)
			rounds := len(b.series[seriesKey{name, verb, first, callers}].walls)
			if callers < 4 || alone == nil || many == nil || rounds < lockRounds {
				continue
			}
			each := 1 / many.PerSecond
			share := each / alone.Seconds.Median
			own, nothing := b.busy(name, verb, callers), b.busy(b.chains[1].Name, verb, callers)
			if share > inLine && (own < idle*nothing || b.othersOverlap(verb, callers, own)) {
				list = append(list, fmt.Sprintf("%s does not run beside itself: %d at once take %.2f times as long as "+
					"%d one after the other, and the processors were idle, so each holds the others up for about %s, "+
					"as with a lock.", verb, callers, share, callers, benchmark.Time(each)))
			}
			break
		}
	}
	return list
}

// othersOverlap reports whether calls of all chains beside the one under test run beside themselves, and use more of
// the processors.
func (b *bench) othersOverlap(verb cni.Verb, callers int, own float64) bool {
	most := 0.0
	for _, c := range b.chains[2:] {
		alone := b.doc.Call(c.Name, string(verb), b.options.Attachments[0], 1)
		many := b.doc.Call(c.Name, string(verb), b.options.Attachments[0], callers)
		if alone == nil || many == nil || 1/many.PerSecond/alone.Seconds.Median > overlaps {
			return false
		}
		most = max(most, b.busy(c.Name, verb, callers))
	}
	return most > moreBusy*own
}

// busy returns the part of the processors' time that calls of a chain used while so many were at work.
func (b *bench) busy(name string, verb cni.Verb, callers int) float64 {
	var used, wall time.Duration
	s := b.series[seriesKey{name, verb, b.options.Attachments[0], callers}]
	for _, cpu := range s.cpu {
		used += cpu
	}
	for _, w := range s.walls {
		wall += w
	}
	return float64(used) / float64(wall) / float64(min(callers, runtime.NumCPU()))
}
