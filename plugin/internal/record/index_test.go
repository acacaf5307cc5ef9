package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Keys returns the addresses and how many there are.
func (s state) Keys() []string {
	keys := []string{fmt.Sprintf("count/%d", len(s.Addresses))}
	for _, ip := range s.Addresses {
		keys = append(keys, "address/"+ip)
	}
	return keys
}

func entryOf(id string, sequence uint64, addresses ...string) Entry[state] {
	return Entry[state]{Attachment: Attachment{"net", id, "eth0"}, Sequence: sequence, State: state{addresses}}
}

func keep(t *testing.T, s *Store[state], entries ...Entry[state]) {
	t.Helper()
	for _, e := range entries {
		if err := s.Save(e); err != nil {
			t.Fatal(err)
		}
	}
}

func closed(t *testing.T, s *Store[state]) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// holders returns whose records have a key.
func holders(t *testing.T, s *Store[state], key string) (ids []string) {
	t.Helper()
	found, err := s.Holders(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found {
		ids = append(ids, e.ContainerID)
	}
	return ids
}

func TestHolders(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	s := open(t, root)
	keep(t, s, entryOf("b", 2, "10.0.0.2", "10.0.0.3"), entryOf("a", 3, "10.0.0.2"), entryOf("c", 1, "10.0.0.4"),
		entryOf("c", 1, "10.0.0.5"))
	closed(t, s)
	s = open(t, root)
	for key, want := range map[string][]string{
		"address/10.0.0.2": {"b", "a"}, "address/10.0.0.3": {"b"}, "address/10.0.0.4": nil, "address/10.0.0.5": {"c"}, "count/1": {"c", "a"},
		"other/10.0.0.2": nil,
	} {
		if diff := cmp.Diff(want, holders(t, s, key)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	values, err := s.Values("count")
	if slices.Sort(values); !slices.Equal(values, []string{"1", "2"}) || err != nil {
		t.Errorf("got %v, %v, want 1 and 2", values, err)
	}
	other, err := s.Other("address/10.0.0.2", Attachment{"net", "a", "eth0"})
	if err != nil || other == nil || other.ContainerID != "b" {
		t.Errorf("got %v, %v, want b", other, err)
	}
	if other, err = s.Other("address/10.0.0.3", Attachment{"net", "b", "eth0"}); other != nil || err != nil {
		t.Errorf("got %v, %v, want none", other, err)
	}
	for key, want := range map[string]bool{
		"address/10.0.0.2": true, "address/10.0.0.3": false, "address/10.0.0.4": false, "address/10.0.0.5": true,
		"other/10.0.0.2": false,
	} {
		if held, err := s.Held(key, Attachment{"net", "b", "eth0"}); held != want || err != nil {
			t.Errorf("%s: got %t, %v, want another than b to have it: %t", key, held, err, want)
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := s.Remove(entryOf(id, 0).Attachment); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	if diff := cmp.Diff([]string(nil), tree(t, root)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A lookup reads only the records that have the key: its result is the same without the others.
func TestHolders_reads_no_other(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	for i := range 300 {
		keep(t, s, entryOf(fmt.Sprintf("c%d", i), uint64(i), fmt.Sprintf("10.0.%d.%d", i/250, i%250)))
	}
	closed(t, s)
	for i := range 300 {
		if i != 7 { // written in place, which changes no directory
			if err := os.WriteFile(filepath.Join(root, "route", "net", fmt.Sprintf("c%d", i), "eth0"), nil,
				0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = open(t, root)
	if diff := cmp.Diff([]string{"c7"}, holders(t, s, "address/10.0.0.7")); diff != "" || s.changed {
		t.Errorf("made anew: %t (-want +got):\n%s", s.changed, diff)
	}
}

// Whatever happens to the index, the next call finds every record.
func TestIndex_is_made_anew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(dir string) error
	}{
		{"lost", func(dir string) error { return os.RemoveAll(filepath.Join(dir, indexDir)) }},
		{"not whole", func(dir string) error { return os.Remove(filepath.Join(dir, indexDir, clean)) }},
		{"records of a version before", func(dir string) error {
			raw, err := os.ReadFile(filepath.Join(dir, "net", "a", "eth0"))
			if err != nil {
				return err
			}
			raw = []byte(strings.NewReplacer(`"a"`, `"old"`, `"version":1,`, "").Replace(string(raw)))
			if err := os.MkdirAll(filepath.Join(dir, "net", "old"), 0o755); err != nil {
				return err
			}
			// the clock of file times, which a process of its own would not meet twice
			time.Sleep(20 * time.Millisecond)
			if err := os.WriteFile(filepath.Join(dir, unfinished), raw, 0o644); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, unfinished), filepath.Join(dir, "net", "old", "eth0"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			s := open(t, root)
			keep(t, s, entryOf("a", 1, "10.0.0.2"), entryOf("b", 2, "10.0.0.3"))
			closed(t, s)
			if err := tt.change(filepath.Join(root, "route")); err != nil {
				t.Fatal(err)
			}
			s = open(t, root)
			want := []string{"a"}
			if tt.name == "records of a version before" {
				want = append(want, "old")
			}
			if diff := cmp.Diff(want, holders(t, s, "address/10.0.0.2")); diff != "" || !s.changed {
				t.Errorf("made anew: %t (-want +got):\n%s", s.changed, diff)
			}
			closed(t, s)
			s = open(t, root)
			if diff := cmp.Diff(want, holders(t, s, "address/10.0.0.2")); diff != "" || s.changed {
				t.Errorf("made anew once more: %t (-want +got):\n%s", s.changed, diff)
			}
		})
	}
}

// A record that a newer version wrote is not read, replaced or removed.
func TestNewerFormat(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	keep(t, s, entryOf("a", 1, "10.0.0.2"))
	path := filepath.Join(root, "route", "net", "a", "eth0")
	for _, raw := range []string{
		`{"version":2,"network":"net","containerID":"a","ifname":"eth0"}`,
		`{"version":2,"sequence":{"of":"another kind"}}`,
	} {
		if err := os.WriteFile(path, []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		want := "record net/a/eth0: its format is 2, and this version of the plugin knows those up to 1: " +
			"call a version that knows it, or remove the record after its attachment"
		_, loadErr := s.Load(entryOf("a", 0).Attachment)
		for what, err := range map[string]error{
			"load": loadErr, "save": s.Save(entryOf("a", 2)), "remove": s.Remove(entryOf("a", 0).Attachment),
		} {
			if err == nil || err.Error() != want {
				t.Errorf("%s: got  %v\nwant %s", what, err, want)
			}
		}
		if got, err := os.ReadFile(path); string(got) != raw || err != nil {
			t.Errorf("got %s, %v, want %s", got, err, raw)
		}
		if entries, corrupt, err := s.List(); len(entries) != 0 || len(corrupt) != 1 || !corrupt[0].Newer ||
			err != nil {
			t.Errorf("list: got %v, %v, %v", entries, corrupt, err)
		}
	}
}

// saveAndRemove saves and removes records until its process is killed.
func saveAndRemove(t *testing.T, root string) {
	for i := 0; ; i++ {
		s := open(t, root)
		id := fmt.Sprintf("c%d", i%7)
		if i%3 == 0 {
			_ = s.Remove(entryOf(id, 0).Attachment)
		} else {
			keep(t, s, entryOf(id, uint64(i), fmt.Sprintf("10.0.0.%d", i%5), fmt.Sprintf("10.0.0.%d", i%11)))
		}
		closed(t, s)
	}
}

// A process that saves and removes records is killed at whatever point: the next one finds every record by its keys,
// and when all are gone nothing is left.
func TestIndex_after_a_kill(t *testing.T) {
	if root := os.Getenv("RECORD_TEST_CHURN"); root != "" {
		saveAndRemove(t, root)
	}
	root := filepath.Join(t.TempDir(), "cni")
	unclean := 0
	for range 60 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestIndex_after_a_kill$")
		cmd.Env = append(os.Environ(), "RECORD_TEST_CHURN="+root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Millisecond + rand.N(10*time.Millisecond)) // the moment does not matter
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		s := open(t, root)
		entries, corrupt, err := s.List()
		if err != nil || len(corrupt) != 0 {
			t.Fatal(corrupt, err)
		}
		for i := range 11 {
			key := fmt.Sprintf("address/10.0.0.%d", i)
			var want []string
			for _, e := range entries {
				if slices.Contains(e.State.Keys(), key) {
					want = append(want, e.ContainerID)
				}
			}
			if diff := cmp.Diff(want, holders(t, s, key)); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", key, diff)
			}
		}
		if s.changed {
			unclean++
		}
		closed(t, s)
	}
	t.Logf("the index was made anew %d times", unclean)
	if unclean == 0 {
		t.Error("want some kills in the middle of a change, got none")
	}
	s := open(t, root)
	for i := range 7 {
		if err := errors.Join(s.Remove(entryOf(fmt.Sprintf("c%d", i), 0).Attachment)); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	if diff := cmp.Diff([]string(nil), tree(t, root)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestRemove_obstructed removes a record whose link in the index cannot be removed at first. Nothing of it stays in the
// index, which knows the other record.
func TestRemove_obstructed(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	s := open(t, root)
	gone := entryOf("b", 2, "10.0.0.3")
	keep(t, s, entryOf("a", 1, "10.0.0.2"), gone)
	link := s.index("address/10.0.0.3", linkName(gone.Attachment))
	if err := errors.Join(os.Remove(link), os.MkdirAll(filepath.Join(link, "obstacle"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(gone.Attachment); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if _, err := os.Stat(filepath.Dir(link)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the key of the removed record to be gone", err)
	}
	if s = open(t, root); !slices.Equal(holders(t, s, "address/10.0.0.2"), []string{"a"}) {
		t.Errorf("got %v, want a", holders(t, s, "address/10.0.0.2"))
	}
	closed(t, s)
}
