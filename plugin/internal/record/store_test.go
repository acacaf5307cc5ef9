package record

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

type state struct {
	Addresses []string `json:"addresses"`
}

func open(t *testing.T, root string) *Store[state] {
	t.Helper()
	s, err := Open[state](t.Context(), Options{Root: root, Plugin: "route", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tree(t *testing.T, root string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			rel, _ := filepath.Rel(root, path)
			paths = append(paths, rel)
		}
		if filepath.Base(path) == indexDir {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestStore(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	s := open(t, root)
	a := Entry[state]{
		Attachment{"net", "c1", "eth0"}, 2, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), state{[]string{"10.0.0.2"}},
	}
	b := Entry[state]{Attachment{"other", "c1", ".net1"}, 1, a.Created, state{}}
	for _, e := range []Entry[state]{a, b} {
		if err := s.Save(e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load(a.Attachment)
	if diff := cmp.Diff(&a, got); diff != "" || err != nil {
		t.Errorf("load (-want +got):\n%s%v", diff, err)
	}
	entries, corrupt, err := s.List()
	if diff := cmp.Diff([]Entry[state]{b, a}, entries); diff != "" || err != nil || corrupt != nil {
		t.Errorf("list (-want +got):\n%s%v %v", diff, corrupt, err)
	}
	want := []string{
		".", "route", "route/.index", "route/net", "route/net/c1", "route/net/c1/eth0", "route/other",
		"route/other/c1", "route/other/c1/.net1",
	}
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, a := range []Attachment{a.Attachment, a.Attachment, b.Attachment, {"no", "such", "one"}} {
		if err := s.Remove(a); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string(nil), tree(t, root)); diff != "" {
		t.Errorf("files after all is removed (-want +got):\n%s", diff)
	}
}

func TestStore_unsafe_names(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	s := open(t, root)
	defer s.Close()
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		a    Attachment
		want string
	}{
		{Attachment{"..", "c", "eth0"}, `".." cannot be a part of a record's path`},
		{Attachment{"net", "../c", "eth0"}, `"../c" cannot be a part of a record's path`},
		{Attachment{"net", "", "eth0"}, `"" cannot be a part of a record's path`},
		{Attachment{"net", "c", "."}, `"." cannot be a part of a record's path`},
		{Attachment{".new", "c", "eth0"}, `network ".new" starts with a dot`},
		{Attachment{"net", long, "eth0"}, `"` + long[:32] + `"… cannot be a part of a record's path: want at most 255 bytes, got 256`},
	} {
		err := s.Save(Entry[state]{Attachment: tt.a})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
		if e, err := s.Load(tt.a); e != nil || err != nil {
			t.Errorf("load %s: got %v, %v, want nothing", tt.a, e, err)
		}
		if err := s.Remove(tt.a); err != nil {
			t.Errorf("remove %s: %v", tt.a, err)
		}
	}
	if diff := cmp.Diff([]string{".", "route"}, tree(t, root)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestStore_corrupt_records(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	a := Attachment{"net", "c1", "eth0"}
	for content, want := range map[string]string{
		"":   "record net/c1/eth0: unexpected end of JSON input",
		"{":  "record net/c1/eth0: unexpected end of JSON input",
		"[]": "record net/c1/eth0: json: cannot unmarshal array into Go value of type record.stored[github.com/cnitest/cnitest/plugin/internal/record.state]",
		"{}": "record net/c1/eth0: it is the record of //",
		`"x"`: "record net/c1/eth0: json: cannot unmarshal string into Go value of type " +
			"record.stored[github.com/cnitest/cnitest/plugin/internal/record.state]",
	} {
		s := open(t, root)
		if err := s.Save(Entry[state]{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(a), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := s.Load(a)
		if err == nil || err.Error() != want {
			t.Errorf("%q: got  %v\nwant %s", content, err, want)
		}
		entries, corrupt, err := s.List()
		if len(entries) != 0 || len(corrupt) != 1 || corrupt[0].Attachment != a || err != nil {
			t.Errorf("%q: list: got %v, %v, %v", content, entries, corrupt, err)
		}
		if err := errors.Join(s.Remove(a), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// Files that killed processes leave.
func TestStore_tidies_up(t *testing.T) {
	for _, paths := range [][]string{
		{"route/net/c1/"},
		{"route/net/"},
		{"route/other/"},
		{"route/.new"},
		{"route/"},
		{"./"},
		{"route/net/c1/", "route/net/c2/", "route/.new"},
	} {
		root := filepath.Join(t.TempDir(), "cni")
		for _, path := range paths {
			full := filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(full+"/x"), 0o755); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(path, ".new") {
				if err := errors.Join(os.Remove(full), os.WriteFile(full, []byte("{"), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
		}
		s, err := Open[state](t.Context(), Options{Root: root, Plugin: "route"})
		if err == nil {
			err = errors.Join(s.Remove(Attachment{"net", "c1", "eth0"}), s.Tidy(), s.Close())
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string(nil), tree(t, root)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", paths, diff)
		}
	}
}

func TestOpen_without_create(t *testing.T) {
	root := t.TempDir()
	_, err := Open[state](t.Context(), Options{Root: root, Plugin: "route"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// Many processes come and go at once, and each time the last one removes the directory that is the lock.
func TestOpen_excludes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "cni")
	var inside, crowded atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				s, err := Open[state](t.Context(), Options{Root: root, Plugin: "route", Create: true})
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					crowded.Add(1)
				}
				a := Attachment{"net", fmt.Sprintf("c%d", i), "eth0"}
				if err := errors.Join(s.Save(Entry[state]{Attachment: a}), s.Remove(a)); err != nil {
					t.Error(err)
				}
				inside.Add(-1)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if n := crowded.Load(); n != 0 {
		t.Errorf("got more than one at a time %d times, want none", n)
	}
	if diff := cmp.Diff([]string(nil), tree(t, root)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestOpen_timeout(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := Open[state](ctx, Options{Root: root, Plugin: "route"})
	want := "records in " + root + "/route: lock is held by another process: context deadline exceeded"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// H05: a holder that is killed keeps nobody waiting.
func TestOpen_after_the_holder_was_killed(t *testing.T) {
	if root := os.Getenv("RECORD_TEST_HOLD"); root != "" {
		open(t, root)
		fmt.Println("held")
		select {}
	}
	root := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOpen_after_the_holder_was_killed$")
	cmd.Env = append(os.Environ(), "RECORD_TEST_HOLD="+root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := Open[state](ctx, Options{Root: root, Plugin: "route"})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestStore_List_unreadable checks that a directory that cannot be read is not taken for an empty one: GC would leave
// everything, or remove what the records hold.
func TestStore_List_unreadable(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	openNothing(t)
	_, _, err := s.List()
	if want := fmt.Sprintf("records: open %s: too many open files", s.dir); fmt.Sprint(err) != want {
		t.Errorf("got %q, want %q", fmt.Sprint(err), want)
	}
	if err := s.Tidy(); err == nil {
		t.Error("Tidy: want an error")
	}
}

// openNothing makes every open fail until the test ends.
func openNothing(t *testing.T) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
}

// TestStore_Load_unreadable checks that a record that cannot be read now does not count as a damaged one, which DEL
// removes without what it holds.
func TestStore_Load_unreadable(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	a := Attachment{"net", "c1", "eth0"}
	openNothing(t)
	_, err := s.Load(a)
	var corrupt *CorruptError
	if want := fmt.Sprintf("record net/c1/eth0: open %s: too many open files", s.path(a)); fmt.Sprint(err) != want ||
		errors.As(err, &corrupt) {
		t.Errorf("got %T %q, want %q", err, fmt.Sprint(err), want)
	}
}

// TestStore_links puts links to files of others in the place of what a store makes.
func TestStore_links(t *testing.T) {
	e := Entry[state]{Attachment: Attachment{"net", "c1", "eth0"}, State: state{[]string{"10.0.0.2"}}}
	for _, path := range []string{unfinished, "net", "net/c1", "net/c1/eth0"} {
		t.Run(path, func(t *testing.T) {
			root, others := filepath.Join(t.TempDir(), "cni"), t.TempDir()
			kept := filepath.Join(others, "eth0")
			if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			target, at := others, filepath.Join(root, "route", path)
			if path == unfinished || path == "net/c1/eth0" {
				target = kept
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(target, at)); err != nil {
				t.Fatal(err)
			}
			s := open(t, root)
			if _, _, err := s.List(); err != nil {
				t.Error(err)
			}
			if err := s.Save(e); err != nil {
				t.Error(err)
			}
			if got, err := s.Load(e.Attachment); err != nil || got == nil {
				t.Errorf("got %v, %v; want the record", got, err)
			}
			if err := errors.Join(s.Remove(e.Attachment), s.Close()); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(kept); err != nil || string(got) != "kept" {
				t.Errorf("got %q, %v; want that the file of others is as before", got, err)
			}
			if got := tree(t, others); len(got) != 2 {
				t.Errorf("got %q, want one file of others", got)
			}
		})
	}
}
