// Package record keeps which attachment made what on a node: one small JSON file per attachment,
// /run/cni/<plugin>/<network>/<containerID>/<ifname>. DEL and GC act on it, so that they need neither prevResult nor the
// pod's namespace. The files are on a tmpfs and die at a reboot together with the kernel state that they describe.
//
// A plugin saves a record before its first change and removes it after the last. An open store holds a lock that all
// processes of the plugin share; the kernel frees it when its holder dies. No file or directory stays behind when the
// last record is gone.
//
// It is not a cache of results: those belong to the runtime.
//
// Tests: go test ./plugin/internal/record
package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultRoot is where the records of all plugins are.
const DefaultRoot = "/run/cni"

// Network names and container ids start with a letter or digit (SPEC.md, sections 1 and 2), so a leading dot cannot be one.
const unfinished = ".new"

// Attachment says whose record it is. The three parts come from a runtime and become parts of a path.
type Attachment struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// String returns the attachment as "network/containerID/ifname".
func (a Attachment) String() string {
	return a.Network + "/" + a.ContainerID + "/" + a.IfName
}

// Validate says why an attachment cannot have a record: a part of it is empty, too long, or no name of a file.
func (a Attachment) Validate() error {
	for _, part := range []string{a.Network, a.ContainerID, a.IfName} {
		switch {
		case part == "", part == ".", part == "..", strings.ContainsAny(part, "/\x00"):
			return fmt.Errorf("%q cannot be a part of a record's path", part)
		case len(part) > 255: // NAME_MAX
			return fmt.Errorf("%q… cannot be a part of a record's path: want at most 255 bytes, got %d", part[:32], len(part))
		}
	}
	if strings.HasPrefix(a.Network, ".") {
		return fmt.Errorf("network %q starts with a dot", a.Network)
	}
	return nil
}

// Entry is one record. T is what the plugin wants to know of its attachment later.
type Entry[T any] struct {
	Attachment
	// Sequence grows with each new record of a plugin: of two records with one address, the higher one owns it.
	Sequence uint64    `json:"sequence"`
	Created  time.Time `json:"created"`
	State    T         `json:"state"`
}

// CorruptError is a record that exists and cannot be read, such as an empty file.
type CorruptError struct {
	Attachment Attachment
	Err        error
}

// Error returns whose record it is and what is wrong with it.
func (e *CorruptError) Error() string { return fmt.Sprintf("record %s: %v", e.Attachment, e.Err) }

// Unwrap returns what is wrong with the record.
func (e *CorruptError) Unwrap() error { return e.Err }

// Options says which store to open.
type Options struct {
	Root   string // empty means DefaultRoot
	Plugin string
	// Create makes the store if there is none. Without it Open returns an error that is fs.ErrNotExist.
	Create bool
}

func (o Options) root() string {
	if o.Root == "" {
		return DefaultRoot
	}
	return o.Root
}

func (o Options) dir() string { return filepath.Join(o.root(), o.Plugin) }

// Store holds the records of one plugin on a node, locked against every other process and every other Store.
type Store[T any] struct {
	root, dir string
	lock      *os.File
}

// Open opens a store and takes its lock, waiting for it as long as ctx allows. Close must follow.
func Open[T any](ctx context.Context, opts Options) (*Store[T], error) {
	s := &Store[T]{root: opts.root(), dir: opts.dir()}
	var err error
	if s.lock, err = lockDirectory(ctx, s.dir, opts.Create); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			removeEmpty(s.dir, s.root) // of a process that was killed between making or removing the two
		}
		return nil, fmt.Errorf("records in %s: %w", s.dir, err)
	}
	// A holder that was killed while it wrote; nobody else can be writing now.
	if err := os.Remove(filepath.Join(s.dir, unfinished)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

// Close removes what is empty and frees the lock.
func (s *Store[T]) Close() error {
	// Whoever waits for the lock of a directory that is gone notices it and opens the next one.
	removeEmpty(s.dir, s.root)
	return s.lock.Close()
}

func (s *Store[T]) path(a Attachment) string {
	return filepath.Join(s.dir, a.Network, a.ContainerID, a.IfName)
}

// Load returns the record of an attachment, nil if there is none, or a *CorruptError.
func (s *Store[T]) Load(a Attachment) (*Entry[T], error) {
	if a.Validate() != nil {
		return nil, nil // Save refuses it, so nothing was ever recorded
	}
	raw, err := os.ReadFile(s.path(a))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, &CorruptError{a, err}
	}
	var e Entry[T]
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, &CorruptError{a, err}
	}
	if e.Attachment != a {
		return nil, &CorruptError{a, fmt.Errorf("it is the record of %s", e.Attachment)}
	}
	return &e, nil
}

// List returns all records of all networks in order of their sequence, and those that cannot be read.
func (s *Store[T]) List() ([]Entry[T], []*CorruptError, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "[^.]*", "*", "*"))
	if err != nil {
		return nil, nil, err
	}
	var entries []Entry[T]
	var corrupt []*CorruptError
	for _, path := range paths {
		rest, ifName := filepath.Split(path)
		rest, containerID := filepath.Split(filepath.Clean(rest))
		e, err := s.Load(Attachment{filepath.Base(rest), containerID, ifName})
		var bad *CorruptError
		switch {
		case errors.As(err, &bad):
			corrupt = append(corrupt, bad)
		case err != nil:
			return nil, nil, err
		case e != nil:
			entries = append(entries, *e)
		}
	}
	slices.SortFunc(entries, func(a, b Entry[T]) int {
		switch {
		case a.Sequence < b.Sequence:
			return -1
		case a.Sequence > b.Sequence:
			return 1
		}
		return strings.Compare(a.String(), b.String())
	})
	return entries, corrupt, nil
}

// Without returns the entries of all attachments but one.
func Without[T any](entries []Entry[T], a Attachment) []Entry[T] {
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry[T]) bool { return e.Attachment == a })
}

// Save writes a record in one step: a reader sees the old one or the new one, whenever the writer is killed.
func (s *Store[T]) Save(e Entry[T]) error {
	if err := e.Validate(); err != nil {
		return err
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Attachment, err)
	}
	path := s.path(e.Attachment)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("record %s: %w", e.Attachment, err)
	}
	temp := filepath.Join(s.dir, unfinished)
	// No fsync: after a crash of the machine the kernel state is gone too, and an unreadable record is tolerated.
	if err := os.WriteFile(temp, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("record %s: %w", e.Attachment, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("record %s: %w", e.Attachment, err)
	}
	return nil
}

// Remove removes the record of an attachment and the directories that are empty then. It may be called again.
func (s *Store[T]) Remove(a Attachment) error {
	if a.Validate() != nil {
		return nil
	}
	path := s.path(a)
	// A file in the place of a directory holds no record.
	if err := os.RemoveAll(path); err != nil && !errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("record %s: %w", a, err)
	}
	removeEmpty(filepath.Dir(path), filepath.Join(s.dir, a.Network))
	return nil
}

// Tidy removes the empty directories that killed processes left.
func (s *Store[T]) Tidy() error {
	for _, pattern := range []string{"[^.]*/*", "[^.]*"} {
		paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			removeEmpty(path, path)
		}
	}
	return nil
}

// removeEmpty removes dir and its parents up to and including last, as far as they are empty.
func removeEmpty(dir, last string) {
	for {
		// os.Remove would unlink a file; what stands here is a directory, or no business of ours.
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) || dir == last {
			return
		}
		dir = filepath.Dir(dir)
	}
}
