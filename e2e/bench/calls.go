package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// seriesKey names calls that were made under the same conditions.
type seriesKey struct {
	chain                string
	verb                 cni.Verb
	attachments, callers int
}

// samples are the calls of one series: an entry of took and cpu for each, and an entry of walls for each round of them.
type samples struct {
	took, cpu, walls []time.Duration
	// nothing has for each round the time of the chain that does nothing, in the same way.
	nothing []time.Duration
}

const (
	// leastRounds are measured however little time there is, mostRounds however much.
	leastRounds, mostRounds = 6, 100
	// growthRounds are measured with each number of attachments, which makes the standard error of a slope small
	// enough.
	growthRounds = 30
	// Of up to cheapCallers at once lockRounds are measured at least: as many as a finding about them needs.
	cheapCallers, lockRounds = 8, 2
)

// turn measures one cycle of each chain with so many callers, and keeps the times. It returns them too.
func (b *bench) turn(ctx context.Context, chains []*chain, callers int) (map[*chain][]agent.RoundVerb, error) {
	done, nothing := map[*chain][]agent.RoundVerb{}, map[cni.Verb]time.Duration{}
	for _, c := range chains {
		verbs, err := b.cycle(ctx, c, callers)
		if err != nil {
			return nil, err
		}
		done[c] = verbs
		for _, v := range verbs {
			if c.Role == benchmark.Nothing {
				nothing[v.Verb] = wall(v)
			}
		}
	}
	for _, c := range chains {
		for _, v := range done[c] {
			key := seriesKey{c.Name, v.Verb, c.size, callers}
			s := b.series[key]
			s.took, s.cpu = append(s.took, v.Took...), append(s.cpu, v.CPU...)
			s.walls = append(s.walls, wall(v))
			s.nothing = append(s.nothing, nothing[v.Verb])
			b.series[key] = s
		}
	}
	return done, nil
}

// wall returns how long the plugins of a round were at work. Of a single call that is the time of its plugins, without
// what libcni does between them.
func wall(v agent.RoundVerb) time.Duration {
	if len(v.Took) == 1 {
		return v.Took[0]
	}
	return v.Wall
}

// most returns how many rounds to make where so many are of use.
func (b *bench) most(useful int) int {
	if b.options.Rounds > 0 {
		return min(useful, b.options.Rounds)
	}
	return useful
}

// alone measures one call after the other.
func (b *bench) alone(ctx context.Context, until time.Time) error {
	first := b.options.Attachments[0]
	b.options.Tell(fmt.Sprintf("one call at a time, %d chains in turn, with %d attachments on each node", len(b.chains),
		first))
	// What the first pod of a node makes stays, and the binaries are loaded.
	for _, c := range b.chains {
		if _, err := b.cycle(ctx, c, 1); err != nil {
			return err
		}
	}
	begin := time.Now()
	busy, known := busyTime()
	if !known {
		b.doc.Notes = append(b.doc.Notes, "The machine does not tell how busy it was.")
	}
	for round := 0; round < leastRounds || round < b.most(mostRounds) && time.Now().Before(until); round++ {
		if _, err := b.turn(ctx, b.chains, 1); err != nil {
			return err
		}
	}
	if now, still := busyTime(); known && still {
		b.noteOthers(now-busy, time.Since(begin))
	}
	return nil
}

// noteOthers says how much of the processors' time others than the plugins took while calls were made one at a time.
func (b *bench) noteOthers(busy, wall time.Duration) {
	for key, s := range b.series {
		for _, cpu := range s.cpu {
			if key.callers == 1 {
				busy -= cpu
			}
		}
	}
	share := float64(max(0, busy)) / float64(wall) / float64(runtime.NumCPU())
	b.doc.Notes = append(b.doc.Notes, fmt.Sprintf("While calls were made one at a time, other programs (cnitest "+
		"itself is one of them) used %.0f %% of the processors' time.", 100*share))
}

// together measures calls at the same time.
func (b *bench) together(ctx context.Context, until time.Time) error {
	for i, callers := range b.options.Callers {
		if callers == 1 {
			continue
		}
		if room := b.chains[0].room(); room < callers {
			b.miss(fmt.Sprintf("%d callers", callers), fmt.Sprintf("the conflist has addresses for %d more pods; give "+
				"it a larger range", room))
			continue
		}
		share := time.Until(until) / time.Duration(len(b.options.Callers)-i)
		if need, left := b.turnTime(callers), b.left(); need > left {
			b.miss(fmt.Sprintf("%d callers", callers), fmt.Sprintf("not reached: it takes about %s, and %s were left; "+
				"give a longer --duration", need.Round(time.Second), left.Round(time.Second)))
			continue
		}
		b.options.Tell(fmt.Sprintf("%d calls at once", callers))
		for _, c := range b.present() {
			if err := c.prepare(ctx, callers); err != nil {
				return err
			}
		}
		end := time.Now().Add(share)
		least := 1
		if callers <= cheapCallers {
			least = lockRounds
		}
		for round := 0; round < least || round < b.most(mostRounds) && time.Now().Before(end); round++ {
			if _, err := b.turn(ctx, b.chains, callers); err != nil {
				return err
			}
		}
	}
	return nil
}

// turnTime estimates how long one cycle of all chains takes with so many callers, of which the processors share the
// work: it cannot take longer than one after the other.
func (b *bench) turnTime(callers int) (sum time.Duration) {
	for key, s := range b.series {
		if key.callers == 1 {
			sum += time.Duration(estimate(seconds(s.took)).Median * float64(time.Second))
		}
	}
	return sum * time.Duration(callers) / time.Duration(min(callers, runtime.NumCPU()))
}
