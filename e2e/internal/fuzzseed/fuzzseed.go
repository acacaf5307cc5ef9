// Package fuzzseed gives fuzz tests the files of testdata to start with.
package fuzzseed

import (
	"os"
	"path/filepath"
	"testing"
)

// Add adds the contents of the files that match patterns, as filepath.Glob takes them.
func Add(f *testing.F, patterns ...string) {
	f.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
}
