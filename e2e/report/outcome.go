package report

import (
	"fmt"
	"slices"
	"strings"
)

// Outcomes returns all outcomes in the order in which they are counted: those that count for the verdict first.
func Outcomes() []Outcome {
	return []Outcome{Pass, Fail, Vacuous, Blocked, Skipped, NotApplicable, NotClaimed, KnownUpstream}
}

// Meaning returns what a reader of a report must know about an outcome.
func (o Outcome) Meaning() string {
	switch o {
	case Pass:
		return "what was asked for was seen"
	case Fail:
		return "something else was seen than what was asked for"
	case Vacuous:
		return "the plugin answers success and never notices anything; counts as a failure where the specification " +
			"says MUST"
	case Skipped:
		return "this machine lacks something that is needed to find out"
	case Blocked:
		return "needs what failed already, and says nothing by itself; no pass"
	case NotApplicable:
		return "cannot exist here by nature, such as GC before CNI 1.1.0"
	case NotClaimed:
		return "a feature beyond the profile that nobody claims; not run"
	case KnownUpstream:
		return "forced by a library or an upstream plugin in the chain; does not count"
	}
	return ""
}

// Symbol distinguishes outcomes without colours.
func (o Outcome) Symbol() string {
	switch o {
	case Pass:
		return "✓"
	case Fail:
		return "✗"
	case Vacuous:
		return "∅"
	case Skipped:
		return "↷"
	case Blocked:
		return "⊘"
	case KnownUpstream:
		return "↑"
	case NotApplicable:
		return "–"
	}
	return "○"
}

// meaning returns the verdict as a sentence.
func (v Verdict) meaning() string {
	switch v {
	case Conformant:
		return "Everything that counts for the plugins under test passed."
	case Partial:
		return "Nothing that counts failed, and something that counts could not be run or was left out."
	case NotConformant:
		return "Something that counts for the plugins under test failed."
	case EnvUnfit:
		return "This machine or its network could not run the plugins: nothing is said of them."
	}
	return ""
}

// failures returns the results that count for the verdict, scenarios first.
func (r *Report) failures() []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(res Result) bool {
		return !r.Counts(res) || !res.failed()
	})
}

// with returns the results of an outcome, without failures and findings.
func (r *Report) with(o Outcome) []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(res Result) bool {
		return res.Result != o || res.failed() || o == Vacuous && !r.Counts(res)
	})
}

// verdictWords returns the verdict as a sentence.
func (r *Report) verdictWords() string {
	if r.AboutRuntime() {
		return strings.ReplaceAll(r.Verdict.meaning(), "the plugins", "the "+r.what())
	}
	return r.Verdict.meaning()
}

// what returns the word for what was tested.
func (r *Report) what() string {
	if r.AboutRuntime() {
		return "runtime"
	}
	return "plugin"
}

// Chain returns the plugins in a line.
func (r *Report) Chain() string {
	var types []string
	for _, p := range r.Implementation.Plugins {
		types = append(types, p.Type)
	}
	return strings.Join(types, " + ")
}

// underTest returns the plugins that the verdict is about, in a line.
func (r *Report) underTest() string {
	var types []string
	for _, p := range r.Implementation.Plugins {
		if p.UnderTest {
			types = append(types, p.Type)
		}
	}
	return strings.Join(types, ", ")
}

// Tally counts the results in a line: "3 pass, 1 fail, and 2 about plugins that are not under test".
func (r *Report) Tally() string {
	var parts []string
	for _, o := range Outcomes() {
		if n := r.Count(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	if n := len(r.Findings()); n > 0 {
		parts = append(parts, fmt.Sprintf("and %d about plugins that are not under test", n))
	}
	if parts == nil {
		return "no results"
	}
	return strings.TrimPrefix(strings.Join(parts, ", "), "and ")
}

// Name returns the name of a result for people, unique in its report: its id, and for a requirement the plugin that was
// asked, "DEL-4 macvlan". The plugin of a scenario's result is the one whose call failed, and is not part of the name.
func (r Result) Name() string {
	if r.Kind == "scenario" || r.Plugin == Chain {
		return r.ID
	}
	return r.ID + " " + r.Plugin
}

// whose says who publishes the plugins under test, "Project v1.2 of Organization"; empty if nobody said it.
func (i Implementation) whose() string {
	text := strings.TrimSpace(i.Project + " " + i.Version)
	switch {
	case i.Organization == "":
		return text
	case text == "":
		return i.Organization
	}
	return text + " of " + i.Organization
}
