package soak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

const (
	// roundTimeout ends a round that hangs. With twenty pods at once no round takes a tenth of it.
	roundTimeout = time.Minute
	// longestStay is the longest time that a pod stays attached, besides the time for its checks and probes.
	longestStay = time.Second
)

// fail keeps the first failure, with the calls of the pod that failed.
func (s *soak) fail(ctx context.Context, p *environment.Pod, err error) {
	if err == nil || ctx.Err() != nil {
		return // a call that was cut off says nothing
	}
	s.once.Do(func() {
		s.err = &environment.Failure{Err: fmt.Errorf("after %s: %w", time.Since(s.start).Round(time.Second), err)}
		var (
			refused *cni.Error
			dead    *environment.Failure
		)
		// A soak that fails because of other plugins shows nothing about the plugins under test.
		if errors.As(err, &refused) && slices.Contains(s.config.UnderTest, refused.Plugin) {
			s.err.Plugin = refused.Plugin
		}
		if errors.As(err, &dead) {
			s.err.Evidence = dead.Evidence
		}
		s.err.Evidence = append(s.err.Evidence, s.callsOf(p, err)...)
		close(s.failed)
	})
}

// callsOf shows the calls of a pod; if two pods have one address, the ADDs of both.
func (s *soak) callsOf(p *environment.Pod, err error) []report.Evidence {
	var shared *environment.SharedAddress
	both := errors.As(err, &shared)
	return runner.CallsText(s.CallsOf(func(c cni.Call) bool {
		if both {
			return c.Verb == cni.Add && (isOf(c, shared.Pod) || isOf(c, shared.Other))
		}
		return p != nil && isOf(c, p)
	}))
}

// isOf reports whether a call was about a pod.
func isOf(c cni.Call, p *environment.Pod) bool {
	return slices.Contains(c.Env, "CNI_CONTAINERID="+p.ContainerID())
}

// startFlows starts UDP flows between all ends: TCP would resend what was lost and hide the loss.
func (s *soak) startFlows(ctx context.Context) error {
	for _, from := range s.ends {
		for _, to := range s.ends {
			if !s.demanded(from, to) {
				continue
			}
			if err := s.StartFlow(ctx, scenario.Flows{Protocol: string(probe.UDP), Port: port}, from.Place,
				to.Place); err != nil {
				return fmt.Errorf("flow %s to %s: %w", from.Name, to.Name, err)
			}
		}
	}
	return nil
}

// reach checks that each endpoint that must reach a pod gets an answer from it.
func (s *soak) reach(ctx context.Context, to endpoint) error {
	for _, from := range s.ends {
		if !s.demanded(from, to) {
			continue
		}
		s.probes.Add(1)
		p := scenario.Probe{
			From: from.Name, To: to.Name, Protocol: string(probe.TCP), Port: port, Server: to.Name,
			// The answer must come at once, apart from the processor time that twenty other pods take.
			Attempts: 1, Within: scenario.Duration(2 * time.Second),
		}
		if err := s.ProbePair(ctx, p, from.Place, to.Place); err != nil {
			return err
		}
	}
	return nil
}

// comeAndGo attaches and deletes a pod again and again, each time in a new sandbox.
func (s *soak) comeAndGo(ctx context.Context, p *environment.Pod) {
	for round := 0; !s.over(ctx); round++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", p.Name, round))
		p.SetContainerID(hex.EncodeToString(sum[:]))
		limited, cancel := context.WithTimeoutCause(ctx, roundTimeout, fmt.Errorf("%s: a round took longer than %s",
			p.Name, roundTimeout))
		err := s.round(limited, p)
		if err != nil && limited.Err() != nil {
			err = context.Cause(limited)
		}
		cancel()
		s.fail(ctx, p, err)
		if err != nil {
			return // the pod stays as it is, so that it can be examined
		}
	}
}

// round attaches, checks and deletes a pod once.
func (s *soak) round(ctx context.Context, p *environment.Pod) error {
	const ifName = scenario.DefaultInterface
	s.adds.Add(1)
	if err := s.Add(ctx, p, ifName); err != nil {
		return err
	}
	s.mu.Lock()
	s.attached++
	s.most = max(s.most, s.attached)
	s.mu.Unlock()
	// The pod is checked at both ends of its stay, since others come and go in between.
	if err := s.inOrder(ctx, p); err != nil {
		return err
	}
	select {
	case <-s.failed:
	case <-ctx.Done():
	case <-time.After(rand.N(longestStay)):
	}
	if err := s.inOrder(ctx, p); err != nil {
		return err
	}
	// From now on the plugin may give the address to the next pod.
	p.SetReleased(ifName)
	s.mu.Lock()
	s.attached--
	s.mu.Unlock()
	s.dels.Add(1)
	if err := s.Del(ctx, p, ifName, runner.Deletion{}); err != nil {
		return err
	}
	// The calls of a long soak would fill the memory.
	s.Forget(func(c cni.Call) bool { return isOf(c, p) })
	return s.RemoveNamespace(ctx, p)
}

// inOrder checks that an attached pod passes CHECK and answers.
func (s *soak) inOrder(ctx context.Context, p *environment.Pod) error {
	if err := s.checkOne(ctx, p); err != nil {
		return err
	}
	return s.reach(ctx, endpoint{&p.Place, p.Node, false})
}

func (s *soak) checkOne(ctx context.Context, p *environment.Pod) error {
	if s.Lacks(cni.Check) {
		return nil
	}
	s.checks.Add(1)
	return s.Check(ctx, p, scenario.DefaultInterface)
}
