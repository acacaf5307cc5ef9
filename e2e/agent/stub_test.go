package agent_test

import (
	"path/filepath"
	"testing"
)

func TestStubRecords_none(t *testing.T) {
	c := start(t)
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "absent")} {
		records, err := c.StubRecords(ctx(t), dir)
		check(t, err)
		if len(records) != 0 {
			t.Errorf("%s: got %v, want no records", dir, records)
		}
	}
}
