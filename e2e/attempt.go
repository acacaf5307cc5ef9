package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/disturbance"
	"github.com/cnitest/cnitest/e2e/internal/timing"
	"github.com/cnitest/cnitest/e2e/report"
)

// attempt is one run of a unit. Its result is not in the report yet.
type attempt struct {
	unit   *Unit
	result report.Result
	// last says that no other run follows, however doubtful the result.
	last bool
	// known is false if ctx ended before the result was known.
	known bool
	// record says how the machine was disturbed during the run; nil if nothing was run.
	record *disturbance.Record
	found  disturbance.Finding
	// left says that something stayed on a node, or that no node could be compared.
	left bool
}

// attempt runs a unit once. last says that no other run follows, even if the result is doubtful.
func (s *Suite) attempt(ctx context.Context, u *Unit, last bool) *attempt {
	a := &attempt{unit: u, last: last}
	ctx, book := timing.With(ctx, u.Name())
	start := time.Now()
	if u.scenario != nil {
		s.runScenario(ctx, a)
	} else {
		s.checkRequirement(ctx, a)
	}
	a.result.DurationSeconds = seconds(time.Since(start))
	s.keepTimes(book)
	if a.record == nil {
		return a
	}
	if a.found = a.record.Finding(); a.found.Doubtful {
		a.result.Disturbed = a.found.Text
	}
	a.left = u.scenario != nil && s.residue.Left(u.scenario.Name)
	return a
}

// checkRequirement runs the check of an attempt's requirement, unless the requirement needs an attachment and none can
// be made.
func (s *Suite) checkRequirement(ctx context.Context, a *attempt) {
	r := a.unit.requirement
	a.result = report.Result{
		ID: a.unit.ID, Kind: "requirement", Plugin: a.unit.Plugin, Level: string(r.Level),
		Covers: slices.Clone(r.Covers),
	}
	a.known = ctx.Err() == nil
	if s.blocks(&a.result, !r.NeedsAttachment()) {
		return
	}
	var run context.Context
	run, a.record = disturbance.Begin(ctx)
	a.result = a.unit.subject.Check(run, r)
	// A failure that was seen before the end counts.
	a.known = ctx.Err() == nil || a.result.Result == report.Fail
}

// doubts reports whether a unit must run again: it did not succeed, and the machine may be the reason. A scenario that
// succeeded and left something behind is doubtful, too. A failure in the words of an earlier run is not, unless a
// control lost something: a machine does not fail twice in the same words.
func (s *Suite) doubts(a *attempt) bool {
	if !a.known || !a.found.Doubtful {
		return false
	}
	if a.left || !a.unsuccessful() {
		return a.left
	}
	return a.found.Lost || !s.failedAlike(&a.result)
}

// failedAlike reports whether the report of Options.Like has the same failure.
func (s *Suite) failedAlike(r *report.Result) bool {
	if s.options.Like == nil || r.Result != report.Fail && r.Result != report.Vacuous {
		return false
	}
	return slices.ContainsFunc(s.options.Like.Results, func(earlier report.Result) bool {
		return earlier.ID == r.ID && earlier.Plugin == r.Plugin && earlier.Result == r.Result &&
			mask(earlier.Reason) == mask(r.Reason)
	})
}

// believed returns what failed while the machine was busy, and ran once since it had failed in these words before.
func (s *Suite) believed() (names []string) {
	for _, r := range s.report.Results {
		if r.Disturbed != "" && r.FirstRun == nil && s.failedAlike(&r) {
			names = append(names, r.ID+" "+r.Plugin)
		}
	}
	return names
}

// unsuccessful reports whether a busy machine could have caused the result.
func (a *attempt) unsuccessful() bool {
	switch a.result.Result {
	case report.Fail, report.Vacuous:
		return true
	case report.Skipped:
		// A scenario is skipped if the machine lacks something, a requirement if something did not work.
		return a.result.LabFailed || a.unit.requirement != nil
	}
	return false
}

// again runs a doubtful unit a second time and returns the result of the second run. The caller sees to it that no
// other unit runs meanwhile. If the unit does not succeed and the machine is to blame again, the result says nothing
// about the plugin.
func (s *Suite) again(ctx context.Context, first *attempt) *attempt {
	s.forget(first)
	second := s.try(ctx, first.unit, true)
	if !second.known {
		return second
	}
	second.result.FirstRun = &report.FirstRun{
		Result: first.result.Result, Reason: first.reason(), Disturbed: first.found.Text,
	}
	if second.excused(first) && (second.left || second.unsuccessful()) {
		reason := "the machine was too busy: " + second.found.Text
		s.residue.Dismiss(first.unit.ID, reason)
		second.result.LabFails(fmt.Errorf("%s; what was seen: %s", reason, second.reason()))
	}
	if first.result.Result == second.result.Result && !s.report.Counts(second.result) {
		// The report contains both runs. A failure of a plugin that is not under test needs no note.
		return second
	}
	if first.result.Result == second.result.Result {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.repeated = append(s.repeated, first.unit.Name())
		return second
	}
	s.note("%s ran twice, the second time alone: %s at first (%s) while the machine was busy (%s), %s then",
		first.unit.Name(), first.result.Result, brief(first.reason()), first.found.Text, second.result.Result)
	return second
}

// excused reports whether the machine is to blame for the result of a second run: a control lost packets meanwhile, or
// timers and processors were very late and the first run failed in another way. A machine does not fail twice in the
// same words.
func (a *attempt) excused(first *attempt) bool {
	return a.found.Lost || a.found.Excused && mask(a.reason()) != mask(first.reason())
}

// varying matches what differs from run to run: hardware addresses, and numbers, also hexadecimal ones in names.
var varying = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b|[0-9a-f]*[0-9][0-9a-f]*`)

// mask replaces what differs in a reason from run to run.
func mask(reason string) string { return varying.ReplaceAllString(reason, "#") }

// reason returns why a unit did not succeed.
func (a *attempt) reason() string {
	if a.unsuccessful() || !a.left {
		return a.result.Reason
	}
	return "something stayed behind"
}

// brief returns the first part of a reason.
func brief(reason string) string {
	const most = 200
	line, _, _ := strings.Cut(reason, "\n")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + " …"
	}
	return line
}

// forget takes back what a run left in the suite, before the unit runs again.
func (s *Suite) forget(a *attempt) {
	if a.unit.scenario != nil {
		s.residue.Forget(a.unit.scenario.Name)
		s.dropCapture(a.unit.ID)
		return
	}
	a.unit.subject.Forget(a.record, a.unit.requirement)
}

// accept puts a result into the report, unless ctx ended before it was known.
func (s *Suite) accept(a *attempt) report.Result {
	if !a.known {
		s.dropCapture(a.unit.ID)
		return cutOff(a.result)
	}
	s.add(a.result)
	return a.result
}
