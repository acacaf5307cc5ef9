package state

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// FuzzOpen checks that whatever a crash or another version left as the state is read or refused, and never read twice
// in different ways.
func FuzzOpen(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
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
	f.Add([]byte(`{"format": 1, "bootID": "boot", "assignments": [{"network": "net", "containerID": "a", "ifname": "eth0",
		"address": "10.0.0.2", "eni": "eni-1", "deviceNumber": 1}], "resting": [{"address": "10.0.0.3", "eni": "eni-1"}]}`))
	f.Add([]byte(`{"format": 1, "bootID": "boot", "assignments": [null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, state, err := Open(path, "boot")
		if err != nil {
			return
		}
		defer file.Close()
		store := datastore.New(datastore.Options{})
		if err := store.Restore(state); err != nil {
			return
		}
		now, _ := store.Snapshot()
		if err := file.Save(now); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		again, state, err := Open(path, "boot")
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		defer again.Close()
		if err := datastore.New(datastore.Options{}).Restore(state); err != nil {
			t.Fatalf("what was written cannot be restored: %v", err)
		}
	})
}
