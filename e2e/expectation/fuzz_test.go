package expectation

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/internal/fuzzseed"
)

// FuzzParse checks that every file gives a expectation or an error.
func FuzzParse(f *testing.F) {
	fuzzseed.Add(f, "testdata/bad/*.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := Parse("fuzz.yaml", data); (got == nil) == (err == nil) {
			t.Errorf("got %v, %v, want one of the two", got, err)
		}
	})
}
