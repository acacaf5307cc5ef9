package expectation

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse checks that every file gives a expectation or an error.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
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
		if got, err := Parse("fuzz.yaml", data); (got == nil) == (err == nil) {
			t.Errorf("got %v, %v, want one of the two", got, err)
		}
	})
}
