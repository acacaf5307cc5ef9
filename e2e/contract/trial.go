package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/report"
)

// trial is one check of one requirement on one plugin at one version.
type trial struct {
	subject     *Subject
	requirement *Requirement
	version     string

	mu     sync.Mutex
	wrongs []wrong
	closer []io.Closer
	notes  []string
	seen   bool // an audit saw what it looks for
	// tally counts the cases of a check that has many; nil before.
	tally *tally
	// over reports whether the run has ended: a deviation that is seen later may come from that. nil means never.
	over func() bool
}

// wrong is a deviation from the requirement.
type wrong struct {
	text     string
	version  string
	known    string // why no plugin could do better; empty if one can
	evidence []report.Evidence
}

// wrong reports a deviation, with the calls that show it.
func (t *trial) wrong(calls []cni.Call, format string, args ...any) {
	var refused, evidence []report.Evidence
	text := fmt.Sprintf(format, args...)
	for _, c := range calls {
		explanation := t.subject.explanation(c)
		if end := summary(c); strings.Contains(text, end) {
			// It is about how the call ended, and not about what it said.
			text = strings.Replace(text, end, end+explanation.Reason(), 1)
		}
		refused = append(refused, explanation.Evidence()...)
		evidence = append(
			evidence,
			report.Evidence{Title: fmt.Sprintf("%s %s at CNI %s", c.Plugin, c.Verb, t.version), Text: c.Transcript()},
		)
	}
	t.deviation(append(refused, evidence...), text)
}

// deviation reports a deviation with other evidence than calls.
func (t *trial) deviation(evidence []report.Evidence, text string) {
	t.knownDeviation(evidence, text, knownOf(t.subject, t.requirement.ID, text))
}

// knownDeviation does the same, and says why no plugin could do better; empty if one can.
func (t *trial) knownDeviation(evidence []report.Evidence, text, known string) {
	if t.over != nil && t.over() {
		return
	}
	w := wrong{text: text, version: t.version, known: known, evidence: evidence}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrongs = append(t.wrongs, w)
}

// note adds a note about a plugin that passes.
func (t *trial) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// notApplicableError means that a requirement does not apply to a plugin, whatever it does.
type notApplicableError string

func (e notApplicableError) Error() string { return string(e) }

func notApplicable(format string, args ...any) error {
	return notApplicableError(fmt.Sprintf(format, args...))
}

// startError is the error of a cluster that could not be made.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

// labFailed reports whether the lab, and not the plugin, caused an error.
func labFailed(err error) bool {
	var start startError
	return errors.As(err, &start) || errors.Is(err, agent.ErrEnded)
}

// addError is an ADD that failed although nothing was wrong; where calls are timed, also another call.
type addError struct{ call cni.Call }

func (e *addError) Error() string { return string(e.call.Verb) + ": " + summary(e.call) }

// needed says that a requirement needs the call, and which one is about its failure.
func (e *addError) needed() string {
	switch e.call.Verb {
	case cni.Check:
		return "a CHECK that it needs fails, see CHK-6"
	case cni.Del:
		return "a DEL that it needs fails, see DEL-1"
	}
	return "an ADD that it needs fails, see ADD-2"
}

func asAddError(err error) (*addError, bool) {
	var failed *addError
	return failed, errors.As(err, &failed)
}

// vacuousError means that a verb succeeds whatever is wrong.
type vacuousError string

func (e vacuousError) Error() string { return string(e) }

// Check checks whether a plugin meets a requirement. The result is complete except for its duration. If ctx ends before
// the check, it is a failure if one was seen before, and otherwise says nothing about the plugin.
func (s *Subject) Check(ctx context.Context, r *Requirement) report.Result {
	result := report.Result{
		ID: r.ID, Kind: "requirement", Plugin: s.Type, Level: string(r.Level), Result: report.Pass,
		Covers: slices.Clone(r.Covers),
	}
	s.judge(ctx, r, &result)
	return result
}

func (s *Subject) judge(ctx context.Context, r *Requirement, result *report.Result) {
	if !r.Of(s.Role) {
		result.Result, result.Reason = report.NotApplicable,
			fmt.Sprintf("%s is a plugin of the kind %s, and this concerns %v", s.Type, s.Role, r.Roles)
		return
	}
	if err := s.Discover(ctx); err != nil {
		result.Result, result.Reason = report.Skipped, err.Error()
		var silent *versionError
		switch {
		case labFailed(err):
			result.LabFails(err)
		case errors.As(err, &silent) && silent.plugin == s.Type:
			result.Result = report.Fail
		}
		return
	}
	versions := slices.DeleteFunc(slices.Clone(s.versions), func(v string) bool {
		return r.Since != "" && !atLeast(v, r.Since)
	})
	if len(versions) == 0 {
		result.Result, result.Reason = report.NotApplicable, fmt.Sprintf("it came with CNI %s, and %s supports %s",
			r.Since, s.Type, s.newest())
		return
	}
	switch {
	case r.audit != nil:
		s.audit(r, result)
	case r.each:
		s.try(ctx, r, versions, result)
	default:
		s.try(ctx, r, versions[len(versions)-1:], result)
	}
}

// audit examines the calls that other checks made.
func (s *Subject) audit(r *Requirement, result *report.Result) {
	t := &trial{subject: s, requirement: r}
	for _, c := range s.observed() {
		t.version = c.version
		r.audit(t, c)
	}
	if !t.seen {
		result.Result, result.Reason = report.NotApplicable, "no call gave an opportunity to check it"
		return
	}
	conclude(result, t.wrongs, nil)
}

// try runs the check at each of the versions, until it cannot run.
func (s *Subject) try(ctx context.Context, r *Requirement, versions []string, result *report.Result) {
	var wrongs []wrong
	var notes []string
	for _, v := range versions {
		t := &trial{subject: s, requirement: r, version: v, over: func() bool { return ctx.Err() != nil }}
		err := t.run(ctx)
		if ctx.Err() != nil {
			t.stops()
			if wrongs = append(wrongs, t.wrongs...); len(wrongs) > 0 {
				break
			}
		}
		if failed, ok := asAddError(err); ok && r.ID != "ADD-2" {
			if s.occupied(failed.call) {
				result.Result, result.Reason = report.NotApplicable, s.file.OnePod()
				return
			}
			result.Result, result.Reason = report.Skipped,
				fmt.Sprintf("%s: at CNI %s: %s", failed.needed(), v, summary(failed.call))
			return
		}
		var na notApplicableError
		var unfit *cluster.UnfitError
		var vacuous vacuousError
		switch {
		case errors.As(err, &na):
			result.Result, result.Reason = report.NotApplicable, string(na)
			return
		case errors.As(err, &vacuous):
			result.Result, result.Reason = report.Vacuous, string(vacuous)
			return
		case errors.As(err, &unfit):
			result.LacksOf(err.Error(), unfit.Lacks)
			return
		case labFailed(err):
			result.LabFails(fmt.Errorf("at CNI %s: %w", v, err))
			return
		case err != nil:
			result.Result, result.Reason = report.Skipped, fmt.Sprintf("at CNI %s: %v", v, err)
			return
		}
		wrongs, notes = append(wrongs, t.wrongs...), append(notes, t.notes...)
	}
	conclude(result, wrongs, notes)
}

// run runs the check and closes what it opened.
func (t *trial) run(ctx context.Context) error {
	defer t.close(ctx)
	if cluster.IsExclusive(t.subject.lab.Backend) {
		// A check may need the lifecycle after it has started a cluster, which making the lifecycle would end. The
		// check itself judges whether it works.
		_, _ = t.lifecycle(ctx)
	}
	return t.requirement.check(ctx, t)
}

func (t *trial) close(ctx context.Context) {
	for _, c := range t.closer {
		if made, ok := c.(cluster.Cluster); ok {
			disturbance.Of(ctx).Ask(context.WithoutCancel(ctx), made)
		}
		_ = timing.Close(ctx, timing.Lab, c)
	}
}

// evidenceShown bounds the number of deviations that are shown: the first ones explain the others.
const evidenceShown = 4

// conclude sets the result from all deviations. It is no failure if no plugin with this library could avoid the
// deviation.
func conclude(result *report.Result, wrongs []wrong, notes []string) {
	if len(wrongs) == 0 {
		slices.Sort(notes)
		result.Reason = strings.Join(slices.Compact(notes), "; ")
		return
	}
	own := slices.DeleteFunc(slices.Clone(wrongs), func(w wrong) bool { return w.known != "" })
	if len(own) == 0 {
		result.Result = report.KnownUpstream
		result.Reason = wrongs[0].text + ": " + wrongs[0].known
		return
	}
	result.Result = report.Fail
	type deviation struct {
		text     string
		versions []string
	}
	var list []deviation
	for _, w := range own {
		i := slices.IndexFunc(list, func(d deviation) bool { return d.text == w.text })
		if i < 0 {
			list = append(list, deviation{text: w.text})
			i = len(list) - 1
		}
		if !slices.Contains(list[i].versions, w.version) {
			list[i].versions = append(list[i].versions, w.version)
		}
		if len(result.Evidence) < evidenceShown {
			result.Evidence = append(result.Evidence, w.evidence...)
		}
	}
	first := list[0]
	result.Reason = fmt.Sprintf("%s (CNI %s)", first.text, strings.Join(first.versions, ", "))
	if len(list) > 1 {
		result.Reason += fmt.Sprintf("; and %d more", len(list)-1)
		var lines []string
		for _, d := range list {
			lines = append(lines, fmt.Sprintf("%s (CNI %s)", d.text, strings.Join(d.versions, ", ")))
		}
		result.Evidence = append([]report.Evidence{{Title: "all deviations", Text: strings.Join(lines, "\n")}},
			result.Evidence...)
	}
}

// observed returns the calls that the checks made.
func (s *Subject) observed() []observedCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}
