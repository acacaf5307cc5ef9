package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// flow is a running flow.
type flow struct {
	from, to string
	agent    *agent.Client
	interval time.Duration
	id       int
}

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
			if from == to {
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
		id, err := from.Agent.StartFlow(ctx, from.Netns, probe.FlowSpec{
			Protocol: probe.Protocol(f.Protocol), To: target.String(), Port: f.Port,
			Interval: time.Duration(f.Interval),
		})
		if err != nil {
			return err
		}
		r.flows = append(r.flows, flow{
			from: from.Name, to: to.Name + " " + target.String(), agent: from.Agent,
			interval: time.Duration(f.Interval), id: id,
		})
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
			result, err := f.agent.StopFlow(ctx, f.id)
			record := disturbance.Of(ctx)
			record.Control(result.Disturbed(f.interval))
			record.Late(result.Worst, "the agent of "+f.from)
			gap := time.Duration(s.Gap)
			switch {
			case err != nil:
				return err
			case gap > 0 && result.LongestGap > gap:
				errs[i] = fmt.Errorf("flow %s to %s had no reply for %s, want at most %s", f.from, f.to,
					result.LongestGap.Round(time.Millisecond), gap)
			case gap > 0 && result.Received > 0:
				// Requests that were lost on the way are covered by the allowed gap.
			case result.Error != "":
				errs[i] = fmt.Errorf("flow %s to %s broke: %s", f.from, f.to, result.Error)
			case result.Sent == 0:
				errs[i] = fmt.Errorf("flow %s to %s sent nothing", f.from, f.to)
			case result.Lost > s.Lost:
				errs[i] = fmt.Errorf("flow %s to %s lost %d of %d requests, want at most %d; longest silence %s",
					f.from, f.to, result.Lost, result.Sent, s.Lost, result.LongestGap.Round(time.Millisecond))
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(errs...))
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
