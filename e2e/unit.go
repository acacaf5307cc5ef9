package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Unit is one thing that a run can do: a scenario, or a requirement of one plugin.
type Unit struct {
	// ID is the id of the result. Plugin is the plugin of a requirement; empty for a scenario.
	ID, Plugin string
	// Labels are for filters.
	Labels []string

	scenario    *scenario.Scenario
	requirement *contract.Requirement
	subject     *contract.Subject
}

// Name distinguishes units.
func (u *Unit) Name() string {
	if u.Plugin == "" {
		return u.ID
	}
	return u.ID + " " + u.Plugin
}

// audits reports whether the unit looks at the calls of other units, and so must come after them.
func (u *Unit) audits() bool { return u.requirement != nil && u.requirement.Audits() }

// Units returns the selected scenarios in the order of their names, then the requirements of each plugin of the chain.
func (s *Suite) Units() []*Unit {
	var units []*Unit
	for _, sc := range s.scenarios {
		units = append(units, &Unit{ID: sc.Name, Labels: s.labels(sc), scenario: sc})
	}
	for _, r := range s.requirements {
		for _, subject := range s.subjects {
			if r.Of(subject.Role) && s.options.asks(r, subject.Type) {
				units = append(units, &Unit{
					ID: r.ID, Plugin: subject.Type, Labels: requirementLabels(r, subject),
					requirement: r, subject: subject,
				})
			}
		}
	}
	if token := s.options.Select.Replay; token != nil {
		units = slices.DeleteFunc(units, func(u *Unit) bool { return u.Plugin != token.Plugin() })
	}
	if s.repeats != nil {
		units = slices.DeleteFunc(units, func(u *Unit) bool { return !s.repeats.contains(u) })
	}
	return s.options.Select.Shard.of(units, s.podTakes)
}

// asks reports whether a requirement is asked of a plugin. Fault injection takes time, and only the authors of a plugin
// need to know how it survives that; a deep run also says what a power cut does to the plugins beside it.
func (o *Options) asks(r *contract.Requirement, plugin string) bool {
	underTest := slices.Contains(o.Plugins, plugin) ||
		r.Cases == contract.PowerCuts && (o.Select.Deep || o.Select.Replay != nil)
	return !r.Sweeps() || underTest && !o.Select.Quick
}

func requirementLabels(r *contract.Requirement, subject *contract.Subject) []string {
	level := report.Extended
	if r.Level == contract.Must || r.Level == contract.MustNot {
		level = report.Core
	}
	labels := []string{level, contractLabel, r.ID, subject.Type, string(subject.Role)}
	if r.Cases != "" {
		labels = append(labels, string(r.Cases))
	}
	return append(labels, r.Covers...)
}

// contractLabel is the label of all requirements.
const contractLabel = "contract"

func (s *Suite) labels(sc *scenario.Scenario) []string {
	labels := []string{report.Extended}
	if s.options.Profile.Core(sc) {
		labels[0] = report.Core
	}
	for _, f := range sc.Features {
		labels = append(labels, string(f))
	}
	return append(labels, sc.Covers...)
}

// Matching returns the selected units whose labels match an expression of Ginkgo's language; empty matches all. The
// error is one line.
func (s *Suite) Matching(labelFilter string) ([]*Unit, error) {
	matches, err := types.ParseLabelFilter(labelFilter)
	var reason types.GinkgoError
	switch {
	case errors.As(err, &reason):
		// Its first line repeats the expression and marks the place in colour.
		lines := strings.Split(strings.TrimSpace(reason.Message), "\n")
		return nil, fmt.Errorf("label filter %q: %s", labelFilter, strings.TrimSpace(lines[len(lines)-1]))
	case err != nil:
		return nil, fmt.Errorf("label filter %q: %w", labelFilter, err)
	}
	all := s.Units()
	found := slices.DeleteFunc(slices.Clone(all), func(u *Unit) bool { return !matches(u.Labels) })
	switch {
	case len(all) == 0:
		return nil, errors.New(s.nothingAsked())
	case len(found) == 0:
		return nil, fmt.Errorf("label filter %q matches none of %d scenarios and requirements; labels are features, "+
			"failure modes, core, extended, contract, and a requirement's id, plugin and role; --scenario takes names",
			labelFilter, len(all))
	}
	return found, nil
}

// nothingAsked says why nothing of what is selected is asked, and what to do about it.
func (s *Suite) nothingAsked() string {
	if shard := s.options.Select.Shard; shard.Of > 0 {
		return fmt.Sprintf("nothing that is selected falls to shard %s; make fewer shards", shard)
	}
	why := fmt.Sprintf("nothing that is selected is asked of the plugins under test (%s)",
		strings.Join(s.options.Plugins, ", "))
	if s.options.Select.Quick {
		return why + " in a quick run; leave out --quick"
	}
	return fmt.Sprintf("%s; name others of the chain with --plugin (%s)", why, strings.Join(s.file.Types(), ", "))
}

// RunUnit runs a unit and adds its result to the report, unless ctx ended before the result was known. A unit that
// fails while the machine is too busy runs a second time; the caller sees to it that no other unit runs meanwhile.
func (s *Suite) RunUnit(ctx context.Context, u *Unit) report.Result {
	return s.runUnit(ctx, u, s.doubts)
}

// runUnit runs a unit, and a second time if the first result is doubted.
func (s *Suite) runUnit(ctx context.Context, u *Unit, doubts func(*attempt) bool) report.Result {
	s.tellStarted(u)
	a := s.try(ctx, u, nil, false)
	if doubts(a) {
		a, _ = s.again(ctx, a, true)
	}
	return s.accept(a)
}

// unasked returns the units that audits need and that are not selected: the others of their plugins.
func (s *Suite) unasked(asked, audits []*Unit) []*Unit {
	var more []*Unit
	if s.obstacle != nil {
		return nil // all that look at them are blocked
	}
	for _, r := range contract.Requirements() {
		for _, subject := range s.subjects {
			audited := slices.ContainsFunc(audits, func(u *Unit) bool { return u.subject == subject })
			if !audited || !r.Checked() || r.Audits() || r.Sweeps() || !r.Of(subject.Role) {
				continue
			}
			if !slices.ContainsFunc(asked, func(u *Unit) bool { return u.subject == subject && u.ID == r.ID }) {
				more = append(more, &Unit{ID: r.ID, Plugin: subject.Type, requirement: r, subject: subject})
			}
		}
	}
	return more
}

// patience is about how long the unit takes if its plugin fails, which may be longer than otherwise. pod is how long a
// pod takes to come and to leave.
func (u *Unit) patience(pod time.Duration) time.Duration {
	switch {
	case u.scenario == nil && u.requirement.Long():
		return 10 * time.Second
	case u.scenario == nil:
		return 200 * time.Millisecond
	}
	var sum time.Duration
	for _, step := range u.scenario.Steps {
		sum += step.Takes()
	}
	if slices.ContainsFunc(u.scenario.Steps, func(s scenario.Step) bool { return s.Probe != nil }) {
		// A probe without an answer takes that long, and then no step follows.
		sum += 5 * time.Second
	}
	for _, p := range u.scenario.Pods {
		sum += time.Duration(max(1, p.Count)) * pod
	}
	return sum
}

// longestFirst orders units so that no long one runs alone at the end. Requirements fill the time in which scenarios
// wait. pod is how long a pod takes to come and to leave.
func longestFirst(units []*Unit, pod time.Duration) []*Unit {
	sorted := slices.Clone(units)
	slices.SortStableFunc(sorted, func(a, b *Unit) int { return cmp.Compare(b.patience(pod), a.patience(pod)) })
	return sorted
}

// choose returns the scenarios and requirements whose names match the pattern of the options.
func (o *Options) choose(
	scenarios []*scenario.Scenario, requirements []*contract.Requirement,
) ([]*scenario.Scenario, []*contract.Requirement, error) {
	if token := o.Select.Replay; token != nil {
		return nil, slices.DeleteFunc(slices.Clone(requirements), func(r *contract.Requirement) bool {
			return r.ID != token.Requirement()
		}), nil
	}
	if o.Select.Names == "" {
		return scenarios, requirements, nil
	}
	total := len(scenarios) + len(requirements)
	patterns := strings.Split(o.Select.Names, ",")
	found := make([]bool, len(patterns))
	matches := func(name string) (any bool) {
		for i, pattern := range patterns {
			// Scenarios are in lower case, requirements in upper case: 'del-*' selects the former, 'DEL-*' the latter.
			if ok, _ := path.Match(pattern, name); ok {
				found[i], any = true, true
			}
		}
		return any
	}
	scenarios = slices.DeleteFunc(slices.Clone(scenarios), func(s *scenario.Scenario) bool { return !matches(s.Name) })
	requirements = slices.DeleteFunc(slices.Clone(requirements), func(r *contract.Requirement) bool {
		return !matches(r.ID)
	})
	for i, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, nil, fmt.Errorf("scenario pattern %q: %w", pattern, err)
		}
		if !found[i] {
			return nil, nil,
				fmt.Errorf("scenario pattern %q matches none of %d scenarios and requirements; see `cnitest "+
					"list scenarios` and `cnitest list requirements`", pattern, total)
		}
	}
	return scenarios, requirements, nil
}
