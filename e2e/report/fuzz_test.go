package report

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzReadFile checks that a report that somebody else wrote is read or refused.
func FuzzReadFile(f *testing.F) {
	f.Add([]byte(`{"apiVersion": "cnitest/v1alpha1", "results": [{"id": "DEL-1", "kind": "requirement", "result": "pass",
		"evidence": [{"title": "a", "text": "b", "file": "../../etc/passwd"}]}]}`))
	f.Add([]byte(`{"results": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "report.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFile(file); (got == nil) == (err == nil) {
			t.Errorf("got %v, %v, want one of the two", got, err)
		}
	})
}
