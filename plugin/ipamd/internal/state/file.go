// Package state keeps on disk which pod has which address, so that a daemon that may be killed at any moment never
// assigns an address twice.
//
// It writes a state to a temporary file, syncs it and renames it over the old one. Only after that may anybody be told
// of it. Many callers share one write (Commits). It makes no decisions about addresses: package datastore does.
//
// Tests: go test ./plugin/ipamd/internal/state
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// format is the version of the file's format.
const format = 1

// document is the content of the file.
type document struct {
	Format int `json:"format"`
	// BootID identifies the boot that the state belongs to. No pod survives a reboot.
	BootID string `json:"bootID"`
	datastore.State
}

// File is a state on disk. Only one process at a time can hold it.
type File struct {
	path    string
	bootID  string
	lock    *os.File
	encoded map[*datastore.Assignment][]byte // of the last state; most assignments are in the next one too
}

// Open locks the file at path, which need not exist, for this process, and returns its state. The state of another boot
// (bootID, as in /proc/sys/kernel/random/boot_id) counts as empty: its pods are gone.
//
// It returns an error if another process holds the file or if the file is damaged: without knowing the addresses of
// existing pods, ipamd would assign some of them twice.
func Open(path, bootID string) (*File, datastore.State, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, datastore.State{}, fmt.Errorf("state: %w", err)
	}
	// The lock is on a separate file: a lock on the state itself would vanish with each rename.
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, datastore.State{}, fmt.Errorf("state: %w", err)
	}
	f := &File{path: path, bootID: bootID, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, datastore.State{}, fmt.Errorf("state %s: another ipamd holds it", path)
		}
		return nil, datastore.State{}, fmt.Errorf("state %s: lock: %w", path, err)
	}
	doc, err := f.load()
	if err == nil {
		err = f.removeLeftovers()
	}
	if err != nil {
		f.Close()
		return nil, datastore.State{}, err
	}
	return f, doc.State, nil
}

// Close unlocks the file. It may be called twice.
func (f *File) Close() error {
	return f.lock.Close()
}

func (f *File) load() (document, error) {
	var doc document
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return doc, nil
	}
	if err != nil {
		return doc, fmt.Errorf("state: %w", err)
	}
	const advice = "move it away once no pod of this node has an address of it"
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return doc, fmt.Errorf("state %s is damaged (%w); %s", f.path, err, advice)
	}
	if doc.Format != format {
		return doc, fmt.Errorf("state %s: want format %d, got %d; %s", f.path, format, doc.Format, advice)
	}
	if doc.BootID != f.bootID {
		doc.State = datastore.State{}
	}
	return doc, nil
}

// removeLeftovers removes the temporary files of processes that were killed while they wrote.
func (f *File) removeLeftovers() error {
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	for _, entry := range entries {
		number, ok := strings.CutPrefix(entry.Name(), f.temporary())
		if !ok || strings.Trim(number, "0123456789") != "" {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(f.path), entry.Name())); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	return nil
}

// temporary returns the prefix of the names of temporary files; renameio appends a number.
func (f *File) temporary() string { return "." + filepath.Base(f.path) }

// Save writes a state to disk. Calls must not overlap.
//
// It does not sync the directory after the rename: if a power failure undoes the rename, the state belongs to a boot
// that is over.
func (f *File) Save(s datastore.State) error {
	raw, err := f.encode(s)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := renameio.WriteFile(f.path, raw, 0o600, renameio.WithTempDir(filepath.Dir(f.path)),
		renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// encode encodes a document as encoding/json would. It encodes each assignment only once.
func (f *File) encode(s datastore.State) ([]byte, error) {
	head, err := json.Marshal(document{Format: format, BootID: f.bootID, State: datastore.State{
		Assignments: []*datastore.Assignment{}, Resting: s.Resting,
	}})
	if err != nil {
		return nil, err
	}
	const list = `"assignments":[`
	at := bytes.Index(head, []byte(list)) + len(list)
	var doc bytes.Buffer
	doc.Write(head[:at])
	encoded := make(map[*datastore.Assignment][]byte, len(s.Assignments))
	for i, a := range s.Assignments {
		raw := f.encoded[a]
		if raw == nil {
			if raw, err = json.Marshal(a); err != nil {
				return nil, err
			}
		}
		encoded[a] = raw
		if i > 0 {
			doc.WriteByte(',')
		}
		doc.Write(raw)
	}
	f.encoded = encoded
	doc.Write(head[at:])
	doc.WriteByte('\n')
	return doc.Bytes(), nil
}
