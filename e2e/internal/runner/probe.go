package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/packetpath"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// probesAtOnce bounds the number of probes of a step with many pods that run at the same time.
const probesAtOnce = 16

// probe sends traffic from each of the places of From to each of those of To, in every family that both have.
func (r *Runner) probe(ctx context.Context, p scenario.Probe) error {
	from, err := r.Env.Places(p.From)
	if err != nil {
		return err
	}
	to, err := r.Env.Places(p.To)
	if err != nil {
		return err
	}
	return mostTelling(untilFailure(len(from)*len(to), func(i int) error {
		return r.ProbePair(ctx, p, from[i/len(to)], to[i%len(to)])
	}))
}

// untilFailure makes n probes, probesAtOnce of them at the same time, and begins none after one has failed: in a step
// with fifty pods that get no answer, each probe waits for as long as all of them. It returns the errors in the order
// in which the probes ended, nil for those without.
func untilFailure(n int, probe func(i int) error) []error {
	var (
		group  errgroup.Group
		mu     sync.Mutex
		errs   []error
		failed bool
	)
	group.SetLimit(probesAtOnce)
	for i := range n {
		group.Go(func() error {
			mu.Lock()
			late := failed
			mu.Unlock()
			if late {
				return nil
			}
			err := probe(i)
			mu.Lock()
			defer mu.Unlock()
			errs, failed = append(errs, err), failed || err != nil
			return nil
		})
	}
	_ = group.Wait()
	return errs
}

// mostTelling returns the error that has the path of the packets, else the first one.
func mostTelling(errs []error) error {
	for _, err := range errs {
		var dead *environment.Failure
		if errors.As(err, &dead) && dead.Evidence != nil {
			return err
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ProbePair sends the probe from one place to each address of another, in every family that both have.
func (r *Runner) ProbePair(ctx context.Context, p scenario.Probe, from, to *cluster.Place) error {
	targets := r.Env.Addresses(to, environment.TargetInterface(p, to))
	if len(targets) == 0 {
		return fmt.Errorf("%s has no address on %s", to.Name, environment.TargetInterface(p, to))
	}
	asked := 0
	for _, target := range targets {
		if !environment.HasFamily(from, target) {
			continue
		}
		if p.By == scenario.Broadcast && !target.Is4() {
			continue // IPv6 has none
		}
		asked++
		if err := r.probeAddress(ctx, p, from, to, target); err != nil {
			return err
		}
	}
	if asked == 0 {
		return fmt.Errorf("%s has no address of a family that %s has", from.Name, to.Name)
	}
	return nil
}

func (r *Runner) probeAddress(ctx context.Context, p scenario.Probe, from, to *cluster.Place, target netip.Addr) error {
	spec := probe.Spec{
		Protocol: probe.Protocol(p.Protocol), To: target.String(), Port: p.Port, Bytes: int(p.Bytes), Count: p.Count,
		Within: time.Duration(p.Within), Attempts: p.Attempts,
	}
	if p.FullMTU {
		mtu, err := pathMTU(ctx, from, target)
		if err != nil {
			return err
		}
		spec.Size, spec.DontFragment = mtu, true
	}
	if p.Size != 0 {
		spec.Size = p.Size
	}
	if p.By != "" {
		var err error
		if spec.Via, spec.Device, err = groupOf(ctx, from, to, target, p.By); err != nil {
			return err
		}
	}
	result, err := from.Agent.Probe(ctx, from.Netns, spec)
	if err != nil {
		return err
	}
	record := disturbance.Of(ctx)
	record.Progress()
	if !result.OK && p.By != "" {
		record.Control(result.Disturbed())
		return fmt.Errorf("%s does not answer what %s sends to %s of the underlay by %s: %s", to.Name, from.Name,
			spec.Via, p.By, result.Error)
	}
	if !result.OK && r.unexplained {
		return fmt.Errorf("%s to %s, %s: %s", from.Name, to.Name, target, result.Error)
	}
	if !result.OK {
		record.Control(result.Disturbed())
		return r.explainer.Unanswered(ctx, packetpath.Failed{From: from, To: to, Spec: spec, Result: result})
	}
	answers := result.Answers
	if len(answers) == 0 {
		answers = []probe.Answer{{Server: result.Server, PeerSeen: result.PeerSeen}}
	}
	for _, answer := range answers {
		answered, seen := r.answeredBy(p, answer), r.seenAs(ctx, p, from, answer)
		if answered == nil && seen != nil {
			return r.explainer.WrongSource(ctx, seen, packetpath.Failed{From: from, To: to, Spec: spec, Result: result})
		}
		if err := errors.Join(answered, seen); err != nil {
			return err
		}
	}
	return nil
}

// answeredBy returns an error unless the answer came from the place that the probe names.
func (r *Runner) answeredBy(p scenario.Probe, answer probe.Answer) error {
	if p.Server == "" {
		return nil
	}
	servers, err := r.Env.Places(p.Server)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(servers, func(s *cluster.Place) bool { return s.Name == answer.Server }) {
		return fmt.Errorf("%s answered, want %s", answer.Server, p.Server)
	}
	return nil
}

// seenAs returns an error unless the destination saw an address of the place that the probe names as its source.
func (r *Runner) seenAs(ctx context.Context, p scenario.Probe, from *cluster.Place, answer probe.Answer) error {
	if p.Source == "" {
		return nil
	}
	sources, err := r.Env.Places(p.Source)
	if err != nil {
		return err
	}
	seen, err := netip.ParseAddr(answer.PeerSeen)
	if err != nil {
		return fmt.Errorf("source that %s saw: %w", answer.Server, err)
	}
	for _, s := range sources {
		if s != from && p.Source == p.From {
			continue
		}
		own, err := environment.Owns(ctx, s, seen)
		if err != nil {
			return err
		}
		if own && p.SourceInterface != "" && !slices.Contains(s.Interfaces[p.SourceInterface], seen) {
			return fmt.Errorf("%s saw %s as the source, want the address of %s on %s", answer.Server, seen, s.Name,
				p.SourceInterface)
		}
		if own {
			return nil
		}
	}
	owner := ""
	if place := r.Env.OwnerOf(ctx, seen); place != nil {
		owner = " (" + place.Name + ")"
	}
	return fmt.Errorf("%s saw %s%s as the source, want an address of %s", answer.Server, seen, owner, p.Source)
}

// pathMTU returns the MTU of the interface by which a packet leaves.
func pathMTU(ctx context.Context, from *cluster.Place, to netip.Addr) (int, error) {
	route, err := from.Agent.Route(ctx, from.Netns, to.String())
	if err != nil {
		return 0, err
	}
	links, err := from.Agent.Links(ctx, from.Netns)
	if err != nil {
		return 0, err
	}
	link, found := agent.FindLink(links, route.Device)
	if !found {
		return 0, fmt.Errorf("%s: no link %s", from.Name, route.Device)
	}
	return link.MTU, nil
}
