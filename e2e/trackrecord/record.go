// Package trackrecord is the table of defects that users of CNI plugins met and that the plugins' authors mended, each
// with what this suite says of the version that has it and of the one that has not. It builds these versions and checks
// the table.
//
// The versions are those that the Go module proxy serves; the modules in versions/ pin them with all that they need.
//
// Check the table: make track-record. Run the tests of its form: go test ./e2e/trackrecord
package trackrecord

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/scenarios"
)

//go:embed schema.json
var schema []byte

// Record is the table.
type Record struct {
	Defects []Defect `yaml:"defects"`
}

// Defect is one row. Exactly one of Caught, Missed and Untestable is set.
type Defect struct {
	// Name is unique, and selects the row on the command line.
	Name string `yaml:"name"`
	// Kind is what users see of it; kinds says how.
	Kind string `yaml:"kind"`
	// What went wrong for users, in a sentence.
	What string `yaml:"what"`
	// Sources are the issues, pull requests (OWNER/REPOSITORY#NUMBER) and commits (OWNER/REPOSITORY@HASH) about it.
	Sources []string `yaml:"sources"`
	// Plugin is the type of the plugin that had it.
	Plugin string `yaml:"plugin"`
	// Of is the project, whose versions are directories of versions/: plugins or amazon.
	Of string `yaml:"of"`
	// Bad is the last version here that has it, Fixed the first that has not.
	Bad    string  `yaml:"bad"`
	Fixed  string  `yaml:"fixed"`
	Caught *Check  `yaml:"caught,omitempty"`
	Missed *Missed `yaml:"missed,omitempty"`
	// Untestable says what no machine of this suite has, or why neither version can be run.
	Untestable string `yaml:"untestable,omitempty"`
}

// Check is how the suite catches a defect.
type Check struct {
	// ID is the scenario or requirement that fails on the bad version, and passes on the fixed one.
	ID string `yaml:"id"`
	// Conflist is a file of net.d, without its extension.
	Conflist string `yaml:"conflist"`
	// Of is the plugin that the result is about, report.Chain for the chain as a whole; empty means that of the defect.
	Of string `yaml:"of,omitempty"`
	// Tested is the plugin of the chain that is under test; Load sets it: the one that the result is about, and for
	// others the last of the chain.
	Tested string `yaml:"-"`
	// types are those of the plugins in the chain, with the ones that they delegate to; Load sets them.
	types []string
	// Green is the version that passes, if the fixed one has another defect that fails the same id.
	Green string `yaml:"green,omitempty"`
	// Learned says that the check was added or made stronger because of this defect.
	Learned bool `yaml:"learned,omitempty"`
	// With are further programs: plugins that the scenario adds to the chain, and those of the target file.
	With []string `yaml:"with,omitempty"`
	// Flags are further flags of cnitest run.
	Flags []string `yaml:"flags,omitempty"`
	// Program and Kernel are what a machine may lack: a program of PATH, and a feature of the kernel. A machine without
	// them runs neither version.
	Program string `yaml:"program,omitempty"`
	Kernel  string `yaml:"kernel,omitempty"`
	// Says is a part of the reason for which the bad version fails.
	Says string `yaml:"says"`
}

// Missed is why no scenario and no requirement fails on the bad version.
type Missed struct {
	Why string `yaml:"why"`
	// Would is what would catch it.
	Would string `yaml:"would"`
}

// Load reads record.yaml of a directory. Its error joins all mistakes: in the form, and versions, ids and conflists
// that do not exist.
func Load(dir string) (*Record, error) {
	file := filepath.Join(dir, "record.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	kind := strictyaml.Kind{Noun: "track record", Start: "defects:"}
	if _, problems := kind.Decode(data, r); problems != nil {
		return nil, strictyaml.Join(file, problems)
	}
	if err := validate(data); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	seen := map[string]bool{}
	var errs []error
	for i := range r.Defects {
		d := &r.Defects[i]
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("%s: %s is there twice", file, d.Name))
		}
		seen[d.Name] = true
		for _, err := range d.mistakes(dir) {
			errs = append(errs, fmt.Errorf("%s: %s: %w", file, d.Name, err))
		}
	}
	return r, errors.Join(errs...)
}

// validate compares the table with its schema.
func validate(data []byte) error {
	var document any
	if err := yaml.Unmarshal(data, &document); err != nil {
		return err
	}
	encoded, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return report.Validate(schema, encoded)
}

// mistakes returns what the schema cannot say: versions, ids and files that do not exist.
func (d *Defect) mistakes(dir string) []error {
	var errs []error
	for _, version := range d.versions() {
		if _, err := os.Stat(filepath.Join(dir, d.module(version), "go.mod")); err != nil {
			errs = append(errs, err)
		}
	}
	if d.Bad == d.Fixed {
		errs = append(errs, fmt.Errorf("version %s both has it and has it not", d.Bad))
	}
	if d.Caught == nil {
		return errs
	}
	if !slices.Contains(ids(), d.Caught.ID) {
		errs = append(errs, fmt.Errorf("no scenario and no requirement is named %q", d.Caught.ID))
	}
	if err := d.readChain(d.Caught.file(dir)); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// readChain sets what the conflist says of the check.
func (d *Defect) readChain(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var chain struct {
		Plugins []struct {
			Type string
			IPAM struct{ Type string }
		}
	}
	if err := json.Unmarshal(data, &chain); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	d.Caught.types = slices.Clone(d.Caught.With)
	for _, p := range chain.Plugins {
		d.Caught.types = append(d.Caught.types, p.Type)
		if p.IPAM.Type != "" {
			d.Caught.types = append(d.Caught.types, p.IPAM.Type)
		}
		if d.Caught.Tested != d.under() {
			d.Caught.Tested = p.Type
		}
	}
	return nil
}

// green is the version that must pass.
func (d *Defect) green() string {
	if d.Caught.Green != "" {
		return d.Caught.Green
	}
	return d.Fixed
}

// versions are those that a check runs.
func (d *Defect) versions() []string {
	if d.Caught == nil {
		return nil
	}
	return []string{d.Bad, d.green()}
}

// module is the directory of the module that pins the plugins of a version.
func (d *Defect) module(version string) string { return filepath.Join("versions", d.Of+"-"+version) }

// under is the plugin that the result is about.
func (d *Defect) under() string {
	if d.Caught.Of != "" {
		return d.Caught.Of
	}
	return d.Plugin
}

func (c *Check) file(dir string) string { return filepath.Join(dir, "net.d", c.Conflist+".conflist") }

// ids are the names of all scenarios, requirements and sweeps.
func ids() []string {
	var all []string
	for _, r := range contract.Requirements() {
		all = append(all, r.ID)
	}
	files, err := fs.Glob(scenarios.Files, "*.yaml")
	if err != nil {
		panic(err) // The pattern is wrong.
	}
	for _, file := range files {
		all = append(all, strings.TrimSuffix(file, ".yaml"))
	}
	return append(all, "first-attachment", "leaves-nothing")
}
