package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// unfit ends a run that is not possible on this machine, with a report that says so.
func (s *Suite) unfit(reason error) error {
	s.report.Verdict = report.EnvUnfit
	s.report.Notes = append(s.report.Notes, reason.Error())
	s.report.DurationSeconds = seconds(time.Since(s.started))
	if err := s.tellInputs(); err != nil {
		return err
	}
	if s.options.ReportDir == "" {
		return nil
	}
	return s.report.WriteDir(s.options.ReportDir)
}

// featurePrefix starts the ids of results about features that no scenario tests.
const featurePrefix = "feature-"

// untested returns results for the features that a conformant plugin needs and this run did not look at: what was not
// tested must not count as conformance.
func (s *Suite) untested() []report.Result {
	if s.selection != "" {
		return nil
	}
	var results []report.Result
	for _, f := range s.options.Profile.Features() {
		if slices.ContainsFunc(s.scenarios, func(sc *scenario.Scenario) bool {
			return slices.Contains(sc.Features, f)
		}) {
			continue
		}
		results = append(results, report.Result{
			ID: featurePrefix + string(f), Kind: "requirement", Plugin: report.Chain, Level: report.Core,
			Result: report.Skipped, Covers: []string{},
			Reason: fmt.Sprintf("profile %s demands %s, and no scenario tests it", s.options.Profile, f),
		})
	}
	return results
}

// scores returns the scores of a plugin, CHECK first.
func scores(subject *contract.Subject) []report.Score {
	var list []report.Score
	for _, verb := range []cni.Verb{cni.Check, cni.Status} {
		score := subject.Scores()[verb]
		if score == nil {
			continue
		}
		s := report.Score{
			Plugin: subject.Type, Verb: string(verb), Noticed: score.Noticed(), Provoked: len(score.Provocations),
		}
		for _, p := range score.Provocations {
			if !p.Noticed {
				s.Missed = append(s.Missed, p.What)
			}
		}
		slices.Sort(s.Missed)
		list = append(list, s)
	}
	return list
}

// interrupt notes in the report that only a part of the units ran.
func (s *Suite) interrupt(cause error, units []*Unit) {
	s.interrupted = true
	s.note("%v after %d of %d scenarios and requirements", cause, len(s.report.Results), len(units))
}

// keepResidue puts what a first attachment leaves into the report, whoever found it.
func (s *Suite) keepResidue() {
	found, known := s.residue.Known()
	s.report.Residue = append(s.report.Residue, found...)
	if !known && s.unfound != nil {
		s.note("what a first attachment leaves is not known: %v", s.unfound)
	}
}

// Finish adds the results that are known only at the end, sets the verdict, and writes the report if the options say
// so. It is called once.
func (s *Suite) Finish() (*report.Report, error) {
	for _, result := range append(s.leavesNothing(), s.untested()...) {
		if result.ID == leavesNothingID {
			s.blocks(&result, false)
		}
		s.add(result)
	}
	s.keepResidue()
	if len(s.subjects) > 0 {
		s.report.CallTimes = s.times.Table(s.file.Types(), s.subjects[0].Series)
	}
	for _, subject := range s.subjects {
		s.report.Scores = append(s.report.Scores, scores(subject)...)
		_ = subject.Close()
	}
	r := &s.report
	if s.selection != "" {
		r.Notes = append(r.Notes, "the verdict is that of a selection of scenarios: "+s.selection)
	}
	if shard := s.options.Select.Shard; shard.Of > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("the verdict is that of shard %s; cnitest report merge has that of all",
			shard))
	}
	if believed := s.believed(); len(believed) > 0 {
		r.Notes = append(r.Notes, "failed in the words of the earlier run, and ran once though the machine was busy: "+
			strings.Join(slices.Sorted(slices.Values(believed)), ", "))
	}
	if len(s.repeated) > 0 {
		r.Notes = append(r.Notes,
			"ran again, since the machine was busy, with the same result: "+
				strings.Join(s.repeated, ", "))
	}
	if s.options.Select.Quick {
		r.Notes = append(r.Notes, "a quick run: no plugin was killed or failed at every call (KILL-ADD to FAIL-GC), "+
			"no two calls took turns (RACE-ADD-ADD to RACE-DEL-STATUS), and no power failed (POWER-ADD to POWER-GC)")
	}
	if main := s.file.Plugins[0]; !s.options.Select.Quick && slices.Equal(s.options.Plugins, []string{main.IPAM}) {
		r.Notes = append(r.Notes, fmt.Sprintf("no call of %[1]s was killed, failed or made to take turns (KILL-*, "+
			"FAIL-*, RACE-*): that is asked of a plugin with what it delegates to, by --plugin %[2]s,%[1]s",
			main.IPAM, main.Type))
	}
	slices.SortStableFunc(r.Results, func(a, b report.Result) int { return compareResults(a, b) })
	r.DurationSeconds = seconds(time.Since(s.started))
	if err := s.explainResults(); err != nil {
		return nil, err
	}
	r.Interrupted = s.interrupted
	r.Verdict = r.Judge()
	if err := s.tellInputs(); err != nil {
		return nil, err
	}
	if s.options.ReportDir == "" {
		return r, nil
	}
	return r, errors.Join(r.WriteDir(s.options.ReportDir), r.WriteEvidence(s.options.ReportDir, s.captures))
}
