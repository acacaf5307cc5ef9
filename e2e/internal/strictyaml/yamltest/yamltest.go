// Package yamltest contains what the tests of all strict YAML files share. It is for tests only.
package yamltest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Mistakes reads testdata/bad, one mistake per file, and compares the whole error with the .txt beside it. parse must
// not return anything for them.
func Mistakes[T any](t *testing.T, parse func(file string, data []byte) (*T, error)) {
	t.Helper()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("want files, got %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			got, err := parse(filepath.Base(file), data)
			if got != nil || err == nil {
				t.Fatalf("got %v, %v, want an error", got, err)
			}
			if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
