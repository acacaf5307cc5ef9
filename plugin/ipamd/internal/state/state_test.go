package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

func sample(ip string) datastore.State {
	at := time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
	return datastore.State{
		Assignments: []*datastore.Assignment{{
			Key: datastore.Key{Network: "net", ContainerID: "c", IfName: "eth0"}, Pod: datastore.Pod{
				Namespace: "ns",
				Name:      "p", Netns: "/n",
			},
			Address: netip.MustParseAddr(ip), ENI: "eni-1", Device: 1, Since: at,
		}},
		Resting: []datastore.Resting{{Address: netip.MustParseAddr("10.0.0.9"), ENI: "eni-0", Since: at}},
	}
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state.json")
	f, got, err := Open(path, "boot-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(datastore.State{}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	same := sample("10.0.0.1")
	for _, s := range []datastore.State{{}, same, same, sample("2001:db8::1")} {
		if err := f.Save(s); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if s.Assignments == nil {
			s.Assignments = []*datastore.Assignment{}
		}
		want, wantErr := json.Marshal(document{Format: format, BootID: "boot-1", State: s})
		if diff := cmp.Diff(string(want)+"\n", string(got)); diff != "" || err != nil || wantErr != nil {
			t.Errorf("(-want +got):\n%s%v%v", diff, err, wantErr)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
	if _, _, err := Open(path, "boot-1"); fmt.Sprint(err) != "state "+path+": another ipamd holds it" {
		t.Errorf("got %v, want that another one holds it", err)
	}
	for _, tt := range []struct {
		boot string
		want datastore.State
	}{{"boot-1", sample("2001:db8::1")}, {"boot-2", datastore.State{}}} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if f, got, err = Open(path, tt.boot); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got, sameAddr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.boot, diff)
		}
	}
	f.Close()
}

func TestOpen_damaged(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want files", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "state.json")
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err = Open(path, "boot")
			got := strings.ReplaceAll(fmt.Sprint(err), path, "PATH")
			if got != strings.TrimSpace(string(want)) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			// The file can be opened again after it was repaired.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			f, _, err := Open(path, "boot")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		})
	}
}

// Files that a killed process left are removed, and no others.
func TestOpen_leftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		".state.json123456", ".state.json987", ".state.json.keep", ".other.json123", "notes",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, _, err := Open(filepath.Join(dir, "state.json"), "boot")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if diff := cmp.Diff([]string{".other.json123", ".state.json.keep", "notes", "state.json.lock"},
		names); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
}

func TestFile_Save_error(t *testing.T) {
	dir := t.TempDir()
	f, _, err := Open(filepath.Join(dir, "sub", "state.json"), "boot")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.RemoveAll(filepath.Join(dir, "sub")); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(sample("10.0.0.1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

// counter is a source whose version the test increases. The version is the number of assignments in the snapshot.
type counter struct {
	version atomic.Uint64
	between func() // called during a snapshot, after the version was read
}

func (c *counter) Snapshot() (datastore.State, uint64) {
	version := c.version.Load()
	if c.between != nil {
		c.between()
	}
	return datastore.State{Assignments: make([]*datastore.Assignment, version)}, version
}

// gate is a saver whose writes wait until the test decides how they end.
type gate struct {
	result  chan error
	written atomic.Uint64
	writes  atomic.Int64
}

func (g *gate) Save(s datastore.State) error {
	err := <-g.result
	g.writes.Add(1)
	if err == nil {
		g.written.Store(uint64(len(s.Assignments)))
	}
	return err
}

func TestCommits(t *testing.T) {
	source := &counter{}
	g := &gate{result: make(chan error)}
	var seen []string
	commits := NewCommits(Options{Source: source, Saver: g, Observe: func(w Write) {
		seen = append(seen, fmt.Sprint(w.Callers, " ", w.Err))
	}})
	if err := commits.Commit(t.Context(), 0); err != nil {
		t.Errorf("version 0: %v", err)
	}

	results := make(chan error)
	commit := func() {
		version := source.version.Add(1)
		go func() { results <- commits.Commit(t.Context(), version) }()
	}
	waiting := func(n int) { // waits until n callers wait for the write after the current one
		t.Helper()
		eventually(t, fmt.Sprintf("%d callers wait", n), func() bool {
			commits.mu.Lock()
			defer commits.mu.Unlock()
			return commits.writing && (n == 0 && commits.next == nil || n > 0 && commits.next != nil &&
				commits.next.callers == n)
		})
	}
	commit()
	waiting(0)
	for range 20 {
		commit()
	}
	waiting(20)
	g.result <- nil
	if err := <-results; err != nil {
		t.Error(err)
	}
	full := errors.New("disk full")
	g.result <- full
	for range 20 {
		if err := <-results; !errors.Is(err, full) {
			t.Errorf("got %v, want %v", err, full)
		}
	}
	// The next commit writes what the failed one could not, even for a caller that changed nothing.
	go func() { results <- commits.Commit(t.Context(), source.version.Load()) }()
	g.result <- nil
	if err := <-results; err != nil || g.written.Load() != 21 {
		t.Errorf("got %v and version %d, want version 21", err, g.written.Load())
	}
	if diff := cmp.Diff([]string{"1 <nil>", "20 disk full", "1 <nil>"}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A caller that stops waiting does not stop the write for the others.
func TestCommits_ctx(t *testing.T) {
	source := &counter{}
	g := &gate{result: make(chan error)}
	commits := NewCommits(Options{Source: source, Saver: g})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := commits.Commit(ctx, source.version.Add(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	g.result <- nil
	eventually(t, "version 1 is durable", func() bool { return g.written.Load() == 1 })
}

// A commit that comes while a snapshot is taken waits for the next write.
func TestCommits_duringSnapshot(t *testing.T) {
	source := &counter{}
	g := &gate{result: make(chan error, 2)}
	g.result <- nil
	g.result <- nil
	commits := NewCommits(Options{Source: source, Saver: g})
	late := make(chan uint64, 1)
	source.between = func() {
		source.between = nil
		joined := make(chan struct{})
		go func() {
			version := source.version.Add(1)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = commits.Commit(ctx, version) // has joined a write when it returns
			close(joined)
			if err := commits.Commit(t.Context(), version); err != nil {
				t.Error(err)
			}
			late <- g.written.Load()
		}()
		<-joined
	}
	if err := commits.Commit(t.Context(), source.version.Add(1)); err != nil {
		t.Error(err)
	}
	if got := <-late; got != 2 {
		t.Errorf("got version %d written, want 2", got)
	}
}

// No Commit returns before its version is written, however many callers there are.
func TestCommits_concurrent(t *testing.T) {
	source := &counter{}
	g := &gate{result: make(chan error)}
	go func() {
		for {
			select {
			case g.result <- nil:
			case <-t.Context().Done():
				return
			}
		}
	}()
	commits := NewCommits(Options{Source: source, Saver: g})
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 200 {
				version := source.version.Add(1)
				if err := commits.Commit(t.Context(), version); err != nil || g.written.Load() < version {
					t.Errorf("got %v and version %d, want version %d", err, g.written.Load(), version)
				}
			}
		})
	}
	group.Wait()
	if n := g.writes.Load(); n > 2400 {
		t.Errorf("got %d writes for 3200 commits, want them to share", n)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want that %s", what)
		}
	}
}

func TestOpen_link(t *testing.T) {
	path, others := filepath.Join(t.TempDir(), "state.json"), filepath.Join(t.TempDir(), "missing")
	if err := os.Symlink(others, path+".lock"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path, "boot"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("got %v, want that it is a link", err)
	}
	if _, err := os.Lstat(others); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that no file of others is made", err)
	}
}
