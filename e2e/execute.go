package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/environment"
	"github.com/cnitest/cnitest/e2e/internal/runner"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Run runs one scenario on a cluster of its own and adds its result to the report, unless ctx ended before the result
// was known.
func (s *Suite) Run(ctx context.Context, sc *scenario.Scenario) report.Result {
	return s.RunUnit(ctx, &Unit{ID: sc.Name, scenario: sc})
}

// runScenario runs the scenario of an attempt, if this machine can run it.
func (s *Suite) runScenario(ctx context.Context, a *attempt) {
	sc := a.unit.scenario
	level := report.Extended
	if s.options.Profile.Core(sc) {
		level = report.Core
	}
	a.result = report.Result{
		ID: sc.Name, Kind: "scenario", Plugin: report.Chain, Level: level, Covers: slices.Clone(sc.Covers),
	}
	a.known = true
	if outcome, reason := s.exclude(ctx, sc, level); outcome != "" {
		a.result.Result, a.result.Reason = outcome, reason
		return
	}
	if s.blocks(&a.result, false) {
		return
	}
	var run context.Context
	run, a.record = disturbance.Begin(ctx)
	failed := s.execute(run, a)
	// A failure that was seen before the end counts.
	a.known = failed || ctx.Err() == nil
}

// stopped is the reason given for a unit that was still running when the run ended. Such a unit has no result in the
// report.
const stopped = "the run was stopped"

// cutOff returns the result of a unit that was still running when the run ended.
func cutOff(result report.Result) report.Result {
	result.Result, result.Reason, result.Evidence, result.LabFailed = report.Skipped, stopped, nil, false
	return result
}

// seconds returns a time in seconds, to the millisecond.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}

// scenarioTimeout ends a scenario that hangs, in time that the machine gave; none takes a quarter of it. A scenario in
// which something still ends goes on (disturbance.WithTimeout).
const scenarioTimeout = 2 * time.Minute

// remoteTimeout is the additional time on machines that exist: they may be emulated, and a reboot is real.
const remoteTimeout = 8 * time.Minute

// execute starts a cluster, runs the scenario of an attempt on it and closes the cluster. It reports whether the
// scenario failed before ctx ended.
func (s *Suite) execute(ctx context.Context, a *attempt) (failed bool) {
	sc, result := a.unit.scenario, &a.result
	limit := scenarioTimeout + s.options.Soak.For
	if cluster.IsExclusive(s.options.Backend) {
		limit += remoteTimeout
	}
	outer := ctx
	ctx, cancel := disturbance.WithTimeout(ctx, limit)
	defer cancel()
	starting, end := timing.Begin(ctx, timing.Lab)
	request := s.request(sc.Nodes, sc.Chain)
	// Some more, for what a plugin does not give back.
	request.Devices = sc.Attachments() + 4
	if sc.Needs().OldVersion {
		request.OldBinDir = s.options.OldBinDir
	}
	c, err := s.options.Backend.Start(starting, request)
	end()
	if err != nil {
		result.LabFails(err)
		return false
	}
	defer timing.Close(ctx, timing.Lab, c)
	defer s.excuse(c, result)
	defer func() { disturbance.Of(ctx).Ask(context.WithoutCancel(ctx), c) }()
	if reason, err := s.missingProgram(ctx, sc, c); err != nil || reason != "" {
		result.Result, result.Reason = report.Skipped, reason
		if err != nil {
			result.LabFails(err)
		}
		return false
	}
	r := runner.New(s.runnerConfig(), environment.New(sc, c))
	if err := r.Prepare(ctx); err != nil {
		// No plugin was called yet, so none is to blame.
		result.LabFails(fmt.Errorf("the lab could not be made: %w", err))
		return false
	}
	err = s.play(ctx, r)
	s.judge(ctx, r.Env, err, result)
	askCluster(ctx, c, result)
	failed = result.Result == report.Fail && (ctx.Err() == nil || soakFailure(err) != nil)
	// An observer sees no failure that followed an interruption, and none that is about to run again, but sees one that
	// took too long.
	if result.Result == report.Fail && s.options.Observe.Failed != nil && outer.Err() == nil && !s.follows(ctx, a, c) {
		s.options.Observe.Failed(*result, c)
	}
	if ctx.Err() == nil {
		s.cleanUp(ctx, r, result)
	}
	return failed
}

// follows reports whether a failed attempt is to run again. It is called before the cluster is closed.
func (s *Suite) follows(ctx context.Context, a *attempt, c cluster.Cluster) bool {
	if a.last {
		return false
	}
	a.record.Ask(context.WithoutCancel(ctx), c)
	found := a.record.SoFar()
	return found.Doubtful && (a.former == nil || !s.confirmed(a, found))
}

// play runs the steps, the soak, or the function of the backend.
func (s *Suite) play(ctx context.Context, r *runner.Runner) error {
	tell := s.stories[r.Env.Scenario.Name]
	switch {
	case tell != nil:
		err := tell(ctx, r.Env.Cluster)
		s.keepFigures(r.Env.Cluster)
		return err
	case s.options.Soak.For == 0:
		return r.Steps(ctx)
	}
	err := soak.Run(ctx, soak.Config{
		For: s.options.Soak.For, UnderTest: s.options.Plugins, Demands: s.options.demands, Tell: s.tellProgress,
	}, r)
	var unfinished *soak.Unfinished
	if errors.As(err, &unfinished) {
		s.note("%s", unfinished.Note)
	}
	return err
}

// keepFigures puts what a cluster measured into the report.
func (s *Suite) keepFigures(c cluster.Cluster) {
	measured, ok := c.(cluster.Measured)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range measured.Figures() {
		s.report.KeepFigure(f)
	}
}

// soakFailure returns the failure of a soak; nil if there was none, or no soak.
func soakFailure(err error) *environment.Failure {
	var failure *environment.Failure
	if errors.As(err, &failure) && failure.Step == nil {
		return failure
	}
	return nil
}

// cleanUp deletes everything and compares each node with its state before the first step. A daemon that ended by itself
// and a DEL that fails here fail the scenario.
func (s *Suite) cleanUp(ctx context.Context, r *runner.Runner, result *report.Result) {
	_ = r.StopFlows(ctx, scenario.Stop{})
	switch err := r.CheckDaemons(ctx); {
	case err != nil && result.Result == report.Pass:
		result.Result, result.Reason, result.Evidence = report.Fail, err.Error(), r.DaemonEvidence(ctx)
	case err != nil && result.Result == report.Fail:
		result.Reason += "; " + err.Error()
	}
	// What a chain leaves that cannot work says nothing about the plugins under test.
	failure := s.residue.CleanUp(ctx, r, result.Result == report.KnownUpstream || result.Result == report.Skipped)
	var unfit *cluster.UnfitError
	switch {
	case failure == nil || result.Result != report.Pass:
	case errors.As(failure, &unfit):
		s.skipFor(failure, unfit, result)
	default:
		result.Result, result.Reason, result.Evidence = report.Fail, failure.Error(), failure.Evidence
		result.Plugin = cmp.Or(failure.Plugin, result.Plugin)
	}
}

// excuse turns a failure into a failure of the lab if a machine stopped answering, which no plugin causes. Then nobody
// knows what left the things that stayed there.
func (s *Suite) excuse(c cluster.Cluster, result *report.Result) {
	losable, ok := c.(cluster.Losable)
	if !ok || result.Result != report.Fail {
		return
	}
	if err := losable.Lost(); err != nil {
		s.residue.Dismiss(result.ID, err.Error())
		result.LabFails(fmt.Errorf("%w; what was seen: %s", err, result.Reason))
	}
}

// skipFor makes a result a skip, since the machine lacks something. What only a plugin asked for that the scenario put
// into the chain is not missing for the user's conflist.
func (s *Suite) skipFor(err error, unfit *cluster.UnfitError, result *report.Result) {
	lacks := unfit.Lacks
	if unfit.Plugin != "" && !slices.Contains(s.file.Types(), unfit.Plugin) {
		lacks = ""
	}
	result.LacksOf(err.Error(), lacks)
}

// judge sets the result of a scenario that ended with err.
func (s *Suite) judge(ctx context.Context, env *environment.Environment, err error, result *report.Result) {
	notes := env.Notes()
	result.Result, result.Reason = report.Pass, notes
	if err == nil {
		return
	}
	var unfit *cluster.UnfitError
	if errors.As(err, &unfit) {
		s.skipFor(err, unfit, result)
		return
	}
	result.Result, result.Reason = report.Fail, err.Error()
	// A failure that a soak found before the end remains its reason. A step that was interrupted has none of its own.
	if soakFailure(err) == nil && ctx.Err() != nil {
		result.Reason = context.Cause(ctx).Error()
	}
	if notes != "" {
		defer func() { result.Reason += " (" + notes + ")" }()
	}
	var failed *environment.Failure
	if !errors.As(err, &failed) {
		return
	}
	result.Plugin, result.Evidence = cmp.Or(failed.Plugin, result.Plugin), failed.Evidence
	if failed.Step == nil {
		return
	}
	where := fmt.Sprintf("%s:%d", env.Scenario.File, failed.Step.Line)
	result.Reason = fmt.Sprintf("%s: %s: %s", where, failed.Step, result.Reason)
	result.Evidence = append([]report.Evidence{{Title: "step", Text: where + ": " + failed.Step.String()}},
		failed.Evidence...)
	if reason, ok := limitOf(env.Scenario.Name, failed, s.options.Target); ok {
		result.Result, result.Reason = report.KnownUpstream, reason
	}
}

// askCluster fails a scenario if the cluster itself had a problem meanwhile, and adds what the cluster knows about a
// failure.
func askCluster(ctx context.Context, c cluster.Cluster, result *report.Result) {
	runtime := cluster.RuntimeOf(c)
	if runtime == nil {
		return
	}
	if trouble := runtime.Trouble(); trouble != nil {
		if result.Result == report.Pass {
			result.Result, result.Reason = report.Fail, ""
		}
		result.Reason = errors.Join(errorOf(result.Reason), trouble).Error()
	}
	if result.Result != report.Fail {
		return
	}
	found := runtime.Evidence(context.WithoutCancel(ctx))
	for _, title := range slices.Sorted(maps.Keys(found)) {
		result.Evidence = append(result.Evidence, report.Evidence{Title: title, Text: cmp.Or(found[title], "nothing")})
	}
}

// errorOf returns a text as an error; nil if there is none.
func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}
