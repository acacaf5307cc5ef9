// Package record remembers what each attachment has made on a node, in one small JSON file per attachment:
// /run/cni/<plugin>/<network>/<containerID>/<ifname>. DEL and GC act on it, so that they need neither prevResult nor
// the pod's namespace. The files are on a tmpfs, so a reboot removes them together with the kernel state that they
// describe.
//
// A plugin saves a record before its first change and removes it after the last. An open store holds a lock that all
// processes of the plugin share; the kernel frees it when its holder dies. No file or directory stays behind when the
// last record is gone. A call finds records by their content without reading the others, and takes the same time
// however many there are.
//
// It is not a cache of results, which belongs to the runtime.
//
// Tests: go test ./plugin/internal/record
package record

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
)

// DefaultRoot is the directory of the records of all plugins.
const DefaultRoot = "/run/cni"

// Network names and container ids start with a letter or digit (SPEC.md, sections 1 and 2), so a name with a leading
// dot is neither.
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

// Validate returns why an attachment cannot have a record: a part of it is empty, too long, or not the name of a file.
func (a Attachment) Validate() error {
	for _, part := range []string{a.Network, a.ContainerID, a.IfName} {
		switch {
		case part == "", part == ".", part == "..", strings.ContainsAny(part, "/\x00"):
			return fmt.Errorf("%q cannot be a part of a record's path", part)
		case len(part) > 255: // NAME_MAX
			return fmt.Errorf("%q… cannot be a part of a record's path: want at most 255 bytes, got %d", part[:32],
				len(part))
		}
	}
	if strings.HasPrefix(a.Network, ".") {
		return fmt.Errorf("network %q starts with a dot", a.Network)
	}
	return nil
}

// version is the format of records that this package writes, and the newest that it reads.
const version = 1

// Entry is one record. T holds everything about the attachment that the plugin needs later.
type Entry[T any] struct {
	Attachment
	// Sequence grows with each new record of a plugin: of two records with one address, the higher one owns it.
	Sequence uint64    `json:"sequence"`
	Created  time.Time `json:"created"`
	State    T         `json:"state"`
}

// stored is the content of a record's file.
type stored[T any] struct {
	Version int `json:"version,omitempty"` // of the format; a missing version means 1
	Entry[T]
}

// CorruptError is a record that exists and cannot be read, such as an empty file.
type CorruptError struct {
	Attachment Attachment
	Err        error
	// Newer says that nothing is wrong with the record but that a newer version of the plugin wrote it: it has to stay.
	Newer bool
}

// Error names the attachment of the record and the error.
func (e *CorruptError) Error() string { return fmt.Sprintf("record %s: %v", e.Attachment, e.Err) }

// Unwrap returns the error without the attachment.
func (e *CorruptError) Unwrap() error { return e.Err }

// Options names the store to open.
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
	// The flag trusted means that the index can be trusted, changed that it has been marked as incomplete.
	trusted, changed bool
}

// Open opens a store and takes its lock, waiting for it as long as ctx allows. Close must follow.
func Open[T any](ctx context.Context, opts Options) (*Store[T], error) {
	s := &Store[T]{root: opts.root(), dir: opts.dir()}
	var err error
	if s.lock, err = lockDirectory(ctx, s.dir, opts.Create); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			// Left by a process that was killed between making or removing the two. The store itself may have come
			// meanwhile: only who holds its lock removes it.
			_ = removeEmpty(s.root, s.root)
		}
		return nil, fmt.Errorf("records in %s: %w", s.dir, err)
	}
	// A holder was killed while it wrote it; nobody else can be writing now.
	if err := os.Remove(filepath.Join(s.dir, unfinished)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

// Close removes empty directories and frees the lock.
func (s *Store[T]) Close() error {
	s.doubt(s.settle())
	// A process that waits for the lock of a removed directory notices that and opens the next one.
	_ = removeEmpty(s.dir, s.root)
	return s.lock.Close()
}

func (s *Store[T]) path(a Attachment) string {
	return filepath.Join(s.dir, a.Network, a.ContainerID, a.IfName)
}

// Load returns the record of an attachment, or nil if there is none. The error may be a *CorruptError.
func (s *Store[T]) Load(a Attachment) (*Entry[T], error) {
	if a.Validate() != nil {
		return nil, nil // Save refuses it, so nothing was ever recorded
	}
	raw, err := readPlain(s.path(a))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case kernel.Exhausted(err): // says nothing about the record
		return nil, fmt.Errorf("record %s: %w", a, err)
	case err != nil:
		return nil, &CorruptError{Attachment: a, Err: err}
	}
	var e stored[T]
	if err := json.Unmarshal(raw, &e); err != nil {
		if newer := newerFormat(raw); newer > version {
			return nil, newerError(a, newer)
		}
		return nil, &CorruptError{Attachment: a, Err: err}
	}
	if e.Version > version {
		return nil, newerError(a, e.Version)
	}
	if e.Attachment != a {
		return nil, &CorruptError{Attachment: a, Err: fmt.Errorf("it is the record of %s", e.Attachment)}
	}
	return &e.Entry, nil
}

// readPlain reads a file, and no link to one of others.
func readPlain(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// newerFormat returns the version of the format that a record names, or 0 if it names none.
func newerFormat(raw []byte) int {
	var named struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(raw, &named) != nil {
		return 0
	}
	return named.Version
}

func newerError(a Attachment, got int) *CorruptError {
	return &CorruptError{a, fmt.Errorf("its format is %d, and this version of the plugin knows those up to %d: "+
		"call a version that knows it, or remove the record after its attachment", got, version), true}
}

// List returns all records of all networks in order of their sequence, and those that cannot be read.
func (s *Store[T]) List() ([]Entry[T], []*CorruptError, error) {
	paths, err := s.below(3)
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
	slices.SortFunc(entries, older)
	return entries, corrupt, nil
}

// below returns the paths at a depth below the directory of records: networks, containers, records. It does not use
// filepath.Glob, which takes a directory that cannot be read for an empty one.
func (s *Store[T]) below(depth int) ([]string, error) {
	paths := []string{s.dir}
	for level := range depth {
		var next []string
		for _, dir := range paths {
			entries, err := os.ReadDir(dir)
			// A file in the place of a directory holds no record.
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				return nil, fmt.Errorf("records: %w", err)
			}
			for _, e := range entries {
				hidden := level == 0 && strings.HasPrefix(e.Name(), ".")
				elsewhere := level < 2 && e.Type() == fs.ModeSymlink // a directory of others
				if !hidden && !elsewhere {
					next = append(next, filepath.Join(dir, e.Name()))
				}
			}
		}
		paths = next
	}
	return paths, nil
}

func older[T any](a, b Entry[T]) int {
	return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), strings.Compare(a.String(), b.String()))
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
	raw, err := json.Marshal(stored[T]{version, e})
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Attachment, err)
	}
	if err := s.removeLinks(e.Attachment); err != nil {
		return err
	}
	old, err := s.Load(e.Attachment)
	if err := errors.Join(UnlessCorrupt(err), s.change()); err != nil {
		return err
	}
	err = s.put(e, old, raw)
	if err == nil {
		return nil
	}
	_ = os.Remove(filepath.Join(s.dir, unfinished))
	if old == nil { // a call that fails leaves no record
		path := s.path(e.Attachment)
		_ = os.Remove(path)
		_ = removeEmpty(filepath.Dir(path), filepath.Join(s.dir, e.Network))
	}
	s.doubt(s.reindex())
	s.doubt(s.settle())
	return fmt.Errorf("record %s: %w", e.Attachment, err)
}

// removeLinks removes links in the place of a record's directories, which lead to directories of others.
func (s *Store[T]) removeLinks(a Attachment) error {
	network := filepath.Join(s.dir, a.Network)
	for _, dir := range []string{network, filepath.Join(network, a.ContainerID)} {
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			return nil
		case err == nil && info.Mode().Type() == fs.ModeSymlink:
			return os.Remove(dir)
		case err != nil:
			return fmt.Errorf("record %s: %w", a, err)
		}
	}
	return nil
}

// put writes a record and its links in the index, in place of an old record if there is one.
func (s *Store[T]) put(e Entry[T], old *Entry[T], raw []byte) error {
	if err := s.link(e); err != nil {
		return err
	}
	path := s.path(e.Attachment)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := filepath.Join(s.dir, unfinished)
	// No fsync: after a crash of the machine the kernel state is gone too, and an unreadable record is tolerated.
	if err := os.WriteFile(temp, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if old != nil {
		kept := keysOf(e.State)
		gone := slices.DeleteFunc(keysOf(old.State), func(key string) bool { return slices.Contains(kept, key) })
		if err := s.unlink(e.Attachment, gone); err != nil {
			return err
		}
	}
	return s.settle()
}

// UnlessCorrupt returns nil for an error about a record that cannot be read and may be replaced or removed, and any
// other error unchanged: a record that a newer version of the plugin wrote has to stay.
func UnlessCorrupt(err error) error {
	var bad *CorruptError
	if errors.As(err, &bad) && !bad.Newer {
		return nil
	}
	return err
}

// Remove removes the record of an attachment and the directories that are empty then. It may be called again.
func (s *Store[T]) Remove(a Attachment) error {
	if a.Validate() != nil {
		return nil
	}
	if err := s.removeLinks(a); err != nil {
		return err
	}
	old, loadErr := s.Load(a)
	if err := errors.Join(UnlessCorrupt(loadErr), s.change()); err != nil {
		return err
	}
	path := s.path(a)
	// A file in the place of a directory holds no record.
	if err := os.RemoveAll(path); err != nil && !errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("record %s: %w", a, err)
	}
	_ = removeEmpty(filepath.Dir(path), filepath.Join(s.dir, a.Network))
	indexErr := loadErr // nobody knows the keys of an unreadable record
	if old != nil {
		indexErr = s.unlink(a, keysOf(old.State))
	}
	if indexErr != nil {
		s.doubt(s.reindex()) // nothing of the record stays in the index
	}
	s.doubt(s.settle())
	return nil
}

// Tidy removes the empty directories that killed processes left, and rebuilds the index.
func (s *Store[T]) Tidy() error {
	for _, depth := range []int{2, 1} {
		paths, err := s.below(depth)
		if err != nil {
			return err
		}
		for _, path := range paths {
			_ = removeEmpty(path, path)
		}
	}
	s.doubt(s.reindex())
	return nil
}

// removeEmpty removes dir and its parents up to and including last, as far as they are empty. Its error is that of an
// empty one which cannot be removed.
func removeEmpty(dir, last string) error {
	for {
		// os.Remove would unlink a file too, and a file in this place is not ours.
		switch err := os.Remove(dir); {
		case errors.Is(err, fs.ErrExist): // not empty
			return nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case dir == last:
			return nil
		}
		dir = filepath.Dir(dir)
	}
}
