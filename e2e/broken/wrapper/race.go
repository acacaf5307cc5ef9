package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// races returns defects of concurrent calls.
func races() map[string]defect {
	const lock = volatile + "/lock"
	take := func() error {
		if err := os.MkdirAll(volatile, 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return file.Close()
	}
	return map[string]defect{
		"one-at-a-time": on("ADD", func(c *call, next plugin) answer {
			if err := take(); err != nil {
				return c.fail(11, "another ADD is running: %v", err)
			}
			defer os.Remove(lock)
			return next(c)
		}),
		"keeps-its-lock": on("ADD", func(c *call, next plugin) answer {
			deadline := time.Now().Add(4 * time.Second)
			err := take()
			for ; errors.Is(err, fs.ErrExist) && time.Now().Before(deadline); err = take() {
				time.Sleep(10 * time.Millisecond)
			}
			if err != nil {
				return c.fail(11, "%v", err)
			}
			defer os.Remove(lock)
			return next(c)
		}),
		// Calls at the same time get the same address.
		"shares-addresses": on("ADD", func(c *call, next plugin) answer {
			last := filepath.Join(volatile, "last")
			if err := take(); err != nil {
				for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); time.Sleep(
					5 * time.Millisecond) {
					if _, err := os.Stat(lock); errors.Is(err, fs.ErrNotExist) {
						break
					}
				}
				text, err := os.ReadFile(last)
				if err != nil {
					return c.fail(5, "%v", err)
				}
				return answer{stdout: string(text)}
			}
			defer os.Remove(lock)
			time.Sleep(50 * time.Millisecond) // by now the other calls of the same moment have arrived
			a := next(c)
			if a.status == 0 {
				if err := write(last, a.stdout); err != nil {
					return c.fail(5, "%v", err)
				}
			}
			return a
		}),
	}
}
