package main

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzConfig checks that every file gives settings that are complete or an error.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
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
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "ipamd.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := defaults(func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		if c.load(path) == nil && c.validate() == nil {
			c.targets()
		}
	})
}
