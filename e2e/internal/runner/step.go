package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Steps runs the steps one after the other. Its error is an *environment.Failure with the step.
func (r *Runner) Steps(ctx context.Context) error {
	for _, step := range r.Env.Scenario.Steps {
		before := r.Calls()
		err := r.step(ctx, step)
		if err == nil {
			continue
		}
		failed := &environment.Failure{Step: &step, Err: err}
		var refused *cni.Error
		if errors.As(err, &refused) {
			failed.Plugin = refused.Plugin
		}
		var dead *environment.Failure
		if errors.As(err, &dead) {
			failed.Evidence = dead.Evidence
		}
		failed.Evidence = append(failed.Evidence, r.CallEvidence(before)...)
		failed.Evidence = append(failed.Evidence, r.StateEvidence(ctx)...)
		failed.Evidence = append(failed.Evidence, r.DaemonEvidence(ctx)...)
		return failed
	}
	return nil
}

func (r *Runner) step(ctx context.Context, s scenario.Step) (err error) {
	switch {
	case s.Add != "":
		defer r.followPods(ctx, &err)
		return r.eachPod(ctx, s.Add, func(ctx context.Context, p *environment.Pod) error {
			return refused(s.Fails, r.Add(ctx, p, ifName(s.As)))
		})
	case s.Check != "":
		if r.Lacks(cni.Check) {
			return nil
		}
		return r.eachPod(ctx, s.Check, func(ctx context.Context, p *environment.Pod) error {
			return refused(s.Fails, r.Check(ctx, p, ifName(s.As)))
		})
	case s.Del != "":
		defer r.followPods(ctx, &err)
		return r.eachPod(ctx, s.Del, func(ctx context.Context, p *environment.Pod) error {
			return r.Del(ctx, p, ifName(s.As), Deletion{s.Netns, s.Cache})
		})
	case s.Remove != "":
		return r.eachPod(ctx, s.Remove, r.RemoveNamespace)
	case s.Release != "":
		return r.eachPod(ctx, s.Release, func(ctx context.Context, p *environment.Pod) error { return r.release(ctx, p, ifName(s.As)) })
	case s.GC != "":
		return r.gc(ctx, r.Env.Node(s.GC))
	case s.Status != "":
		if r.Lacks(cni.Status) {
			return nil
		}
		return eventually(ctx, time.Duration(s.Within), func() error { return refused(s.Fails, r.status(ctx, r.Env.Node(s.Status))) })
	case s.Reboot != "":
		return r.reboot(ctx, r.Env.Node(s.Reboot))
	case s.Probe != nil:
		return r.probe(ctx, *s.Probe)
	case s.State != nil:
		return r.state(ctx, *s.State)
	case s.Neighbour != nil:
		return r.neighbour(ctx, *s.Neighbour)
	case s.Flows != nil:
		return r.startFlows(ctx, *s.Flows)
	case s.Stop != nil:
		return r.StopFlows(ctx, *s.Stop)
	case s.Endpoints != nil:
		return r.replaceEndpoints(ctx, *s.Endpoints)
	case s.Capture != nil:
		return r.startCapture(ctx, *s.Capture)
	case s.Captured != nil:
		return r.endCaptures(ctx, *s.Captured)
	case s.Daemon != nil:
		return r.daemon(ctx, *s.Daemon)
	case s.Cloud != nil:
		return r.cloud(ctx, *s.Cloud)
	case s.Churn != nil:
		return r.churn(ctx, *s.Churn)
	case s.Advertise != nil:
		return r.advertise(ctx, *s.Advertise)
	case s.Wait != 0:
		return wait(ctx, time.Duration(s.Wait))
	}
	return fmt.Errorf("step has no verb")
}

func ifName(as string) string {
	if as == "" {
		return scenario.DefaultInterface
	}
	return as
}

// wait is for times that the kernel or a protocol prescribes; nothing tells when they are over.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// eachPod does something with all pods of a place at once.
func (r *Runner) eachPod(ctx context.Context, place string, do func(context.Context, *environment.Pod) error) error {
	pods := r.Env.PodsNamed(place)
	if len(pods) == 1 {
		return do(ctx, pods[0])
	}
	errs := make([]error, len(pods))
	var all sync.WaitGroup
	for i, p := range pods {
		all.Go(func() { errs[i] = do(ctx, p) })
	}
	all.Wait()
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

// refused turns the end of a verb that must fail with a code into that of its step; code 0 wants success.
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

// eventually tries again until there is no error or the time is over, and then returns the last one; within 0 it tries once.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil || !time.Now().Before(deadline) {
			return err
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
