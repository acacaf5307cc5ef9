package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (draft 2020-12) of the document, which cnitest report schema prints.
func Schema() []byte { return bytes.Clone(schema) }

// ReadFile reads a document that WriteFile wrote. It is strict: another apiVersion or kind, a missing or unknown field,
// and a path that leads out of the report's directory are errors of one line that start with the file's name.
func ReadFile(path string) (*Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func parse(data []byte) (*Report, error) {
	var head struct {
		APIVersion, Kind string
		Suite            Suite
	}
	// json.Unmarshal refuses anything after the document, too.
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("want a report of cnitest in JSON: %w", Syntax(data, err))
	}
	switch {
	case head.Kind != Kind:
		return nil, fmt.Errorf("kind %q: want %s; is it a report.json of cnitest run?", head.Kind, Kind)
	case head.APIVersion != APIVersion:
		return nil, fmt.Errorf("apiVersion %q: want %s; it was written by cnitest %s, whose own report command reads "+
			"it", head.APIVersion, APIVersion, head.Suite.Version)
	}
	if err := Validate(schema, data); err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	for _, res := range r.Results {
		for _, e := range res.Evidence {
			if e.File != "" && !filepath.IsLocal(e.File) {
				return nil, fmt.Errorf("evidence of %s: file %q: want a path below the report's directory", res.ID,
					e.File)
			}
		}
	}
	return r, nil
}

// Syntax adds the line to a syntax error of JSON; other errors stay as they are.
func Syntax(data []byte, err error) error {
	var wrong *json.SyntaxError
	if !errors.As(err, &wrong) {
		return err
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:wrong.Offset], []byte("\n")), err)
}

// Validate compares a document with a JSON schema. Its error names the first mistake.
func Validate(schema, data []byte) error {
	compiled, err := compileSchema(schema)
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	var invalid *jsonschema.ValidationError
	if err := compiled.Validate(document); !errors.As(err, &invalid) {
		return err
	}
	for len(invalid.Causes) > 0 {
		invalid = invalid.Causes[0]
	}
	place := strings.Join(invalid.InstanceLocation, ".")
	if place == "" {
		place = "document"
	}
	return fmt.Errorf("%s: %s", place, invalid.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
}

func compileSchema(schema []byte) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	const name = "report.schema.json"
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(name, document); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
}
