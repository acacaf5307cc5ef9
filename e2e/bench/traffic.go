package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

const (
	loadPort = 9200
	// Each kind of traffic on each path runs so long at a time, at least and at most, and is measured wantRepeats times
	// at least if there is time.
	leastLoad, mostLoad = 40 * time.Millisecond, time.Second
	wantRepeats         = 3
	// leastSite is how long it takes to make the nodes and their pods, on a machine that is not busy.
	leastSite = time.Second
	// bareName is the chain that stands for the pair of veth links between two namespaces that no plugin made.
	bareName = "bare veth pair"
)

// path is from where to where traffic goes: names of spots.
type path struct{ name, from, to string }

// paths are those that are measured; spots that a site does not have are left out.
func paths() []path {
	return []path{
		{"node to pod", "node", "pod"},
		{"pod to node", "pod", "node"},
		{"pod to pod, one node", "pod", "other"},
		{"pod to pod, two nodes", "pod", "far"},
		{"pod to service", "pod", "service"},
	}
}

// kind is a kind of traffic with its name and the unit of its rate.
type kind struct {
	kind       probe.LoadKind
	name, unit string
}

func kinds() []kind {
	return []kind{
		{probe.Stream, "TCP throughput", "bit/s"},
		{probe.Exchanges, "TCP request and response", "exchanges/s"},
		{probe.Connections, "TCP connections", "connections/s"},
		{probe.Packets, "UDP packets", "packets/s"},
	}
}

// trafficKey names a series of measured loads.
type trafficKey struct {
	chain, path string
	kind        probe.LoadKind
}

// loads are the results of one series, and the rate of the bare pair in the same turn.
type loads struct {
	results []probe.LoadResult
	bare    []float64
}

// carry measures traffic between pods and nodes, on a cluster of two nodes for each chain.
func (b *bench) carry(ctx context.Context, until time.Time) error {
	if !b.options.Traffic {
		b.miss("traffic", "left out with --datapath=false")
		return nil
	}
	if left := b.left(); left < leastSite {
		b.miss("traffic", fmt.Sprintf("not reached: it takes some seconds, and %s were left; give a longer --duration",
			left.Round(100*time.Millisecond)))
		return nil
	}
	b.options.Tell("two nodes for each chain, with pods on them")
	sites, err := b.openSites(ctx)
	defer func() {
		for _, s := range sites {
			s.close()
		}
	}()
	if err != nil {
		return err
	}
	count := 0
	for _, s := range sites {
		count += len(s.paths)
	}
	bare := sites[0]
	// For each path of each chain the bare pair is not measured again, but once in each turn.
	count = (count + len(paths())) * len(kinds())
	each := min(max(time.Until(until)/time.Duration(count*wantRepeats), leastLoad), mostLoad)
	turn := time.Duration(count) * each
	if left := b.left(); turn > left {
		b.miss("traffic", fmt.Sprintf("not reached: it takes %s, and %s were left; give a longer --duration",
			turn.Round(time.Second), left.Round(time.Second)))
		return nil
	}
	measured := map[trafficKey]*loads{}
	for repeat := 0; repeat == 0 || time.Now().Add(turn).Before(until); repeat++ {
		b.options.Tell(fmt.Sprintf("traffic, turn %d: %d loads of %s", repeat+1, count, each.Round(time.Millisecond)))
		for _, p := range paths() {
			for _, k := range kinds() {
				if err := b.loadInTurn(ctx, measured, bare, sites[1:], p, k, each); err != nil {
					return err
				}
			}
		}
	}
	b.trafficRows(sites, measured)
	return b.crossCheck(ctx, sites)
}

// loadInTurn measures one kind of traffic on one path of all chains, and on the bare pair.
func (b *bench) loadInTurn(ctx context.Context, measured map[trafficKey]*loads, bare *site, sites []*site, p path,
	k kind, each time.Duration,
) error {
	spec := probe.LoadSpec{Kind: k.kind, Port: loadPort, For: each}
	base, err := bare.load(ctx, bare.paths[0], spec)
	if err != nil {
		return err
	}
	keep := func(key trafficKey, r probe.LoadResult) {
		l := measured[key]
		if l == nil {
			l = &loads{}
			measured[key] = l
		}
		l.results, l.bare = append(l.results, r), append(l.bare, base.Rate)
	}
	keep(trafficKey{bareName, bare.paths[0].name, k.kind}, base)
	for _, s := range sites {
		if !s.has(p) {
			continue
		}
		r, err := s.load(ctx, p, spec)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			// The path carries some traffic, so it is worth telling which it does not.
			b.missOnce(fmt.Sprintf("%s of %s, %s", k.name, s.name, p.name), err.Error())
		default:
			keep(trafficKey{s.name, p.name, k.kind}, r)
		}
	}
	return nil
}

func (b *bench) missOnce(what, why string) {
	for _, m := range b.doc.Missing {
		if m.What == what {
			return
		}
	}
	b.miss(what, why)
}

// load sends along a path.
func (s *site) load(ctx context.Context, p path, spec probe.LoadSpec) (probe.LoadResult, error) {
	from, to := s.spots[p.from], s.spots[p.to]
	spec.To = to.address.String()
	return from.agent.Load(ctx, agent.LoadArgs{Netns: from.netns, Spec: spec})
}

// trafficRows puts the loads into the document.
func (b *bench) trafficRows(sites []*site, measured map[trafficKey]*loads) {
	for _, k := range kinds() {
		for _, s := range sites {
			for _, p := range s.paths {
				l := measured[trafficKey{s.name, p.name, k.kind}]
				if l == nil {
					continue
				}
				var rates, p99s, lost, ratios []float64
				for i, r := range l.results {
					rates, p99s, lost = append(rates, r.Rate), append(p99s, r.P99.Seconds()), append(lost, r.Lost)
					if l.bare[i] > 0 {
						ratios = append(ratios, r.Rate/l.bare[i])
					}
				}
				row := benchmark.Traffic{
					Chain: s.name, Path: p.name, Kind: k.name, Unit: k.unit, Repeats: len(rates),
					Rate: estimate(rates), P99Seconds: estimate(p99s).Median, Lost: estimate(lost).Median,
				}
				if s.name != bareName && len(ratios) > 0 {
					ratio := estimate(ratios)
					row.Ratio = &ratio
				}
				b.doc.Traffic = append(b.doc.Traffic, row)
			}
		}
	}
}

// try finds out which paths of a site carry traffic; the others are missing, with the reason.
func (b *bench) try(ctx context.Context, s *site) error {
	for _, p := range paths() {
		from, to := s.spots[p.from], s.spots[p.to]
		if from.agent == nil || !to.address.IsValid() {
			continue
		}
		result, err := from.agent.Probe(ctx, from.netns, probe.Spec{
			Protocol: probe.TCP, To: to.address.String(), Port: probePort, Within: 3 * time.Second,
		})
		if err != nil {
			return err
		}
		if !result.OK {
			b.miss(fmt.Sprintf("traffic of %s, %s", s.name, p.name), result.Error)
			continue
		}
		s.paths = append(s.paths, p)
	}
	return nil
}

// addressOf returns the address to which traffic for a spot goes: the IPv4 one, if it has one.
func addressOf(addresses []netip.Addr) (netip.Addr, error) {
	for _, a := range addresses {
		if a.Is4() {
			return a, nil
		}
	}
	if len(addresses) == 0 {
		return netip.Addr{}, errors.New("the result of ADD has no address")
	}
	return addresses[0], nil
}
