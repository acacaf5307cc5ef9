package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Runs says how often everything was run, for a report about more than one run.
type Runs struct {
	Count int `json:"count"`
	// Flakes are the results that were not the same in each run. The report has the worst of each.
	Flakes []Flake `json:"flakes"`
}

// Flake is a result that differs from run to run.
type Flake struct {
	ID     string `json:"id"`
	Plugin string `json:"plugin"`
	// Outcomes says how many runs had which outcome, in the order of Outcomes.
	Outcomes []FlakeOutcome `json:"outcomes"`
}

// FlakeOutcome is the number of runs with an outcome; an empty one stands for no result.
type FlakeOutcome struct {
	Result Outcome `json:"result"`
	Runs   int     `json:"runs"`
}

// Certainty says in a sentence how sure the report is.
func (r *Report) Certainty() string {
	var again int
	for _, res := range r.Results {
		if res.FirstRun != nil {
			again++
		}
	}
	text := "one run"
	switch {
	case r.Runs != nil && len(r.Runs.Flakes) == 0:
		text = fmt.Sprintf("%d runs, the same %d results each time", r.Runs.Count, len(r.Results))
	case r.Runs != nil:
		var flakes []string
		for _, f := range r.Runs.Flakes {
			flakes = append(flakes, f.String())
		}
		text = fmt.Sprintf("%d runs, in which %d of %d results differed: %s", r.Runs.Count, len(flakes), len(r.Results),
			strings.Join(flakes, ", "))
	case r.Inputs != nil && r.Inputs.Shards > 0:
		text = fmt.Sprintf("one run, in %d shards", r.Inputs.Shards)
	}
	if again > 0 {
		text += fmt.Sprintf("; %d of the results come from a second try, since the machine was too busy for the first",
			again)
	}
	return text
}

// String is "host-to-pod (pass 19 times, fail once)".
func (f Flake) String() string {
	var parts []string
	for _, o := range f.Outcomes {
		times := fmt.Sprintf("%d times", o.Runs)
		if o.Runs == 1 {
			times = "once"
		}
		parts = append(parts, string(cmp.Or(o.Result, "absent"))+" "+times)
	}
	name := Result{ID: f.ID, Plugin: f.Plugin}.Name()
	if f.Plugin == "" {
		name = f.ID
	}
	return fmt.Sprintf("%s (%s)", name, strings.Join(parts, ", "))
}

// Repeated returns the report of several runs that asked the same: the first one, with the worst of the results that
// differ, and with their number. dirs are the directories of their reports below that of the new one.
func Repeated(runs []*Report, dirs []string) *Report {
	combined := *runs[0]
	combined.Results, combined.Runs = nil, &Runs{Count: len(runs), Flakes: []Flake{}}
	for _, r := range runs[1:] {
		combined.DurationSeconds += r.DurationSeconds
	}
	results := map[string][]Result{}
	var names []string
	for i, r := range runs {
		for _, res := range r.Results {
			res.Evidence = slices.Clone(res.Evidence)
			for j, e := range res.Evidence {
				if e.File != "" {
					res.Evidence[j].File = path.Join(dirs[i], e.File)
				}
			}
			name := res.key()
			if results[name] == nil {
				names = append(names, name)
			}
			results[name] = append(results[name], res)
		}
	}
	for _, name := range names {
		all := results[name]
		combined.Results = append(combined.Results, slices.MaxFunc(all, func(a, b Result) int {
			return gravity(a.Result) - gravity(b.Result)
		}))
		flake := Flake{ID: all[0].ID}
		if all[0].Kind != "scenario" {
			flake.Plugin = all[0].Plugin
		}
		counts := map[Outcome]int{"": len(runs) - len(all)}
		for _, res := range all {
			counts[res.Result]++
		}
		for _, o := range append(Outcomes(), "") {
			if counts[o] > 0 {
				flake.Outcomes = append(flake.Outcomes, FlakeOutcome{o, counts[o]})
			}
		}
		if len(flake.Outcomes) > 1 {
			combined.Runs.Flakes = append(combined.Runs.Flakes, flake)
		}
	}
	if !slices.ContainsFunc(runs, func(r *Report) bool { return r.Verdict == EnvUnfit }) {
		combined.Verdict = combined.Judge()
	}
	return &combined
}

// key distinguishes the results of a report, for scenarios whichever plugin is to blame.
func (r Result) key() string { return r.Kind + " " + r.Name() }

// gravity orders outcomes from those that say least against a plugin.
func gravity(o Outcome) int {
	return slices.Index([]Outcome{NotApplicable, NotClaimed, KnownUpstream, Pass, Skipped, Blocked, Vacuous, Fail}, o)
}
