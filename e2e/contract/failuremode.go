package contract

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// FailureMode is a way in which plugins failed their users.
type FailureMode struct {
	// ID is the id that scenarios and requirements name in covers, e.g. "A01".
	ID string `yaml:"id"`
	// Symptom says what users saw.
	Symptom string `yaml:"symptom"`
	// Backends are the backends that can show it.
	Backends []string `yaml:"backends"`
	// Seen says where it was reported.
	Seen []string `yaml:"seen"`
	// Uncovered says why nothing covers it although a machine without a cluster could show it; empty if something
	// covers it.
	Uncovered string `yaml:"uncovered"`
}

//go:embed failure-modes.yaml
var failureModes []byte

// FailureModes returns all known failure modes, in the order of their ids.
func FailureModes() ([]FailureMode, error) {
	return readTable[FailureMode]("failure modes", failureModes)
}

// readTable reads an embedded table in YAML, whose rows have no unknown keys.
func readTable[T any](what string, data []byte) ([]T, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var all []T
	if err := decoder.Decode(&all); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return all, nil
}

// Covering returns the requirements that would notice a failure mode, or that represent one of the specification.
func Covering(id string) []*Requirement {
	return slices.DeleteFunc(Requirements(), func(r *Requirement) bool { return !slices.Contains(r.Covers, id) })
}

// IDs returns the ids that may occur in covers: those of all failure modes, then those of all requirements.
func IDs() ([]string, error) {
	modes, err := FailureModes()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range modes {
		ids = append(ids, m.ID)
	}
	for _, r := range Requirements() {
		ids = append(ids, r.ID)
	}
	return ids, nil
}
