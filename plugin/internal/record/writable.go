package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Writable returns why no record of a network can be saved: something other than a directory is in the place of one, or
// the file system is full or read-only. It may be called at any time, also while a call holds the lock: it only reads,
// and takes no lock. Whether the store exists does not matter.
func Writable(opts Options, network string) error {
	for dir := filepath.Join(opts.dir(), network); ; dir = filepath.Dir(dir) {
		// Save makes missing directories, and they may vanish with the last record of others between two lookups.
		err := writable(dir)
		if dir == "/" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
}

func writable(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is a file, want a directory: remove it", dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	// A file system without a limit, such as a tmpfs with size=0, has no total either (shmem_statfs).
	if s.Blocks > 0 && s.Bavail == 0 || s.Files > 0 && s.Ffree == 0 {
		return fmt.Errorf("%s: %w", dir, unix.ENOSPC)
	}
	return nil
}
