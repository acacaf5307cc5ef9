package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Indexed is a state whose record is found by its keys, without reading other records. A key is "KIND/VALUE", such as
// "address/10.0.0.2", and both parts are names of files.
type Indexed interface{ Keys() []string }

// The index is a directory KIND/VALUE for each key, with a symbolic link to each record that has the key. It only helps
// to find records: code that follows a link reads the record and checks that it has the key.
//
// The empty file clean exists while the index is complete, and its time is that of the last change of the store's
// directory. A call removes it before its first change and creates it again after the last, so that the next call
// rebuilds an index that a killed call left. A missing index is rebuilt too, and so is an index in a store where a
// version of the plugin without an index has saved records: that changes the directory's time.
const (
	indexDir = ".index"
	clean    = "clean"
	toStore  = "../../../" // relative to the directory of a link
)

func (s *Store[T]) index(parts ...string) string {
	return filepath.Join(append([]string{s.dir, indexDir}, parts...)...)
}

func keysOf(state any) []string {
	if indexed, ok := state.(Indexed); ok {
		return indexed.Keys()
	}
	return nil
}

// changedAt returns when the store's directory was changed last.
func (s *Store[T]) changedAt() (unix.Timespec, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.lock.Fd()), &st); err != nil {
		return unix.Timespec{}, fmt.Errorf("%s: %w", s.dir, err)
	}
	return st.Mtim, nil
}

// trust makes sure that the index can be trusted: it rebuilds the index if it has to.
func (s *Store[T]) trust() error {
	if s.trusted {
		return nil
	}
	want, err := s.changedAt()
	if err != nil {
		return err
	}
	var got unix.Stat_t
	err = unix.Lstat(s.index(clean), &got)
	if s.trusted = err == nil && got.Mtim == want; s.trusted {
		return nil
	}
	return s.reindex()
}

// reindex rebuilds the index from the records.
func (s *Store[T]) reindex() error {
	entries, _, err := s.List()
	if err != nil {
		return err
	}
	if _, ok := any(*new(T)).(Indexed); !ok {
		return nil
	}
	s.changed = true
	if err := os.RemoveAll(s.index()); err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.link(e); err != nil {
			return err
		}
	}
	s.trusted = true
	return nil
}

// change marks the index as incomplete. It is called before each change of records.
func (s *Store[T]) change() error {
	if _, ok := any(*new(T)).(Indexed); !ok || s.changed {
		return nil
	}
	s.doubt(s.trust())
	s.changed = true
	if err := os.Remove(s.index(clean)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index of records: %w", err)
	}
	return nil
}

// doubt makes the next lookup rebuild the index if there was an error. Lookups and removals work without an index.
func (s *Store[T]) doubt(err error) {
	if err != nil {
		log.Printf("index of records: %v", err)
		s.trusted = false
	}
}

// settle marks the index as complete. It is called after a change, or after the index was rebuilt.
func (s *Store[T]) settle() error {
	if !s.changed {
		return nil
	}
	s.changed = false
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(names, func(d fs.DirEntry) bool { return !strings.HasPrefix(d.Name(), ".") }) {
		return os.RemoveAll(s.index())
	}
	if err := os.Remove(s.index()); !s.trusted || err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil // incomplete, or empty in an empty store
	}
	if err := os.WriteFile(s.index(clean), nil, 0o644); err != nil {
		return err
	}
	at, err := s.changedAt()
	if err != nil {
		return err
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, s.index(clean), []unix.Timespec{at, at},
		unix.AT_SYMLINK_NOFOLLOW))
}

func linkName(a Attachment) string {
	sum := sha256.Sum256([]byte(a.String()))
	return hex.EncodeToString(sum[:8])
}

// link puts a record into the index.
func (s *Store[T]) link(e Entry[T]) error {
	for _, key := range keysOf(e.State) {
		dir := s.index(key)
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrNotExist) { // the first of its kind
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = os.Symlink(toStore+e.String(), filepath.Join(dir, linkName(e.Attachment)))
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

// unlink removes keys of a record from the index.
func (s *Store[T]) unlink(a Attachment, keys []string) error {
	for _, key := range keys {
		path := filepath.Join(s.index(key), linkName(a))
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("index: %w", err)
		}
		if err := removeEmpty(filepath.Dir(path), filepath.Dir(s.index(key))); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

// Holders returns the records that have a key, in order of their sequence.
func (s *Store[T]) Holders(key string) ([]Entry[T], error) {
	var found []Entry[T]
	err := s.each(key, func(e Entry[T]) bool {
		found = append(found, e)
		return true
	})
	slices.SortFunc(found, older)
	return found, err
}

// Other returns some record that has a key and does not belong to a given attachment, or nil if there is none. It takes
// the same time however many records have the key.
func (s *Store[T]) Other(key string, than Attachment) (*Entry[T], error) {
	var found *Entry[T]
	err := s.each(key, func(e Entry[T]) bool {
		if e.Attachment != than {
			found = &e
		}
		return found == nil
	})
	return found, err
}

// Held reports whether a record that does not belong to a given attachment has a key. It reads only the index, not the
// record: if somebody has changed a record by hand, the answer may be true for a key that nobody has any more.
func (s *Store[T]) Held(key string, than Attachment) (bool, error) {
	if err := s.trust(); err != nil {
		other, err := s.Other(key, than)
		return other != nil, err
	}
	held := false
	err := s.links(key, func(path string) (more bool, err error) {
		held = filepath.Base(path) != linkName(than)
		return !held, nil
	})
	return held, err
}

// Values returns all values of a kind in the index. A record may have each of them.
func (s *Store[T]) Values(kind string) ([]string, error) {
	if err := s.trust(); err != nil {
		return nil, err
	}
	values, err := os.ReadDir(s.index(kind))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, v := range values {
		names = append(names, v.Name())
	}
	return names, err
}

// each calls a function for records that have a key, until the function returns false. If no index can be made, because
// the file system is read-only or full, it reads all records.
func (s *Store[T]) each(key string, do func(Entry[T]) bool) error {
	if err := s.trust(); err != nil {
		entries, _, listErr := s.List()
		for _, e := range entries {
			if slices.Contains(keysOf(e.State), key) && !do(e) {
				break
			}
		}
		return listErr
	}
	return s.links(key, func(path string) (more bool, err error) {
		e, err := s.follow(path, key)
		return e == nil || do(*e), err
	})
}

// links calls a function for the links of a key, until the function returns false or an error.
func (s *Store[T]) links(key string, do func(path string) (more bool, err error)) error {
	dir, err := os.Open(s.index(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(16)
		for _, name := range names {
			if more, err := do(filepath.Join(dir.Name(), name)); !more || err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// follow returns the record that a link of the index leads to, or nil if the record does not have the key or cannot be
// read.
func (s *Store[T]) follow(path, key string) (*Entry[T], error) {
	target, err := os.Readlink(path)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimPrefix(target, toStore), "/")
	if len(parts) != 3 {
		return nil, nil
	}
	e, err := s.Load(Attachment{parts[0], parts[1], parts[2]})
	var bad *CorruptError
	if errors.As(err, &bad) {
		return nil, nil
	}
	if e == nil || err != nil || !slices.Contains(keysOf(e.State), key) {
		return nil, err
	}
	return e, nil
}

// NextSequence returns the sequence of a new record. It is above that of every record that shares a key with it, and of
// all records saved since the node was started.
func NextSequence[T any](holders ...Entry[T]) uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // cannot fail: Linux has it since 2.6.39
	next := uint64(unix.TimespecToNsec(now))
	for _, e := range holders {
		next = max(next, e.Sequence+1)
	}
	return next
}
