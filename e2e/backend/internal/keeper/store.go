package keeper

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// store contains the files of a machine's keeper, and directories of them. Each file is stored under its sum, so that
// it is sent only once.
type store struct{ dir string }

// sumForm matches a SHA-256 sum.
var sumForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *store) path(sum string) string { return filepath.Join(s.dir, "files", sum) }

func (s *store) missing(sums []string) []string {
	missing := []string{}
	for _, sum := range sums {
		if _, err := os.Stat(s.path(sum)); err != nil {
			missing = append(missing, sum)
		}
	}
	return missing
}

// receive stores a compressed file. If its sum differs, it returns an error and stores nothing.
func (s *store) receive(sum string, from io.Reader) error {
	if !sumForm.MatchString(sum) {
		return fmt.Errorf("sum %q: want 64 hexadecimal digits", sum)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "files"), 0o755); err != nil {
		return err
	}
	content, err := gzip.NewReader(from)
	if err != nil {
		return err
	}
	// Stop at the end of the file: the sender then waits for an answer.
	content.Multistream(false)
	file, err := os.CreateTemp(filepath.Join(s.dir, "files"), "new-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, hash), content)
	// A file under its sum is trusted, even after a power failure.
	if err = errors.Join(err, file.Chmod(0o755), file.Sync(), file.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("file: want the sum %s, got %s", sum, got)
	}
	return os.Rename(file.Name(), s.path(sum))
}

// directory makes a directory of existing files. It removes all other directories, and files that are neither in it nor
// in keep.
func (s *store) directory(files map[string]string, keep []string) (string, error) {
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != filepath.Base(name) || !sumForm.MatchString(files[name]) {
			return "", fmt.Errorf("file %q with the sum %q: want a name and a sum", name, files[name])
		}
		fmt.Fprintln(hash, name, files[name])
	}
	dir := filepath.Join(s.dir, "bin-"+hex.EncodeToString(hash.Sum(nil))[:16])
	if _, err := os.Stat(dir); err != nil {
		// It is made under another name first: a directory that exists is complete.
		made, err := os.MkdirTemp(s.dir, "new-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(made)
		for name, sum := range files {
			if err := os.Link(s.path(sum), filepath.Join(made, name)); err != nil {
				return "", err
			}
		}
		if err := errors.Join(os.Chmod(made, 0o755), os.Rename(made, dir)); err != nil {
			return "", err
		}
	}
	return dir, s.prune(dir, slices.AppendSeq(slices.Clone(keep), maps.Values(files)))
}

// prune removes everything that only earlier runs needed.
func (s *store) prune(dir string, sums []string) error {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "bin-*"))
	if err != nil {
		return err
	}
	for _, other := range dirs {
		if other != dir {
			err = errors.Join(err, os.RemoveAll(other))
		}
	}
	entries, readErr := os.ReadDir(filepath.Join(s.dir, "files"))
	if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
		return errors.Join(err, readErr)
	}
	for _, entry := range entries {
		if !slices.Contains(sums, entry.Name()) {
			err = errors.Join(err, os.Remove(s.path(entry.Name())))
		}
	}
	return err
}
