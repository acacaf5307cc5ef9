// Package matrix puts reports about versions of plugins side by side: which requirement and scenario passed in which
// version, what came with a version and what went. It renders this as a page, as Markdown and as JSON, and runs
// nothing.
//
// Run its tests: go test ./e2e/report/matrix
package matrix

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/cnitest/cnitest/e2e/report"
)

// APIVersion and Kind identify the document.
const (
	APIVersion = report.APIVersion
	Kind       = "ConformanceMatrix"
)

// Matrix is the document.
type Matrix struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Plugins    []Plugin `json:"plugins"`
	// Notes say what is not in it.
	Notes []string `json:"notes"`
}

// Plugin is a plugin with its versions.
type Plugin struct {
	// Name is the type of the plugin, or of the plugins that were under test together.
	Name string `json:"name"`
	// Chain has all plugins of the reports' chains, and Profile is that of the reports. Both are empty for a plugin
	// that was never under test, such as an IPAM plugin.
	Chain   string `json:"chain,omitempty"`
	Profile string `json:"profile,omitempty"`
	// Versions are from the oldest to the newest.
	Versions []Version `json:"versions"`
	Rows     []Row     `json:"rows"`
	// Changes are between a version and the next one.
	Changes []Change `json:"changes"`
}

// Version is a version of a plugin.
type Version struct {
	Version    string `json:"version"`
	CNIVersion string `json:"cniVersion"`
	// Verdict is that of the report; empty for a plugin that was not under test.
	Verdict report.Verdict `json:"verdict,omitempty"`
	// Counts says how many results have which outcome.
	Counts map[report.Outcome]int `json:"counts"`
	// Report is the directory of the report, relative to the matrix; Suite is the version of cnitest that wrote it.
	Report string `json:"report"`
	Suite  string `json:"suite"`

	source *report.Report
}

// Row is a scenario or requirement.
type Row struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Level string `json:"level"`
	Title string `json:"title"`
	// Outcomes are those of the versions, in their order; empty where the report has no such result.
	Outcomes []report.Outcome `json:"outcomes"`
}

// These are what can happen to a result with a version.
const (
	// Went: it failed, and had not failed before.
	Went = "went"
	// Came: it passed, and had failed, or could not be asked.
	Came = "came"
	// Asked: it could not be asked before, as GC before CNI 1.1.0, and failed.
	Asked = "asked"
)

// Change is a result that is better or worse in the next version.
type Change struct {
	// From and To are the versions.
	From   string         `json:"from"`
	To     string         `json:"to"`
	ID     string         `json:"id"`
	Title  string         `json:"title"`
	Before report.Outcome `json:"before"`
	After  report.Outcome `json:"after"`
	// What is Went, Came or Asked.
	What string `json:"what"`
	// Reason is that of the failure.
	Reason string `json:"reason,omitempty"`
}

// Source is a report and where it is.
type Source struct {
	// Dir is the directory of the report as it is linked.
	Dir    string
	Report *report.Report
	// Version is a version of the plugins under test whose programs are those of the report's version; empty means that
	// version itself.
	Version string
}

// version is the version that the report stands for.
func (s Source) version() string { return cmp.Or(s.Version, versionOf(s.Report)) }

// New puts reports side by side. Two reports about the same version of a plugin in the same chain and profile are an
// error, and so are reports about runtimes and about machines that could run nothing.
func New(sources []Source) (*Matrix, error) {
	m := &Matrix{APIVersion: APIVersion, Kind: Kind, Plugins: []Plugin{}, Notes: []string{}}
	var errs []error
	seen := map[string]string{}
	for _, s := range sources {
		r := s.Report
		switch {
		case r.AboutRuntime():
			errs = append(errs, fmt.Errorf("%s: is about a runtime, and not about plugins", s.Dir))
			continue
		case r.Inputs != nil && r.Inputs.Shard != "":
			errs = append(errs, fmt.Errorf("%s: is shard %s of a run: merge all shards first", s.Dir, r.Inputs.Shard))
			continue
		case r.Verdict == report.EnvUnfit:
			m.Notes = append(m.Notes, fmt.Sprintf("%s %s could not be run: %s", underTest(r), s.version(),
				strings.Join(r.Notes, "; ")))
			continue
		}
		name := strings.Join([]string{underTest(r), r.Chain(), r.Profile, s.version()}, " ")
		if other := seen[name]; other != "" {
			errs = append(errs, fmt.Errorf("%s: is about %s %s in profile %s, and so is %s", s.Dir, underTest(r),
				s.version(), r.Profile, other))
			continue
		}
		seen[name] = s.Dir
		m.add(s)
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	m.addOthers(sources)
	for i := range m.Plugins {
		m.Plugins[i].compare()
	}
	slices.SortFunc(m.Plugins, func(a, b Plugin) int {
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Chain, b.Chain),
			cmp.Compare(a.Profile, b.Profile))
	})
	return m, nil
}

// first puts plugins that were under test before others.
func first(p Plugin) int {
	if p.Profile == "" {
		return 1
	}
	return 0
}

// add adds a report as a version of the plugins under test.
func (m *Matrix) add(s Source) {
	r := s.Report
	v := Version{
		Version: s.version(), CNIVersion: r.Implementation.CNIVersion, Verdict: r.Verdict,
		Counts: map[report.Outcome]int{}, Report: s.Dir, Suite: r.Suite.Version, source: r,
	}
	m.plugin(underTest(r), r.Chain(), r.Profile).take(v, func(res report.Result) bool { return r.Counts(res) })
}

// addOthers adds what reports say of plugins that are never under test: of each version what the first report says.
func (m *Matrix) addOthers(sources []Source) {
	tested := map[string]bool{}
	for _, s := range sources {
		for _, p := range s.Report.Implementation.Plugins {
			tested[p.Type] = tested[p.Type] || p.UnderTest
		}
	}
	for _, s := range sources {
		if s.Report.Verdict == report.EnvUnfit {
			continue
		}
		for _, p := range s.Report.Implementation.Plugins {
			about := func(res report.Result) bool { return res.Plugin == p.Type && res.Kind == "requirement" }
			if tested[p.Type] || p.Version == "" || !slices.ContainsFunc(s.Report.Results, about) {
				continue
			}
			plugin := m.plugin(p.Type, "", "")
			if slices.ContainsFunc(plugin.Versions, func(v Version) bool { return v.Version == p.Version }) {
				continue
			}
			plugin.take(Version{
				Version: p.Version, CNIVersion: s.Report.Implementation.CNIVersion, Counts: map[report.Outcome]int{},
				Report: s.Dir, Suite: s.Report.Suite.Version, source: s.Report,
			}, about)
		}
	}
}

// plugin returns the plugin of a name, in a chain and profile, and adds it if it is not there.
func (m *Matrix) plugin(name, chain, profile string) *Plugin {
	i := slices.IndexFunc(m.Plugins, func(p Plugin) bool {
		return p.Name == name && p.Chain == chain && p.Profile == profile
	})
	if i < 0 {
		m.Plugins = append(m.Plugins, Plugin{Name: name, Chain: chain, Profile: profile, Changes: []Change{}})
		i = len(m.Plugins) - 1
	}
	return &m.Plugins[i]
}

// take adds a version with the results that are about the plugin.
func (p *Plugin) take(v Version, about func(report.Result) bool) {
	only := *v.source
	only.Results = nil
	for _, res := range v.source.Results {
		if about(res) {
			only.Results = append(only.Results, res)
			v.Counts[res.Result]++
		}
	}
	v.source = &only
	p.Versions = append(p.Versions, v)
}

// compare sorts the versions, and sets rows and changes.
func (p *Plugin) compare() {
	slices.SortStableFunc(p.Versions, func(a, b Version) int {
		return cmp.Or(semver.Compare(a.Version, b.Version), cmp.Compare(a.Version, b.Version))
	})
	at := map[string]int{}
	for i, v := range p.Versions {
		for _, res := range v.source.Results {
			name := p.nameOf(res)
			if _, known := at[name]; !known {
				at[name] = len(p.Rows)
				p.Rows = append(p.Rows, Row{ID: name, Outcomes: make([]report.Outcome, len(p.Versions))})
			}
			row := &p.Rows[at[name]]
			row.Kind, row.Level, row.Title, row.Outcomes[i] = res.Kind, res.Level, res.Title, res.Result
		}
		if i > 0 {
			p.change(p.Versions[i-1], v)
		}
	}
	slices.SortStableFunc(p.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.ID, b.ID))
	})
}

// nameOf is the name of a result in the plugin's table, which needs not repeat the plugin.
func (p *Plugin) nameOf(res report.Result) string {
	if res.Plugin == p.Name {
		return res.ID
	}
	return res.Name()
}

// firstAttachment is a result that is listed only if it failed.
const firstAttachment = "first-attachment"

// change lists what came and what went from one version to the next: what failed, and what passes now and did not.
func (p *Plugin) change(from, to Version) {
	before, after := results(from), results(to)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(before.names, after.names)))) {
		old, now := before.of(name), after.of(name)
		if old.ID == "" || now.ID == "" || old.Result == now.Result {
			continue
		}
		c := Change{
			From: from.Version, To: to.Version, ID: p.nameOf(now), Title: now.Title, Before: old.Result,
			After: now.Result, Reason: now.Reason,
		}
		switch {
		case failed(now) && old.Result == report.NotApplicable:
			c.What = Asked
		case failed(now) && (!failed(old) || old.Result == report.Vacuous) && old.Result != report.Skipped &&
			old.Result != report.Blocked:
			c.What = Went
		case now.Result == report.Pass && (failed(old) || old.Result == report.NotApplicable ||
			old.Result == report.KnownUpstream):
			c.What, c.Title, c.Reason = Came, old.Title, old.Reason
		default:
			continue // What could not be found out in one of them did neither.
		}
		p.Changes = append(p.Changes, c)
	}
}

// byName has the results of a report.
type byName struct {
	names []string
	all   map[string]report.Result
}

func results(v Version) byName {
	b := byName{all: map[string]report.Result{}}
	for _, res := range v.source.Results {
		name := res.Name()
		if res.ID == firstAttachment {
			name = firstAttachment
		}
		b.names, b.all[name] = append(b.names, name), res
	}
	return b
}

// of returns the result of a name; its id is empty if there is none.
func (b byName) of(name string) report.Result {
	res, ok := b.all[name]
	if !ok && name == firstAttachment {
		return report.Result{
			ID: firstAttachment, Kind: "requirement", Plugin: report.Chain, Result: report.Pass,
			Title: "A pod is attached as the conflist says.",
		}
	}
	return res
}

func failed(res report.Result) bool { return res.Result == report.Fail || res.Result == report.Vacuous }

// underTest lists the plugins that the verdict is about.
func underTest(r *report.Report) string {
	var types []string
	for _, p := range r.Implementation.Plugins {
		if p.UnderTest {
			types = append(types, p.Type)
		}
	}
	return strings.Join(types, " + ")
}

// versionOf is the version of the project, else of the first plugin under test, else the start of its hash.
func versionOf(r *report.Report) string {
	if v := r.Implementation.Version; v != "" {
		return v
	}
	for _, p := range r.Implementation.Plugins {
		if p.UnderTest && p.Version != "" {
			return p.Version
		}
	}
	for _, p := range r.Implementation.Plugins {
		if p.UnderTest && len(p.SHA256) > 12 {
			return "sha256:" + p.SHA256[:12]
		}
	}
	return "unknown"
}
