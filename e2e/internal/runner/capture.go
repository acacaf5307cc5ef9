package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/cnitest/cnitest/e2e/agent"
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

// endCaptures ends all captures and checks that none has seen too many packets. What a capture lost may have been one
// too many, so that nothing is shown then.
func (r *Runner) endCaptures(ctx context.Context, c scenario.Captured) error {
	captures := r.captures
	r.captures = nil
	var errs, lost []error
	for _, capture := range captures {
		reply, err := capture.place.Agent.StopCapture(ctx, capture.id)
		if err != nil {
			return err
		}
		wrong, unsure := capture.judge(reply, c.Packets)
		errs, lost = append(errs, wrong), append(lost, unsure)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(lost...)
}

// judge returns an error if a capture has seen more packets than it may, and another one if it cannot say so.
func (c capture) judge(reply agent.CaptureReply, most int) (wrong, unsure error) {
	switch {
	case len(reply.Packets) > most:
		wrong = fmt.Errorf("%s saw %d packets to %s, want at most %d; the first: %s", c.place.Name,
			len(reply.Packets), c.what, most, packetpath.Sighting{Place: c.place.Name, Packet: reply.Packets[0]})
	case reply.Unseen > 0:
		unsure = &cluster.UnfitError{Reason: fmt.Sprintf("the capture at %s lost %d packets, any of which may have "+
			"been to %s: this machine is too busy", c.place.Name, reply.Unseen, c.what)}
	}
	return wrong, unsure
}
