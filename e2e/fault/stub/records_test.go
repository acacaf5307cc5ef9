package stub

import (
	"os"
	"path/filepath"
	"testing"
)

// A record that is being written does not count yet.
func TestRecords_half_written(t *testing.T) {
	dir := t.TempDir()
	orders := &Orders{Log: dir}
	for want := 1; want <= 2; want++ {
		if err := os.WriteFile(filepath.Join(dir, ".12345"), []byte(`{"verb": "A`), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := orders.record(Record{Verb: "ADD"}); n != want || err != nil {
			t.Errorf("got %d, %v, want %d records of ADD", n, err, want)
		}
		if got, err := Records(dir); len(got) != want || err != nil {
			t.Errorf("got %v, %v, want %d records", got, err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("got %v, %v, want two records and the half one", entries, err)
	}
}
