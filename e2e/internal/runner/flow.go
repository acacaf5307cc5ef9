package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// flow is a running flow.
type flow struct {
	from, to *cluster.Place
	spec     probe.FlowSpec
	id       int
}

func (f *flow) String() string {
	return fmt.Sprintf("flow %s to %s %s", f.from.Name, f.to.Name, f.spec.To)
}

// silence is the error of a flow that got no reply at all.
type silence struct {
	error
	flow flow
}

// Unwrap returns the error without the flow.
func (s *silence) Unwrap() error { return s.error }

func (r *Runner) startFlows(ctx context.Context, f scenario.Flows) error {
	var sources, targets []*cluster.Place
	for _, end := range []struct {
		names  []string
		places *[]*cluster.Place
	}{{f.Between, &sources}, {f.Between, &targets}, {[]string{f.From}, &sources}, {[]string{f.To}, &targets}} {
		for _, name := range end.names {
			if name == "" {
				continue
			}
			found, err := r.Env.Places(name)
			if err != nil {
				return err
			}
			*end.places = append(*end.places, found...)
		}
	}
	for _, from := range sources {
		for _, to := range targets {
			if from == to && len(f.Between) > 0 {
				continue
			}
			if err := r.StartFlow(ctx, f, from, to); err != nil {
				return fmt.Errorf("flow %s to %s: %w", from.Name, to.Name, err)
			}
		}
	}
	return nil
}

// StartFlow starts a flow in each family.
func (r *Runner) StartFlow(ctx context.Context, f scenario.Flows, from, to *cluster.Place) error {
	for _, target := range to.Interfaces[environment.TargetInterface(scenario.Probe{}, to)] {
		if !environment.HasFamily(from, target) {
			continue
		}
		spec := probe.FlowSpec{
			Protocol: probe.Protocol(f.Protocol), To: target.String(), Port: f.Port,
			Interval: time.Duration(f.Interval),
		}
		id, err := from.Agent.StartFlow(ctx, from.Netns, spec)
		if err != nil {
			return err
		}
		r.flows = append(r.flows, flow{from, to, spec, id})
	}
	return nil
}

// StopFlows ends all flows and returns an error for those that lost too much.
func (r *Runner) StopFlows(ctx context.Context, s scenario.Stop) error {
	flows := r.flows
	r.flows = nil
	errs := make([]error, len(flows))
	group, ctx := errgroup.WithContext(ctx)
	for i, f := range flows {
		group.Go(func() error {
			result, err := f.from.Agent.StopFlow(ctx, f.id)
			record := disturbance.Of(ctx)
			record.Control(result.Disturbed(f.spec.Interval))
			record.Late(result.Worst, "the agent of "+f.from.Name)
			if err != nil {
				return err
			}
			if errs[i] = lost(f, result, s); errs[i] != nil && result.Sent > 0 && result.Received == 0 {
				errs[i] = &silence{errs[i], f}
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(errs...))
}

// lost returns an error if a flow lost more than a step allows.
func lost(f flow, result probe.FlowResult, s scenario.Stop) error {
	gap := time.Duration(s.Gap)
	switch {
	case gap > 0 && result.LongestGap > gap:
		return fmt.Errorf("%s had no reply for %s, want at most %s", &f, result.LongestGap.Round(time.Millisecond), gap)
	case gap > 0 && result.Received > 0:
		// Requests that were lost on the way are covered by the allowed gap.
	case result.Error != "":
		return fmt.Errorf("%s broke: %s", &f, result.Error)
	case result.Sent == 0:
		return fmt.Errorf("%s sent nothing", &f)
	case result.Lost > s.Lost:
		return fmt.Errorf("%s lost %d of %d requests, want at most %d; longest silence %s", &f, result.Lost,
			result.Sent, s.Lost, result.LongestGap.Round(time.Millisecond))
	}
	return nil
}

// stopFlows ends all flows as a step. For a flow that got no reply at all it finds out where the packets end, if a
// probe gets no reply either.
func (r *Runner) stopFlows(ctx context.Context, s scenario.Stop) error {
	err := r.StopFlows(ctx, s)
	var silent *silence
	if !errors.As(err, &silent) || ctx.Err() != nil {
		return err
	}
	f := silent.flow
	spec := probe.Spec{Protocol: f.spec.Protocol, To: f.spec.To, Port: f.spec.Port}
	result, asked := f.from.Agent.Probe(ctx, f.from.Netns, spec)
	if asked != nil || result.OK {
		return err
	}
	return r.explainer.Silent(ctx, err, packetpath.Failed{From: f.from, To: f.to, Spec: spec, Result: result})
}

// RestartFlows starts new flows and then ends the old ones, so that there is always one.
func (r *Runner) RestartFlows(ctx context.Context, start func(context.Context) error) error {
	before := r.flows
	r.flows = nil
	err := start(ctx)
	after := r.flows
	r.flows = before
	err = errors.Join(err, r.StopFlows(ctx, scenario.Stop{}))
	r.flows = after
	return err
}
