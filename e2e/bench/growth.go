package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/calltime"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// growth is how calls of a verb of a chain changed with the attachments on the node.
type growth struct {
	// series has calls on nodes with few and with more attachments, each beside one that does nothing.
	series calltime.Series
	// factors has, for the largest number of attachments, how many times as long each call took as the one on a node
	// with few in the same round.
	most    int
	factors []float64
}

type growthKey struct {
	chain string
	verb  cni.Verb
}

// grow measures with more and more attachments on the node, as far as there is time, beside another node of the chain
// under test on which few stay. Nodes of upstream's plugins are filled as long as that costs little.
func (b *bench) grow(ctx context.Context, until time.Time) error {
	tested := b.chains[0]
	b.fillRate = b.addRate()
	var few *chain
	for _, size := range b.options.Attachments[1:] {
		if reason := b.beyond(size, until); reason != "" {
			b.miss(fmt.Sprintf("%d attachments", size), reason)
			continue
		}
		if few == nil {
			var err error
			if few, err = b.tested(ctx); err != nil {
				return err
			}
			b.spare = few
			if err := few.fill(ctx, b.options.Attachments[0], until); err != nil {
				return err
			}
		}
		chains, err := b.fill(ctx, size, until)
		if err != nil {
			return err
		}
		if tested.standing < size {
			b.miss(fmt.Sprintf("%d attachments", size), fmt.Sprintf("not reached: there were %d when the time was "+
				"over; give a longer --duration", tested.standing))
			break
		}
		chains = append(chains, few)
		b.options.Tell(fmt.Sprintf("one call at a time, with %d attachments on the node", size))
		for _, c := range chains {
			if _, err := b.cycle(ctx, c, 1); err != nil {
				return err
			}
		}
		for round := 0; round < leastRounds || round < b.most(growthRounds) && time.Now().Before(until); round++ {
			done, err := b.turn(ctx, chains, 1)
			if err != nil {
				return err
			}
			b.compare(done, tested, few, size)
		}
	}
	return nil
}

// fill attaches pods until there are as many as wanted, and returns the chains whose nodes have them.
func (b *bench) fill(ctx context.Context, size int, until time.Time) ([]*chain, error) {
	tested := b.chains[0]
	b.options.Tell(fmt.Sprintf("attaching pods until there are %d", size))
	begin, before := time.Now(), tested.standing
	// Some rounds are to follow.
	if err := tested.fill(ctx, size, until.Add(-leastRounds*b.turnTime(1))); err != nil {
		return nil, err
	}
	b.fillRate = float64(tested.standing-before) / time.Since(begin).Seconds()
	chains := []*chain{tested, b.chains[1]}
	b.chains[1].size = size
	for _, c := range b.present()[2:] {
		if b.fillTime(c, size) > time.Until(until)/10 {
			continue
		}
		if err := b.leaveOut(c, c.fill(ctx, size, until)); err != nil {
			return nil, err
		}
		if c.standing >= size {
			chains = append(chains, c)
		}
	}
	return chains, nil
}

// compare keeps a round of calls with few and with many attachments.
func (b *bench) compare(done map[*chain][]agent.RoundVerb, tested, few *chain, size int) {
	nothing, least := map[cni.Verb]time.Duration{}, map[cni.Verb]time.Duration{}
	for c, verbs := range done {
		for _, v := range verbs {
			switch {
			case c.Role == benchmark.Nothing:
				nothing[v.Verb] = wall(v)
			case c == few:
				least[v.Verb] = wall(v)
			}
		}
	}
	for _, v := range done[tested] {
		key := growthKey{tested.Name, v.Verb}
		g := b.growth[key]
		if g.most != size {
			g.most, g.factors = size, nil
		}
		g.factors = append(g.factors, float64(wall(v))/float64(least[v.Verb]))
		g.series = append(g.series,
			calltime.Sample{Present: few.size, Took: least[v.Verb], Nothing: nothing[v.Verb]},
			calltime.Sample{Present: size, Took: wall(v), Nothing: nothing[v.Verb]})
		b.growth[key] = g
	}
}

// fit returns by how much calls of a verb take longer for each attachment.
func (g growth) fit(key growthKey) benchmark.Growth {
	row := benchmark.Growth{Chain: key.chain, Verb: string(key.verb), Most: g.most, Factor: estimate(g.factors)}
	nothing := g.series.Nothing().Seconds()
	row.NothingEach, row.ErrorNothing = g.series.Growth()
	row.SecondsEach, row.ErrorSeconds = row.NothingEach*nothing, row.ErrorNothing*nothing
	return row
}

// addRate returns how many pods can be attached in a second, by what was measured.
func (b *bench) addRate() (rate float64) {
	const makeNamespace = 2 * time.Millisecond
	for key, s := range b.series {
		if key.chain != b.chains[0].Name || key.verb != cni.Add {
			continue
		}
		var wall time.Duration
		for _, w := range s.walls {
			wall += w
		}
		each := wall.Seconds()/float64(len(s.took)) + makeNamespace.Seconds()
		rate = max(rate, 1/each)
	}
	return rate
}

// fillTime estimates how long it takes to attach as many pods as wanted.
func (b *bench) fillTime(c *chain, size int) time.Duration {
	return time.Duration(float64(size-c.standing) / b.fillRate * float64(time.Second))
}

// perAttachment is more than the memory that a pod's namespace takes with the plugins' links, measured with bridge and
// ptp on Linux 6.18 (0.3 MB), and spareMemory is left to others.
const perAttachment, spareMemory = 1 << 20, 1 << 30

// beyond says why a number of attachments is out of reach; empty if it is not.
func (b *bench) beyond(size int, until time.Time) string {
	tested := b.chains[0]
	more := size - tested.standing
	if room := tested.room() - 1; more > room {
		return fmt.Sprintf("not reached: the conflist has addresses for %d pods on a node; give it a larger range",
			tested.node.PoolSize)
	}
	if free := availableMemory(); free > 0 && free < int64(more)*perAttachment+spareMemory {
		return fmt.Sprintf("not reached: it takes about %d MB of memory, and %d MB are free", more*perAttachment>>20,
			free>>20)
	}
	// The rate falls where calls grow.
	if need, left := b.fillTime(tested, size)*3/2, max(0, time.Until(until)); need >= left {
		return fmt.Sprintf("not reached: it takes about %s to attach so many, and %s were left; give a longer "+
			"--duration", need.Round(time.Second), left.Round(time.Second))
	}
	return ""
}
