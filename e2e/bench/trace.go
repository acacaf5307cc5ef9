package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

const (
	// countedCalls are counted of each verb: a number of system calls differs by a few only, with what the runtime of
	// Go does at times. clockedCalls are clocked at least, mostClocked at most.
	countedCalls, clockedCalls, mostClocked = 3, 3, 15
	// crowd is how many calls are made at once beside the one that is clocked, to see a lock.
	crowd = 7
)

// trace measures calls under the tracer: what they ask for, and where their time goes.
func (b *bench) trace(ctx context.Context, until time.Time) error {
	if reason, err := b.chains[0].node.Agent.CanTrace(ctx); err != nil || reason != "" {
		b.miss("system calls, netlink messages, memory, and where the time goes", reason)
		return err
	}
	const least = 2 * time.Second
	if left := b.left(); left < least {
		b.miss("system calls, netlink messages, memory, and where the time goes", fmt.Sprintf("not reached: it takes "+
			"some seconds, and %s were left; give a longer --duration", left.Round(100*time.Millisecond)))
		return nil
	}
	b.options.Tell("calls under the tracer")
	traced := map[*chain]map[cni.Verb]*tally{}
	for _, c := range b.present() {
		traced[c] = map[cni.Verb]*tally{}
		for _, verb := range c.verbs {
			traced[c][verb] = &tally{}
		}
	}
	for round := 0; round < countedCalls+clockedCalls ||
		round < countedCalls+b.most(mostClocked) && time.Now().Before(until); round++ {
		for _, c := range b.present() {
			if err := c.traceCycle(ctx, traced[c], round < countedCalls); err != nil {
				return err
			}
		}
	}
	for _, c := range b.present() {
		for _, verb := range c.verbs {
			b.doc.Costs = append(b.doc.Costs, traced[c][verb].row(c.Name, verb, 1))
		}
	}
	return b.traceCrowd(ctx, until)
}

// traceCrowd clocks an ADD of each chain beside others.
func (b *bench) traceCrowd(ctx context.Context, until time.Time) error {
	for _, c := range b.present() {
		if c.room() < crowd+1 {
			continue
		}
		t := &tally{}
		for round := 0; round == 0 || round < b.most(mostClocked) && time.Now().Before(until); round++ {
			if err := c.traceBeside(ctx, t); err != nil {
				return err
			}
		}
		b.doc.Costs = append(b.doc.Costs, t.row(c.Name, cni.Add, crowd+1))
	}
	return nil
}

// request returns a verb for a pod.
func (c *chain) request(verb cni.Verb, p agent.RoundPod) cni.Request {
	return cni.Request{
		Verb: verb, Conflist: c.conflist, BinDirs: c.binDirs, ContainerID: p.ContainerID, Netns: p.Netns,
		IfName: p.IfName, Args: p.Args, CapabilityArgs: p.CapabilityArgs,
	}
}

// traceCycle traces each verb for a pod.
func (c *chain) traceCycle(ctx context.Context, into map[cni.Verb]*tally, count bool) error {
	p := c.pod(c.namespaces[0])
	defer c.giveBack([]agent.RoundPod{p})
	for _, verb := range c.verbs {
		if err := c.traceCall(ctx, into[verb], c.request(verb, p), count); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) traceCall(ctx context.Context, into *tally, req cni.Request, count bool) error {
	reply, err := c.node.Agent.MeasureCNI(ctx, agent.CostArgs{Request: req, Count: count})
	if err != nil {
		return err
	}
	if err := reply.Outcome.Err(); err != nil {
		return &CallError{c.Name, fmt.Errorf("%s under the tracer: %w", req.Verb, err)}
	}
	into.add(reply.Costs, count)
	return nil
}

// traceBeside clocks an ADD while as many others as a crowd begin at the same time.
func (c *chain) traceBeside(ctx context.Context, into *tally) error {
	if err := c.prepare(ctx, crowd+1); err != nil {
		return err
	}
	p := c.pod(c.namespaces[crowd])
	defer c.giveBack([]agent.RoundPod{p})
	var group errgroup.Group
	group.Go(func() error {
		_, err := c.cycleOf(ctx, crowd, cni.Add, cni.Del)
		return err
	})
	err := c.traceCall(ctx, into, c.request(cni.Add, p), false)
	if err == nil {
		_, err = c.round(ctx, []agent.RoundPod{p}, 1, cni.Del)
	}
	return errors.Join(err, group.Wait())
}

// tally adds up what traced calls of one verb cost.
type tally struct {
	counted [][]fault.Costs
	times   []map[fault.Work]time.Duration
}

func (t *tally) add(plugins []fault.Costs, count bool) {
	if count {
		t.counted = append(t.counted, plugins)
		return
	}
	sum := map[fault.Work]time.Duration{}
	for _, p := range plugins {
		for work, took := range p.Times {
			sum[work] += took
		}
	}
	t.times = append(t.times, sum)
}

// row returns the medians.
func (t *tally) row(chain string, verb cni.Verb, callers int) benchmark.Cost {
	median := func(of func(fault.Costs) int64, join func(a, b int64) int64) int64 {
		var values []float64
		for _, plugins := range t.counted {
			var all int64
			for _, p := range plugins {
				all = join(all, of(p))
			}
			values = append(values, float64(all))
		}
		return int64(estimate(values).Median)
	}
	add := func(a, b int64) int64 { return a + b }
	row := benchmark.Cost{
		Chain: chain, Verb: string(verb), Callers: callers, Calls: len(t.counted) + len(t.times),
		SystemCalls: int(median(func(c fault.Costs) int64 { return int64(c.SystemCalls) }, add)),
		NetlinkSent: int(median(func(c fault.Costs) int64 { return int64(c.NetlinkSent) }, add)),
		DumpBytes:   median(func(c fault.Costs) int64 { return c.DumpBytes }, add),
		Programs:    int(median(func(c fault.Costs) int64 { return int64(c.Programs) }, add)),
		PeakBytes: median(func(c fault.Costs) int64 { return c.PeakBytes }, func(a, b int64) int64 {
			return max(a, b)
		}),
		Shares: []benchmark.Share{},
	}
	for _, work := range fault.Works() {
		var values []float64
		for _, times := range t.times {
			values = append(values, times[work].Seconds())
		}
		row.Shares = append(row.Shares, benchmark.Share{
			What: string(work), Seconds: estimate(values).Median,
		})
	}
	return row
}
