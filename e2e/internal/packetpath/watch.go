package packetpath

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// packetsWatched is the number of packets that are kept of each place from the start, and again from the end: a
// transfer that stalls ends with the packets that were lost.
const packetsWatched = 200

// Sighting is a packet as it passed an interface of a place.
type Sighting struct {
	Place string
	probe.Packet
}

// String returns one line: when, where, which way, the MAC addresses and the addresses.
func (s Sighting) String() string {
	direction := "in "
	if s.Outgoing {
		direction = "out"
	}
	return fmt.Sprintf("%s  %-16s %-12s %s  %s > %s  %s > %s  %s", s.Time.UTC().Format("15:04:05.000000"), s.Place,
		s.Interface, direction,
		s.SourceMAC, s.DestinationMAC, s.Source, s.Destination, s.Info)
}

// watch is a repetition of a probe during which all places on its path are watched, with what was seen there.
type watch struct {
	env *environment.Environment
	probed
	clients map[layers.TCPPort]bool // from which connections were opened since
	result  probe.Result
	seen    []Sighting // in the order in which they happened

	mu      sync.Mutex // guards watched while watching
	watched map[string]agent.Watched
}

// probed is a probe with the places on its path.
type probed struct {
	from, to *cluster.Place
	spec     probe.Spec
	local    string // the source of the requests; empty if there was no route
	places   []*cluster.Place
	ends     []string // the places at which requests arrive: to, or the endpoints of a service
	ports    []uint16 // to which requests go, translated or not
}

// repeat runs the probe and watches both ends, every node, the router and the fabric, if the backend has them.
func (w *watch) repeat(ctx context.Context) error {
	w.ends = []string{w.to.Name}
	hosts := []string{w.spec.To}
	if w.spec.Port != 0 {
		w.ports = []uint16{w.spec.Port}
	}
	w.addPlace(w.from)
	w.addPlace(w.to)
	if s := w.service(); s != nil {
		w.ends = nil
		for _, e := range w.env.EndpointsOf(s) {
			w.addPlace(e.Place)
			w.ends = append(w.ends, e.Place.Name)
			for _, addr := range e.Addresses {
				hosts = append(hosts, addr.String())
			}
		}
		w.ports = append(w.ports, s.Spec.EndpointPort())
	}
	for _, n := range w.env.Cluster.Nodes() {
		w.addPlace(&n.Place)
	}
	w.addPlace(w.env.Cluster.Hosts()[scenario.RouterHost])
	w.addPlace(w.env.Cluster.Fabric())
	if w.local != "" {
		hosts = append(hosts, w.local)
	}
	slices.Sort(hosts)
	match := probe.Match{Hosts: slices.Compact(hosts), Ports: w.ports, Limit: packetsWatched, Last: packetsWatched}
	return w.record(ctx, match)
}

// addPlace adds a place that exists, once. A service is nowhere, and a backend may lack the fabric or the router.
func (w *watch) addPlace(p *cluster.Place) {
	if p == nil || p.Agent == nil || w.place(p.Name) != nil {
		return
	}
	w.places = append(w.places, p)
}

func (w *watch) place(name string) *cluster.Place {
	at := slices.IndexFunc(w.places, func(p *cluster.Place) bool { return p.Name == name })
	if at < 0 {
		return nil
	}
	return w.places[at]
}

// service returns the service that the probe asks for, by a cluster address or by a node's port; nil if it asks for
// none.
func (w *watch) service() *environment.Service {
	if s := w.env.Service(w.to.Name); s != nil {
		return s
	}
	for _, s := range w.env.Services {
		if w.spec.Port != 0 && s.Spec.NodePort == w.spec.Port {
			return s
		}
	}
	return nil
}

// record runs the probe between the start and the end of watching. A place that cannot be watched is left out, unless
// it is an end of the probe.
func (w *watch) record(ctx context.Context, match probe.Match) error {
	w.watched = map[string]agent.Watched{}
	ids := make([]int, len(w.places))
	var group errgroup.Group
	for i, p := range w.places {
		group.Go(func() (err error) {
			// The context may have ended: a watch that was started and whose id is lost would go on, with its table in
			// the namespace.
			ids[i], err = p.Agent.StartWatch(context.WithoutCancel(ctx), agent.WatchArgs{Netns: p.Netns, Match: match})
			if err != nil && p != w.from && p != w.to {
				w.note(p, agent.Watched{Unwatched: err.Error()})
				return nil
			}
			return err
		})
	}
	err := group.Wait()
	if err == nil {
		w.result, err = w.from.Agent.Probe(ctx, w.from.Netns, w.spec)
		if err == nil && strings.Contains(w.result.Error, unix.EHOSTUNREACH.Error()) {
			// The kernel gave up the questions of the failed probe (arp(7), mcast_solicit), and those of the repeated
			// one with them. Now it asks again.
			w.result, err = w.from.Agent.Probe(ctx, w.from.Netns, w.spec)
		}
	}
	var stopping errgroup.Group
	for i, p := range w.places {
		if ids[i] == 0 {
			continue
		}
		stopping.Go(func() error {
			// The context may have ended: what runs in a namespace must end.
			watched, err := p.Agent.StopWatch(context.WithoutCancel(ctx), ids[i])
			w.note(p, watched)
			return err
		})
	}
	err = cmp.Or(err, stopping.Wait())
	for _, p := range w.places {
		for _, packet := range w.watched[p.Name].Packets {
			w.seen = append(w.seen, Sighting{Place: p.Name, Packet: packet})
		}
	}
	sortByTime(w.seen)
	return err
}

func (w *watch) note(p *cluster.Place, watched agent.Watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched[p.Name] = watched
}

// sortByTime puts sightings in the order in which they happened. If the places are machines with different clocks, only
// the order at each place is certain.
func sortByTime(seen []Sighting) {
	slices.SortStableFunc(seen, func(a, b Sighting) int { return a.Time.Compare(b.Time) })
}

// oneClock reports whether all places have one clock: a fabric is on the same machine as its nodes.
func (w *watch) oneClock() bool { return w.env.Cluster.Fabric() != nil }

// sizeText returns the size of the packets in words; empty if the probe has no size.
func (w *watch) sizeText() string {
	if w.spec.Size == 0 {
		return ""
	}
	return " of " + strconv.Itoa(w.spec.Size) + " bytes"
}
