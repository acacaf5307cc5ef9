package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Steps runs the steps one after the other. Its error is an *environment.Failure with the step.
func (r *Runner) Steps(ctx context.Context) error {
	for _, step := range r.Env.Scenario.Steps {
		before := r.Calls()
		err := r.step(ctx, step)
		disturbance.Of(ctx).Progress()
		if err == nil {
			continue
		}
		failed := &environment.Failure{Step: &step, Err: err}
		var refused *cni.Error
		if errors.As(err, &refused) && !r.ofOther(step) {
			failed.Plugin = refused.Plugin
		}
		var dead *environment.Failure
		if errors.As(err, &dead) {
			failed.Plugin, failed.Evidence = cmp.Or(failed.Plugin, dead.Plugin), dead.Evidence
		}
		failed.Evidence = append(failed.Evidence, r.CallEvidence(before)...)
		failed.Evidence = append(failed.Evidence, r.StateEvidence(ctx)...)
		failed.Evidence = append(failed.Evidence, r.DaemonEvidence(ctx)...)
		failed.Explain(r.Explain(ctx, err))
		if !r.ofOther(step) {
			r.blame(ctx, err, failed)
		}
		return failed
	}
	return nil
}

// ofOther reports whether a step is CHECK or DEL of a network other than the conflist's. If it finds something wrong
// with a pod whose ADD succeeded, later plugins caused it.
func (r *Runner) ofOther(s scenario.Step) bool {
	for _, p := range r.Env.PodsNamed(cmp.Or(s.Check, s.Del)) {
		if !p.On(ifName(s.As)).Own && len(p.Networks) > 0 {
			return true
		}
	}
	return false
}

// verbs returns the function for each verb of steps, by name.
func verbs() map[string]func(r *Runner, ctx context.Context, s scenario.Step) error {
	return map[string]func(r *Runner, ctx context.Context, s scenario.Step) error{
		"add":    (*Runner).addStep,
		"check":  (*Runner).checkStep,
		"del":    (*Runner).delStep,
		"gc":     func(r *Runner, ctx context.Context, s scenario.Step) error { return r.gc(ctx, r.Env.Node(s.GC)) },
		"status": (*Runner).statusStep,
		"remove": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.eachPod(ctx, s.Remove, r.RemoveNamespace)
		},
		"release": (*Runner).releaseStep,
		"reboot": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.reboot(ctx, r.Env.Node(s.Reboot))
		},

		"probe": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.probe(ctx, *s.Probe) },
		"state": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.state(ctx, *s.State) },
		"lease": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.lease(ctx, *s.Lease) },
		"neighbour": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.neighbour(ctx, *s.Neighbour)
		},
		"flows": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.startFlows(ctx, *s.Flows) },
		"stop":  func(r *Runner, ctx context.Context, s scenario.Step) error { return r.stopFlows(ctx, *s.Stop) },
		"endpoints": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.replaceEndpoints(ctx, *s.Endpoints)
		},
		"capture": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.startCapture(ctx, *s.Capture)
		},
		"captured": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.endCaptures(ctx, *s.Captured)
		},
		"churn":  func(r *Runner, ctx context.Context, s scenario.Step) error { return r.churn(ctx, *s.Churn) },
		"daemon": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.daemon(ctx, *s.Daemon) },
		"install": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.install(ctx, *s.Install)
		},
		"event": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.event(ctx, *s.Event) },
		"recovery": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.recovery(ctx, *s.Recovery)
		},
		"cloud": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.cloud(ctx, *s.Cloud) },
		"advertise": func(r *Runner, ctx context.Context, s scenario.Step) error {
			return r.advertise(ctx, *s.Advertise)
		},
		"hostile": func(r *Runner, ctx context.Context, s scenario.Step) error { return r.hostile(ctx, *s.Hostile) },
		"wait": func(_ *Runner, ctx context.Context, s scenario.Step) error {
			return timing.Sleep(ctx, time.Duration(s.Wait))
		},
	}
}

// step runs one step.
func (r *Runner) step(ctx context.Context, s scenario.Step) error {
	run, ok := verbs()[s.Verb()]
	if !ok {
		return fmt.Errorf("step has no verb that can be run: %q", s.Verb())
	}
	return run(r, ctx, s)
}

// ifName returns the CNI_IFNAME of a step.
func ifName(as string) string {
	if as == "" {
		return scenario.DefaultInterface
	}
	return as
}

const (
	// podsAtOnce is how many pods start or end at the same time if the scenario does not depend on the number: fifty
	// plugins at once starve each other.
	podsAtOnce = 8
	// parallelCalls is covered by scenarios whose pods must come and go all at the same time.
	parallelCalls = "LIF-1"
)

// eachPod calls do for all pods of a place, all at the same time if the scenario is about that. Of several errors it
// returns the first, with the number of them.
func (r *Runner) eachPod(ctx context.Context, place string, do func(context.Context, *environment.Pod) error) error {
	pods := r.Env.PodsNamed(place)
	if len(pods) == 1 {
		return do(ctx, pods[0])
	}
	errs := make([]error, len(pods))
	var all errgroup.Group
	if !slices.Contains(r.Env.Scenario.Covers, parallelCalls) {
		all.SetLimit(podsAtOnce)
	}
	for i, p := range pods {
		all.Go(func() error {
			errs[i] = do(ctx, p)
			disturbance.Of(ctx).Progress()
			return nil
		})
	}
	_ = all.Wait()
	failed := 0
	var first error
	for _, err := range errs {
		if err != nil && first == nil {
			first = err
		}
		if err != nil {
			failed++
		}
	}
	if failed > 1 {
		return fmt.Errorf("%d of %d pods failed, the first one with: %w", failed, len(pods), first)
	}
	return first
}

// refused returns an error unless a verb failed with a code. Code 0 means that it must succeed; then refused returns
// the error of the verb.
func refused(code int, err error) error {
	if code == 0 {
		return err
	}
	var refusal *cni.Error
	switch {
	case err == nil:
		return fmt.Errorf("it succeeded, want an error with code %d", code)
	case !errors.As(err, &refusal):
		return err
	case int(refusal.Code) != code:
		return fmt.Errorf("got the code %d, want %d: %w", refusal.Code, code, err)
	}
	return nil
}

// eventually tries again until there is no error or the time is over, and then returns the last error. Within 0 it
// tries once.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil || !time.Now().Before(deadline) {
			return err
		}
		if err := timing.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
