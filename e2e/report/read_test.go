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
