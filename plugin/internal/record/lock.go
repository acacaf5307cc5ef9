package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lockDirectory opens dir and takes an exclusive flock on it. The directory itself is the lock, so that no lock file
// stays behind. It may vanish while others wait: the last holder removes it when it is empty.
func lockDirectory(ctx context.Context, dir string, create bool) (*os.File, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if create {
			// Others remove the directory and its parent at the same time, for which MkdirAll returns either error.
			err := os.MkdirAll(dir, 0o755)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		f, err := os.Open(dir)
		if create && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, f); err != nil {
			f.Close()
			return nil, err
		}
		same, err := standsAt(f, dir)
		if err == nil && same {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// flock waits in the kernel, which is fair and ends at once when the holder dies. On a timeout its goroutine stays
// behind with a descriptor of its own; the plugin's process ends soon after.
func flock(ctx context.Context, f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return err // nil if nobody holds it: no thread is needed to wait
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	done := make(chan error, 1)
	go func() {
		defer unix.Close(fd)
		for {
			err := unix.Flock(fd, unix.LOCK_EX)
			if !errors.Is(err, unix.EINTR) {
				done <- err
				return
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("lock is held by another process: %w", ctx.Err())
	}
}

func standsAt(f *os.File, path string) (bool, error) {
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(held, now), nil
}
