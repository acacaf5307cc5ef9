package benchmark

import (
	"bytes"
	_ "embed"

	"github.com/cnitest/cnitest/e2e/report"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (draft 2020-12) of the document, which cnitest bench schema prints.
func Schema() []byte { return bytes.Clone(schema) }

// format returns the format of benchmarks.
func format() report.Format {
	return report.Format{
		APIVersion: APIVersion, Kind: Kind, Name: "benchmark", File: "bench.json of cnitest bench", Command: "bench",
		Schema: schema,
	}
}

// ReadFile reads a document that WriteDir wrote. It is as strict as report.Format.ReadFile.
func ReadFile(path string) (*Benchmark, error) {
	b := &Benchmark{}
	if err := format().ReadFile(path, b); err != nil {
		return nil, err
	}
	return b, nil
}
