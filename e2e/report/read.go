package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (draft 2020-12) of the document, which cnitest report schema prints.
func Schema() []byte { return bytes.Clone(schema) }

// format returns the format of reports.
func format() Format {
	return Format{
		APIVersion: APIVersion, Kind: Kind, Name: "report", File: "report.json of cnitest run", Command: "report",
		Schema: schema,
	}
}

// ReadFile reads a document that WriteFile wrote, as Format.ReadFile does. A path that leads out of the report's
// directory is an error, too.
func ReadFile(path string) (*Report, error) {
	r := &Report{}
	if err := format().ReadFile(path, r); err != nil {
		return nil, err
	}
	for _, res := range r.Results {
		for _, e := range res.Evidence {
			if e.File != "" && !filepath.IsLocal(e.File) {
				return nil, fmt.Errorf("%s: evidence of %s: file %q: want a path below the report's directory", path,
					res.ID, e.File)
			}
		}
	}
	return r, nil
}

// syntax adds the line to a syntax error of JSON, and says of a value of the wrong type what it is. Other errors stay
// as they are.
func syntax(data []byte, err error) error {
	var wrong *json.SyntaxError
	var other *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:wrong.Offset], []byte("\n")), err)
	case errors.As(err, &other):
		want := "a string"
		if other.Type.Kind() == reflect.Struct {
			want = "an object"
		}
		return fmt.Errorf("%s: want %s, got a value of the type %s", cmp.Or(other.Field, "document"), want, other.Value)
	}
	return err
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
