package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/witness"
)

// WatchArgs describe a namespace to be watched, and the relevant packets. Netfilter is watched for packets of
// Match.Hosts.
type WatchArgs struct {
	Netns string      `json:"netns"`
	Match probe.Match `json:"match"`
}

// Watched is what was seen in a namespace.
type Watched struct {
	// Packets are in the order in which they passed its interfaces.
	Packets []probe.Packet `json:"packets"`
	// Verdicts are the packets that its netfilter dropped or translated.
	Verdicts []witness.Verdict `json:"verdicts"`
	// Counters are the counters that grew, and by how much.
	Counters map[string]uint64 `json:"counters"`
	// Unwatched says why netfilter or counters could not be watched; empty if both were.
	Unwatched string `json:"unwatched,omitempty"`
}

// watch is a namespace that is being watched.
type watch struct {
	netns    string
	capture  *probe.Capture
	trace    *witness.Trace // nil where there is none
	counters map[string]uint64
	watched  Watched
}

// StartWatch begins to watch a namespace and returns its id. A namespace without netfilter is no error.
func (s *Server) StartWatch(args WatchArgs, id *int) error {
	w := &watch{netns: args.Netns}
	var hosts []netip.Addr
	for _, host := range args.Match.Hosts {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return err
		}
		hosts = append(hosts, addr.WithZone("").Unmap())
	}
	var err error
	if w.capture, err = probe.StartCapture(args.Netns, args.Match); err != nil {
		return err
	}
	if w.trace, err = witness.StartTrace(args.Netns, hosts); err != nil {
		w.watched.Unwatched = err.Error()
	}
	if w.counters, err = witness.Counters(args.Netns); err != nil {
		w.watched.Unwatched = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	*id = s.nextID
	s.watches[*id] = w
	return nil
}

// StopWatch ends a watch and returns what was seen.
func (s *Server) StopWatch(id int, watched *Watched) error {
	s.mu.Lock()
	w, ok := s.watches[id]
	delete(s.watches, id)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("watch %d: not running", id)
	}
	if after, err := witness.Counters(w.netns); err == nil {
		w.watched.Counters = witness.Growth(w.counters, after)
	}
	w.watched.Packets = w.capture.Stop()
	if w.trace != nil {
		verdicts, err := w.trace.Stop()
		if err != nil {
			w.watched.Unwatched = err.Error()
		}
		w.watched.Verdicts = verdicts
	}
	*watched = w.watched
	return nil
}

// LookupArgs ask where a namespace would send a packet.
type LookupArgs struct {
	Netns    string           `json:"netns"`
	Question witness.Question `json:"question"`
}

// Lookup asks the kernel where it would send a packet, and by which rule and route.
func (s *Server) Lookup(args LookupArgs, way *witness.Way) (err error) {
	*way, err = witness.Lookup(args.Netns, args.Question)
	return err
}

// StartWatch begins to watch a namespace: its packets, netfilter and counters.
func (c *Client) StartWatch(ctx context.Context, args WatchArgs) (int, error) {
	return call[int](ctx, c, "StartWatch", args)
}

// StopWatch ends a watch.
func (c *Client) StopWatch(ctx context.Context, id int) (Watched, error) {
	return call[Watched](ctx, c, "StopWatch", id)
}

// Lookup asks where a namespace would send a packet.
func (c *Client) Lookup(ctx context.Context, netns string, q witness.Question) (witness.Way, error) {
	return call[witness.Way](ctx, c, "Lookup", LookupArgs{Netns: netns, Question: q})
}
