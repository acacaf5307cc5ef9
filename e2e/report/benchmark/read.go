package benchmark

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"

	"github.com/cnitest/cnitest/e2e/report"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (draft 2020-12) of the document, which cnitest bench schema prints.
func Schema() []byte { return bytes.Clone(schema) }

// ReadFile reads a document that WriteDir wrote. It is strict: another apiVersion or kind, and a missing or unknown
// field, are errors of one line that start with the file's name.
func ReadFile(path string) (*Benchmark, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func parse(data []byte) (*Benchmark, error) {
	var head struct {
		APIVersion, Kind string
		Suite            report.Suite
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("want a benchmark of cnitest in JSON: %w", report.Syntax(data, err))
	}
	switch {
	case head.Kind != Kind:
		return nil, fmt.Errorf("kind %q: want %s; is it a bench.json of cnitest bench?", head.Kind, Kind)
	case head.APIVersion != APIVersion:
		return nil, fmt.Errorf("apiVersion %q: want %s; it was written by cnitest %s, whose own bench command reads it",
			head.APIVersion, APIVersion, head.Suite.Version)
	}
	if err := report.Validate(schema, data); err != nil {
		return nil, err
	}
	b := &Benchmark{}
	return b, json.Unmarshal(data, b)
}
