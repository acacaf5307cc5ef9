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
	"slices"
	"strings"

	"github.com/xeipuuv/gojsonschema"
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

// Validate compares a document with a JSON schema. Its error names the first mistake, an outer one before those inside.
// Formats are asserted, though a date-time may be a date or a time alone. Of drafts later than 7 it knows only what
// they share with it: it skips other keywords, and those beside a $ref.
func Validate(schema, data []byte) error {
	result, err := gojsonschema.Validate(gojsonschema.NewBytesLoader(schema), gojsonschema.NewBytesLoader(data))
	if err != nil || result.Valid() {
		return err
	}
	// The library goes through maps, so that the order of its mistakes changes.
	first := slices.MinFunc(result.Errors(), func(a, b gojsonschema.ResultError) int {
		one, other := a.Context().String(), b.Context().String()
		return cmp.Or(len(one)-len(other), cmp.Compare(one, other), cmp.Compare(a.Description(), b.Description()))
	})
	place := first.Field()
	if place == gojsonschema.STRING_CONTEXT_ROOT {
		place = "document"
	}
	switch property := first.Details()["property"]; first.Type() {
	case "required":
		return fmt.Errorf("%s: missing property %q", place, property)
	case "additional_property_not_allowed":
		return fmt.Errorf("%s: unknown property %q", place, property)
	}
	// The other sentences begin with a capital letter, or with the place.
	what := strings.TrimPrefix(first.Description(), first.Field()+" ")
	what = strings.ToLower(what[:1]) + what[1:]
	if got, err := json.Marshal(first.Value()); err == nil && len(got) <= 80 {
		what = fmt.Sprintf("got %s: %s", got, what)
	}
	return fmt.Errorf("%s: %s", place, what)
}
