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
	// ID is what scenarios and requirements name in their covers, e.g. "A01".
	ID string `yaml:"id"`
	// Symptom is what users saw.
	Symptom string `yaml:"symptom"`
	// Backends are those that can show it.
	Backends []string `yaml:"backends"`
	// Seen is where it was reported.
	Seen []string `yaml:"seen"`
	// Uncovered says why nothing covers it although a machine without a cluster could show it; empty where something
	// does.
	Uncovered string `yaml:"uncovered"`
}

//go:embed failure-modes.yaml
var failureModes []byte

// FailureModes are all that are known, in the order of their ids.
func FailureModes() ([]FailureMode, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(failureModes))
	decoder.KnownFields(true)
	var all []FailureMode
	if err := decoder.Decode(&all); err != nil {
		return nil, fmt.Errorf("failure modes: %w", err)
	}
	return all, nil
}

// Covering are the requirements that would catch a failure mode, or stand for one of the specification.
func Covering(id string) []*Requirement {
	return slices.DeleteFunc(Requirements(), func(r *Requirement) bool { return !slices.Contains(r.Covers, id) })
}

// IDs returns the ids that may stand in covers: those of all failure modes, then those of all requirements.
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
