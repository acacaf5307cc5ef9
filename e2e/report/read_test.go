package report_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
)

// TestReadFile_bad reads files that have one mistake each; the error is beside them.
func TestReadFile_bad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %q, %v, want files", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			_, err = report.ReadFile(file)
			if err == nil {
				t.Fatal("got no error")
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		const want = "open testdata/nothing.json: no such file or directory"
		if _, err := report.ReadFile("testdata/nothing.json"); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// optional are the fields that WriteFile leaves out if they are empty, by object.
var optional = []string{
	"lab", "results.why", "results.reason", "results.repeat", "results.evidence", "results.evidence.file",
	"lab.hosts.behind", "callTimes", "callTimes.paired", "callTimes.paired.growth",
	"implementation.organization", "implementation.project", "implementation.url", "implementation.version",
	"implementation.contact", "interrupted", "runs", "inputs", "inputs.selection", "inputs.quick", "inputs.shard",
	"inputs.shards", "digest", "figures", "figures.worstSeconds", "figures.limitSeconds",
}

// accepted reports whether ReadFile accepts a document.
func accepted(t *testing.T, document any) bool {
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = report.ReadFile(file)
	return err == nil
}

// TestSchema removes each field from a document that has all of them, gives each field another kind of value, and adds
// a field to each object.
func TestSchema(t *testing.T) {
	data, err := os.ReadFile("testdata/full.json")
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	accepts := func() bool { return accepted(t, document) }
	if !accepts() {
		t.Fatal("the document itself is refused")
	}
	tried := 0
	var visit func(path []string, value any)
	visit = func(path []string, value any) {
		switch value := value.(type) {
		case []any:
			for _, item := range value {
				visit(path, item)
			}
		case map[string]any:
			value["surprise"] = 1
			if accepts() {
				t.Errorf("%s: an unknown field is accepted", strings.Join(path, "."))
			}
			delete(value, "surprise")
			for _, name := range slices.Sorted(maps.Keys(value)) {
				inside := append(slices.Clone(path), name)
				kept, field := value[name], strings.Join(inside, ".")
				delete(value, name)
				if got, want := accepts(), slices.Contains(optional, field); got != want {
					t.Errorf("without %s: got accepted %t, want %t", field, got, want)
				}
				value[name] = []any{map[string]any{"another": "kind"}}
				if accepts() {
					t.Errorf("%s of another kind is accepted", field)
				}
				value[name] = kept
				visit(inside, kept)
				tried++
			}
		}
	}
	visit(nil, document)
	// This notices if the document loses fields.
	if least := 60; tried < least {
		t.Errorf("got %d fields, want %d or more", tried, least)
	}
}

// TestValidate_number has a number of which the library would make none.
func TestValidate_number(t *testing.T) {
	err := report.Validate([]byte(`{"properties": {"a": {"minimum": 0}}}`), []byte(`{"a": 1e2000000}`))
	const want = "document: want a number that fits into 64 bits, got a value of the type number 1e2000000"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestValidate has a mistake for each keyword of the schemas, since the library skips those that it does not know.
func TestValidate(t *testing.T) {
	tried := map[string]bool{"$schema": true, "$defs": true, "title": true, "description": true, "properties": true}
	for _, tt := range []struct{ keyword, schema, document, want string }{
		{"type", `{"type": "string"}`, `{"a": 1}`, `a: want a value of the type string, got integer`},
		{"const", `{"const": "b"}`, `{"a": "c"}`, `a: got "c": does not match: "b"`},
		{"enum", `{"enum": ["b", "c d"]}`, `{"a": "e"}`, `a: got "e": must be one of the following: "b", "c d"`},
		{"minimum", `{"minimum": 1}`, `{"a": 0.5}`, `a: got 0.5: must be greater than or equal to 1`},
		{"maximum", `{"maximum": 1}`, `{"a": 2}`, `a: got 2: must be less than or equal to 1`},
		{"pattern", `{"pattern": "^b$"}`, `{"a": "c"}`, `a: got "c": does not match pattern '^b$'`},
		{"minLength", `{"minLength": 2}`, `{"a": "b"}`, `a: got "b": string length must be greater than or equal to 2`},
		{"format", `{"format": "date-time"}`, `{"a": "May"}`, `a: got "May": does not match format 'date-time'`},
		{"minItems", `{"minItems": 1}`, `{"a": []}`, `a: got []: array must have at least 1 items`},
		{"items", `{"items": {"type": "null"}}`, `{"a": [null, 1]}`, `a.1: want a value of the type null, got integer`},
		{"required", `{"required": ["b"]}`, `{"a": {}}`, `a: missing property "b"`},
		{"additionalProperties", `{"additionalProperties": false}`, `{"a": {"b": 1}}`, `a: unknown property "b"`},
		{"propertyNames", `{"propertyNames": {"enum": ["b"]}}`, `{"a": {"c": 1}}`, `a: got {"c":1}: property name of "c" does not match`},
		{"anyOf", `{"anyOf": [{"const": 1}]}`, `{"a": 2}`, `a: got 2: must validate at least one schema (anyOf)`},
		{"oneOf", `{"oneOf": [{}, {}]}`, `{"a": 1}`, `a: got 1: must validate one and only one schema (oneOf)`},
		{"$ref", `{"$ref": "#/$defs/b"}`, `{"a": 1}`, `a: got 1: does not match: "b"`},
		{"type", `{"type": "null"}`, `{"a": "` + strings.Repeat("b", 80) + `"}`, "a: want a value of the type null, got string"},
		{"type", `{"type": "object", "required": ["b", "c"]}`, `{"a": {}, "d": {"e": {}}}`, `a: missing property "b"`},
		{"type", `{}`, `[]`, `document: want a value of the type object, got array`},
	} {
		tried[tt.keyword] = true
		const draft = `"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"b": {"const": "b"}}`
		schema := `{` + draft + `, "type": "object", "properties": {"a": ` + tt.schema + `}}`
		// The library goes through maps, so that it must say the same each time.
		for range 10 {
			if err := report.Validate([]byte(schema), []byte(tt.document)); err == nil || err.Error() != tt.want {
				t.Fatalf("%s of %s: got %v, want %s", tt.document, tt.schema, err, tt.want)
			}
		}
	}
	for _, dir := range []string{".", "benchmark", "matrix", "../trackrecord"} {
		file := filepath.Join(dir, "schema.json")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range untried(schema, tried) {
			t.Errorf("%s: %s", file, wrong)
		}
	}
}

// untried returns the keywords of a schema that were not tried, and those beside a $ref, which count only in later
// drafts than 7.
func untried(schema map[string]any, tried map[string]bool) []string {
	var wrong []string
	for keyword, value := range schema {
		if !tried[keyword] || schema["$ref"] != nil && keyword != "$ref" && keyword != "description" {
			wrong = append(wrong, keyword)
		}
		var inside []any
		switch value := value.(type) {
		case []any:
			inside = value
		case map[string]any:
			inside = []any{value}
			if keyword == "properties" || keyword == "$defs" {
				inside = slices.Collect(maps.Values(value))
			}
		}
		for _, s := range inside {
			if s, ok := s.(map[string]any); ok {
				wrong = append(wrong, untried(s, tried)...)
			}
		}
	}
	return wrong
}
