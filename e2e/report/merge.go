package report

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Part is the report of a shard, with the name by which people know it.
type Part struct {
	Name   string
	Report *Report
}

// Merge puts the reports of all shards of a run together. Its error names each shard that is missing or there twice,
// and what was not the same in all of them.
func Merge(parts []Part) (*Report, error) {
	if err := whole(parts); err != nil {
		return nil, err
	}
	if err := alike(parts); err != nil {
		return nil, err
	}
	slices.SortFunc(parts, func(a, b Part) int { return cmp.Compare(a.number(), b.number()) })
	merged := *parts[0].Report
	merged.Results, merged.Scores, merged.CallTimes, merged.Residue, merged.FailureModes = nil, nil, nil, nil, nil
	merged.Figures = nil
	merged.DurationSeconds, merged.Notes = 0, nil
	if merged.Runs != nil {
		merged.Runs = &Runs{Count: merged.Runs.Count}
	}
	for _, part := range parts {
		merged.add(part.Report)
	}
	slices.SortStableFunc(merged.Results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Plugin, b.Plugin))
	})
	slices.SortFunc(merged.FailureModes, func(a, b FailureMode) int { return cmp.Compare(a.ID, b.ID) })
	inputs := *merged.Inputs
	inputs.Shard, inputs.Shards = "", len(parts)
	merged.Inputs = &inputs
	inputs.SHA256 = merged.InputsSum()
	merged.Digest = ""
	merged.Verdict = merged.Judge()
	for _, part := range parts {
		if part.Report.Verdict == EnvUnfit {
			merged.Verdict = EnvUnfit
		}
	}
	return &merged, nil
}

// number is K of K/N; 0 for a report that is no shard.
func (p Part) number() int { k, _ := p.shard(); return k }

// shard returns K and N.
func (p Part) shard() (number, of int) {
	if p.Report.Inputs == nil {
		return 0, 0
	}
	k, n, _ := strings.Cut(p.Report.Inputs.Shard, "/")
	number, _ = strconv.Atoi(k)
	of, _ = strconv.Atoi(n)
	return number, of
}

// whole returns an error unless the reports are the shards 1/N to N/N, each once.
func whole(parts []Part) error {
	if len(parts) == 0 {
		return errors.New("want the reports of all shards of a run, got none")
	}
	var errs []error
	there := map[int]string{}
	_, of := parts[0].shard()
	for _, part := range parts {
		k, n := part.shard()
		switch {
		case k == 0:
			errs = append(errs, fmt.Errorf("%s: is the report of a whole run, and no shard", part.Name))
		case n != of:
			errs = append(errs, fmt.Errorf("%s: is shard %d/%d, and %s is one of %d", part.Name, k, n, parts[0].Name,
				of))
		case there[k] != "":
			errs = append(errs, fmt.Errorf("%s: is shard %d/%d, and so is %s", part.Name, k, n, there[k]))
		default:
			there[k] = part.Name
		}
	}
	if errs != nil {
		return errors.Join(errs...)
	}
	for k := 1; k <= of; k++ {
		if there[k] == "" {
			errs = append(errs, fmt.Errorf("shard %d/%d is missing", k, of))
		}
	}
	return errors.Join(errs...)
}

// alike returns an error unless the reports are about the same question, asked of the same binaries by the same suite.
func alike(parts []Part) error {
	var errs []error
	for _, part := range parts[1:] {
		for _, what := range Unlike(parts[0].Report, part.Report) {
			errs = append(errs, fmt.Errorf("%s: %s than in %s", part.Name, what, parts[0].Name))
		}
	}
	return errors.Join(errs...)
}

// Unlike lists what of two runs was not the same, each as "another conflist (…, not …)".
func Unlike(a, b *Report) []string {
	var found []string
	compare := func(what, x, y string) {
		if x != y {
			found = append(found, fmt.Sprintf("another %s (%s, not %s)", what, brief(y), brief(x)))
		}
	}
	compare("number of runs", a.runs(), b.runs())
	compare("version of cnitest", a.Suite.Version, b.Suite.Version)
	compare("profile", a.Profile, b.Profile)
	compare("backend", a.Backend, b.Backend)
	compare("cniVersion", a.Implementation.CNIVersion, b.Implementation.CNIVersion)
	compare("set of plugins", a.Chain(), b.Chain())
	compare("set of plugins under test", a.underTest(), b.underTest())
	for _, p := range a.Implementation.Plugins {
		for _, q := range b.Implementation.Plugins {
			if p.Type == q.Type {
				compare("binary of "+p.Type, p.SHA256, q.SHA256)
			}
		}
	}
	if x, y := a.Inputs, b.Inputs; x != nil && y != nil {
		compare("set of scenarios and requirements", x.Questions, y.Questions)
		compare("selection", cmp.Or(x.Selection, "everything"), cmp.Or(y.Selection, "everything"))
		compare("set of files", names(x.Files), names(y.Files))
		for _, f := range x.Files {
			for _, g := range y.Files {
				if f.Name == g.Name {
					compare(f.Name, f.SHA256, g.SHA256)
				}
			}
		}
	}
	if found == nil && a.InputsSum() != b.InputsSum() {
		found = []string{"another command line or target"}
	}
	return found
}

func (r *Report) runs() string {
	if r.Runs == nil {
		return "1"
	}
	return strconv.Itoa(r.Runs.Count)
}

func sameFlake(a, b Flake) bool { return a.ID == b.ID && a.Plugin == b.Plugin }

// sameResidue leaves the change out: a file has another content on each machine.
func sameResidue(a, b Residue) bool { return a.Item == b.Item && a.Plugin == b.Plugin }

func sameMode(a, b FailureMode) bool { return a.ID == b.ID }

// union returns a and those of b that are not the same as one of a.
func union[T any](a, b []T, same func(T, T) bool) []T {
	all := slices.Clone(a)
	for _, item := range b {
		if !slices.ContainsFunc(all, func(other T) bool { return same(other, item) }) {
			all = append(all, item)
		}
	}
	return all
}

func names(files []InputFile) string {
	var all []string
	for _, f := range files {
		all = append(all, f.Name)
	}
	return strings.Join(all, ", ")
}

// brief shortens hashes.
func brief(text string) string {
	if len(text) == 64 {
		return text[:12]
	}
	return cmp.Or(text, "none")
}

// add adds what a shard found.
func (r *Report) add(shard *Report) {
	r.DurationSeconds += shard.DurationSeconds
	if shard.Started.Before(r.Started) {
		r.Started = shard.Started
	}
	r.Interrupted = r.Interrupted || shard.Interrupted
	if shard.Runs != nil && r.Runs != nil {
		r.Runs = &Runs{
			Count:  min(r.Runs.Count, shard.Runs.Count),
			Flakes: union(r.Runs.Flakes, shard.Runs.Flakes, sameFlake),
		}
	}
	for _, res := range shard.Results {
		i := slices.IndexFunc(r.Results, func(other Result) bool { return other.key() == res.key() })
		switch {
		case i < 0:
			r.Results = append(r.Results, res)
		case gravity(res.Result) > gravity(r.Results[i].Result):
			// The first attachment and what is left on nodes are results of each shard.
			r.Results[i] = res
		}
	}
	for _, score := range shard.Scores {
		r.addScore(score)
	}
	for _, times := range shard.CallTimes {
		r.addTimes(times)
	}
	for _, figure := range shard.Figures {
		r.KeepFigure(figure)
	}
	r.Residue = union(r.Residue, shard.Residue, sameResidue)
	r.FailureModes = union(r.FailureModes, shard.FailureModes, sameMode)
	own := "the verdict is that of shard "
	for _, note := range shard.Notes {
		if !slices.Contains(r.Notes, note) && !strings.HasPrefix(note, own) {
			r.Notes = append(r.Notes, note)
		}
	}
	if note := "a shard ran on Linux " + shard.Kernel; shard.Kernel != r.Kernel && !slices.Contains(r.Notes, note) {
		r.Notes = append(r.Notes, note)
	}
}

// addScore adds what CHECK or STATUS noticed in a shard.
func (r *Report) addScore(score Score) {
	i := slices.IndexFunc(r.Scores, func(s Score) bool { return s.Plugin == score.Plugin && s.Verb == score.Verb })
	if i < 0 {
		r.Scores = append(r.Scores, score)
		return
	}
	s := &r.Scores[i]
	s.Noticed, s.Provoked, s.Missed = s.Noticed+score.Noticed, s.Provoked+score.Provoked,
		slices.Concat(s.Missed, score.Missed)
}

// addTimes keeps the row of the shard that measured beside a plugin that does nothing, else that of the most calls:
// medians cannot be added.
func (r *Report) addTimes(times CallTime) {
	i := slices.IndexFunc(r.CallTimes, func(c CallTime) bool {
		return c.Plugin == times.Plugin &&
			c.Verb == times.Verb
	})
	switch {
	case i < 0:
		r.CallTimes = append(r.CallTimes, times)
	case times.Paired != nil && r.CallTimes[i].Paired == nil,
		(times.Paired != nil) == (r.CallTimes[i].Paired != nil) && times.Calls > r.CallTimes[i].Calls:
		r.CallTimes[i] = times
	}
}
