package record

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRecord checks that whatever a crash or another version left in a record's file is the record, or is said to be
// corrupt, and that nobody's record is taken for another's.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version": 1, "network": "net", "containerID": "a", "ifname": "eth0", "sequence": 1, "state": {}}`))
	f.Add([]byte(`{"version": 2, "state": []}`))
	f.Add([]byte(`{"network": "other"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := t.TempDir()
		s := open(t, root)
		a := Attachment{"net", "a", "eth0"}
		if err := os.MkdirAll(filepath.Dir(s.path(a)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(a), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(a)
		var corrupt *CorruptError
		if got == nil && !errors.As(err, &corrupt) || got != nil && (err != nil || got.Attachment != a) {
			t.Fatalf("got %v, %v, want the record of %s or a corrupt one", got, err, a)
		}
		if _, _, err := s.List(); err != nil {
			t.Fatal(err)
		}
		// What a newer version wrote has to stay.
		if err := s.Remove(a); (err != nil) != (corrupt != nil && corrupt.Newer) {
			t.Fatalf("Remove: %v, after %v", err, corrupt)
		}
	})
}

// FuzzAttachment checks that no name of a network, a container or an interface leads out of the store.
func FuzzAttachment(f *testing.F) {
	for _, name := range []string{"net", "..", "../../etc", "/", "a\x00b", ".", ".new", strings.Repeat("a", 300), "a/../b"} {
		f.Add(name, "a", "eth0")
		f.Add("net", name, "eth0")
		f.Add("net", "a", name)
	}
	f.Fuzz(func(t *testing.T, network, container, ifName string) {
		root := t.TempDir()
		outside := filepath.Join(root, "outside")
		if err := os.Mkdir(outside, 0o700); err != nil {
			t.Fatal(err)
		}
		s := open(t, filepath.Join(root, "store"))
		a := Attachment{network, container, ifName}
		path := s.path(a)
		if inside := strings.HasPrefix(path, s.dir+string(filepath.Separator)); a.Validate() == nil && !inside {
			t.Fatalf("%q is at %s, want a file below %s", a, path, s.dir)
		}
		err := s.Save(Entry[state]{Attachment: a})
		if (err == nil) != (a.Validate() == nil) {
			t.Fatalf("%q: got %v, want what Validate says: %v", a, err, a.Validate())
		}
		if err := s.Remove(a); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Fatalf("got %v, %v beside the store, want nothing", entries, err)
		}
	})
}
