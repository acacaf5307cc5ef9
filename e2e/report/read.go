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
		switch other.Type.Kind() {
		case reflect.Struct:
			want = "an object"
		case reflect.Float64:
			want = "a number that fits into 64 bits"
		}
		return fmt.Errorf("%s: want %s, got a value of the type %s", cmp.Or(other.Field, "document"), want, other.Value)
	}
	return err
}

// Validate compares a document with a JSON schema. Its error names one mistake, always the same: one as far out as
// there is. Formats are asserted, though a date-time may be a date or a time alone. Of drafts later than 7 it knows
// only what they share with it: it skips other keywords, and those beside a $ref.
func Validate(schema, data []byte) error {
	var document any // the library takes more than one, and makes no number of 1e2000000
	if err := json.Unmarshal(data, &document); err != nil {
		return syntax(data, err)
	}
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
	return fmt.Errorf("%s: %s", place, mistake(first))
}

// mistake says what is wrong at a place.
func mistake(e gojsonschema.ResultError) string {
	details := e.Details()
	switch e.Type() {
	case "required":
		return fmt.Sprintf("missing property %q", details["property"])
	case "additional_property_not_allowed":
		return fmt.Sprintf("unknown property %q", details["property"])
	case "invalid_type":
		return fmt.Sprintf("want a value of the type %s, got %s", details["expected"], details["given"])
	}
	// The other sentences begin with a capital letter, or with the place.
	what := strings.TrimPrefix(e.Description(), e.Field()+" ")
	what = strings.ToLower(what[:1]) + what[1:]
	var got bytes.Buffer
	encoder := json.NewEncoder(&got)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e.Value()); err == nil && got.Len() <= 80 {
		what = fmt.Sprintf("got %s: %s", bytes.TrimSpace(got.Bytes()), what)
	}
	return what
}
