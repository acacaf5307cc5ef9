package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// capture is a running capture of packets to a service.
type capture struct {
	place *cluster.Place
	what  string
	id    int
}

func (r *Runner) startCapture(ctx context.Context, c scenario.Capture) error {
	places, err := r.Env.Places(c.At)
	if err != nil {
		return err
	}
	s := r.Env.Service(c.To)
	if s == nil {
		return fmt.Errorf("%s: no such service", c.To)
	}
	match := probe.Match{}
	for _, addr := range s.Interfaces[scenario.UplinkInterface] {
		match.Hosts = append(match.Hosts, addr.String())
	}
	for _, place := range places {
		id, err := place.Agent.StartCapture(ctx, place.Netns, match)
		if err != nil {
			return err
		}
		r.captures = append(r.captures, capture{place: place, what: c.To, id: id})
	}
	return nil
}

// endCaptures ends all captures and checks that none has seen too many packets.
func (r *Runner) endCaptures(ctx context.Context, c scenario.Captured) error {
	captures := r.captures
	r.captures = nil
	var errs []error
	for _, capture := range captures {
		packets, err := capture.place.Agent.StopCapture(ctx, capture.id)
		if err != nil {
			return err
		}
		if len(packets) > c.Packets {
			errs = append(errs, fmt.Errorf("%s saw %d packets to %s, want at most %d; the first: %s",
				capture.place.Name, len(packets), capture.what, c.Packets, packetpath.Sighting{
					Place: capture.place.Name, Packet: packets[0],
				}))
		}
	}
	return errors.Join(errs...)
}
