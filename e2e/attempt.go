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
	// former is the run before, whose result was doubtful; nil for the first run.
	former *attempt
	// last says that no other run follows, however doubtful the result.
	last bool
	// known is false if ctx ended before the result was known.
	known bool
	// record says how the machine was disturbed during the run; nil if nothing was run.
	record *disturbance.Record
	found  disturbance.Finding
	// left says what stayed on a node, or why one could not be compared; empty if neither is so.
	left string
}

// attempt runs a unit once. former is the run before, if there was one; last says that no other run follows, even if
// the result is doubtful.
func (s *Suite) attempt(ctx context.Context, u *Unit, former *attempt, last bool) *attempt {
	a := &attempt{unit: u, former: former, last: last}
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
	if u.scenario != nil {
		a.left = s.residue.Left(u.scenario.Name)
	}
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
// succeeded and left something behind is doubtful, too.
func (s *Suite) doubts(a *attempt) bool {
	if !a.known || !a.found.Doubtful || a.left == "" && !a.unsuccessful() {
		return false
	}
	return !s.confirmed(a, a.found)
}

// confirmed reports whether a unit failed in the words of its run before, or of an earlier report, although the machine
// was busy: a machine does not fail twice in the same words. That is no proof if a control lost something, nor from two
// runs if no plugin could have done better.
func (s *Suite) confirmed(a *attempt, found disturbance.Finding) bool {
	if found.Lost {
		return false
	}
	if a.former != nil && !found.Excused && a.result.Result != report.Skipped &&
		a.result.Result == a.former.result.Result && a.failedLike(a.former) && mask(a.left) == mask(a.former.left) {
		return true
	}
	return a.left == "" && s.failedAlike(&a.result)
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

// again runs a doubtful unit once more and returns that run, and whether it is doubtful, too. last says that no other
// run follows: the caller sees to it that no other unit runs meanwhile. If the unit does not succeed then, and the
// machine is to blame again, the result says nothing about the plugin.
func (s *Suite) again(ctx context.Context, former *attempt, last bool) (next *attempt, doubtful bool) {
	s.forget(former)
	next = s.try(ctx, former.unit, former, last)
	if !next.known {
		return next, false
	}
	first := former.first()
	next.result.FirstRun = &report.FirstRun{
		Result: first.result.Result, Reason: first.reason(), Disturbed: first.found.Text,
	}
	switch {
	case !last && s.doubts(next):
		return next, true
	case last && next.excused(former) && (next.left != "" || next.unsuccessful()):
		reason := "the machine was too busy: " + next.found.Text
		s.residue.Dismiss(first.unit.ID, reason)
		next.result.LabFails(fmt.Errorf("%s; what was seen: %s", reason, next.reason()))
	}
	s.tellAgain(first, next)
	return next, false
}

// tellAgain notes that a unit ran more than once.
func (s *Suite) tellAgain(first, last *attempt) {
	if first.result.Result != last.result.Result {
		how := "again"
		if last.last {
			how = "again, alone"
		}
		s.note("%s ran %s: %s at first (%s) while the machine was busy (%s), %s then",
			first.unit.Name(), how, first.result.Result, brief(first.reason()), first.found.Text, last.result.Result)
		return
	}
	if !s.report.Counts(last.result) {
		// The report contains both runs. A failure of a plugin that is not under test needs no note.
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repeated = append(s.repeated, first.unit.Name())
}

// first returns the first run of the unit.
func (a *attempt) first() *attempt {
	for a.former != nil {
		a = a.former
	}
	return a
}

// excused reports whether the machine is to blame for the result of the last run: a control lost packets meanwhile, or
// timers and processors were very late and each run before failed in another way. A machine does not fail twice in the
// same words.
func (a *attempt) excused(former *attempt) bool {
	if a.found.Lost || !a.found.Excused {
		return a.found.Lost
	}
	for ; former != nil; former = former.former {
		if a.failedLike(former) {
			return false
		}
	}
	return true
}

// failedLike reports whether two runs failed in the same words.
func (a *attempt) failedLike(other *attempt) bool { return mask(a.reason()) == mask(other.reason()) }

// varying matches what differs from run to run: hardware addresses, and numbers, also hexadecimal ones in names.
var varying = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b|[0-9a-f]*[0-9][0-9a-f]*`)

// mask replaces what differs in a reason from run to run.
func mask(reason string) string { return varying.ReplaceAllString(reason, "#") }

// reason returns why a unit did not succeed.
func (a *attempt) reason() string {
	if a.unsuccessful() || a.left == "" {
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
