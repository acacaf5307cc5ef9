package expectation

import (
	"fmt"
	"os"
	"slices"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// Load reads an expectation file.
func Load(file string) (*Expectation, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}

// Parse reads and validates an expectation file; file is its name in messages. Its error joins every mistake as
// "file:line: what; how to mend", in the order of the lines. It does not check that ids exist, which differs between
// versions of the suite.
func Parse(file string, data []byte) (*Expectation, error) {
	kind := strictyaml.Kind{Noun: "expectation", Start: "apiVersion: " + scenario.APIVersion}
	e := &Expectation{file: file}
	lines, problems := kind.Decode(data, e)
	if problems != nil {
		return nil, strictyaml.Join(file, problems)
	}
	wrong := func(path, format string, args ...any) {
		problems = append(problems, strictyaml.Problem{Line: lines.Of(path), Text: fmt.Sprintf(format, args...)})
	}
	if e.APIVersion != scenario.APIVersion {
		wrong("apiVersion", "unknown apiVersion %q; write apiVersion: %s", e.APIVersion, scenario.APIVersion)
	}
	if e.Kind != Kind {
		wrong("kind", "unknown kind %q; write kind: %s", e.Kind, Kind)
	}
	if e.Profile != "" && !slices.Contains(scenario.Profiles(), e.Profile) {
		wrong("profile", "unknown profile %q; write one of %v", e.Profile, scenario.Profiles())
	}
	for i, feature := range e.Features {
		if feature.Meaning() == "" {
			wrong(fmt.Sprintf("features[%d]", i), "unknown feature %q; cnitest list features names all", feature)
		}
	}
	seen := map[string]bool{}
	for i, d := range e.Deviations {
		at := fmt.Sprintf("deviations[%d]", i)
		if len(d.IDs) == 0 {
			wrong(at, "deviation has no ids; name scenarios or requirements, e.g. ids: [GC-1, host-to-pod]")
		}
		if d.Result != report.Fail && d.Result != report.Vacuous {
			wrong(at+".result", "result %q is none that counts against a plugin; write %s or %s", d.Result, report.Fail,
				report.Vacuous)
		}
		if d.Reason == "" {
			wrong(at, "deviation has no reason; say why it is no pass")
		}
		for j, id := range d.IDs {
			if name := name(id, d.plugin()); seen[name] {
				wrong(fmt.Sprintf("%s.ids[%d]", at, j), "%s is there twice; remove one of the two", name)
			} else {
				seen[name] = true
			}
		}
	}
	if problems != nil {
		return nil, strictyaml.Join(file, problems)
	}
	return e, nil
}
