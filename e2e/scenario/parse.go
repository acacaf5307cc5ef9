package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
)

// Load reads every *.yaml file at the root of files, in the order of the scenarios' names. Its error joins those of all
// files; it also returns the scenarios without mistakes.
func Load(files fs.FS) ([]*Scenario, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("scenarios: list files: %w", err)
	}
	all, err := parseAll(names, func(name string) ([]byte, error) { return fs.ReadFile(files, name) })
	slices.SortFunc(all, func(a, b *Scenario) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// LoadFiles reads scenario files, and every *.yaml file of directories, in the order of paths. The File of a scenario
// is its path. The error joins those of all files.
func LoadFiles(paths ...string) ([]*Scenario, error) {
	var all []*Scenario
	var errs []error
	for _, name := range paths {
		files, err := scenarioFiles(name)
		parsed, parseErr := parseAll(files, os.ReadFile)
		all, errs = append(all, parsed...), append(errs, err, parseErr)
	}
	return all, errors.Join(errs...)
}

// parseAll parses files, and returns the scenarios without mistakes beside the error.
func parseAll(names []string, read func(name string) ([]byte, error)) (all []*Scenario, err error) {
	var errs []error
	for _, name := range names {
		data, err := read(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("scenarios: %w", err))
			continue
		}
		s, err := Parse(name, data)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, s)
	}
	return all, errors.Join(errs...)
}

// scenarioFiles returns the path of a file, or those of the scenarios in a directory.
func scenarioFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".yaml" {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("scenarios: %s has no file *.yaml", name)
	}
	return files, nil
}

// Parse reads and validates one scenario. file is its name in messages, and its base name must be the scenario's name.
//
// Its error joins every mistake as "file:line: what; how to mend", in the order of the lines. If there are mistakes of
// form (syntax, unknown fields, values of the wrong type), the meaning is not checked.
func Parse(file string, data []byte) (*Scenario, error) {
	s := &Scenario{File: file, Source: data}
	lines, problems := form().Decode(data, s)
	if problems != nil {
		return nil, strictyaml.Join(file, problems)
	}
	for i := range s.Steps {
		s.Steps[i].Line = lines.Of(fmt.Sprintf("steps[%d]", i))
	}
	if problems := validate(s, path.Base(file), lines); problems != nil {
		return nil, strictyaml.Join(file, problems)
	}
	return s, nil
}

// form returns the form of a scenario file.
func form() strictyaml.Kind {
	return strictyaml.Kind{
		Noun: "scenario", Start: "apiVersion: " + APIVersion, Words: map[string]string{"HostPort": "hostPorts"},
	}
}

// CheckCovers returns an error like that of Parse for each id in Covers that is not among the known ones.
func (s *Scenario) CheckCovers(known []string) error {
	lines, problems := form().Decode(s.Source, &Scenario{})
	for i, id := range s.Covers {
		if !slices.Contains(known, id) {
			problems = append(problems, strictyaml.Problem{
				Line: lines.Of(fmt.Sprintf("covers[%d]", i)),
				Text: fmt.Sprintf("no failure mode or requirement has the id %s; %s", id, strictyaml.Meant(id, known)),
			})
		}
	}
	return strictyaml.Join(s.File, problems)
}
