package main

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// slow returns defects of plugins that work, but slowly.
func slow() map[string]defect {
	const present = "/var/lib/broken/present"
	return map[string]defect{
		"takes-seconds": on("ADD", func(c *call, next plugin) answer {
			time.Sleep(8 * time.Second) // less than the 10 s after which calls are killed
			return next(c)
		}),
		// No requirement asks for more, and cnitest bench shows it (../../bench).
		"holds-a-lock": on("ADD", func(c *call, next plugin) answer {
			unlock, err := lock("/run/broken.lock")
			if err != nil {
				return c.fail(5, "%v", err)
			}
			defer unlock()
			time.Sleep(300 * time.Millisecond)
			return next(c)
		}),
		// It behaves as if it searched all attachments of the node, and slowly.
		"slows-with-each-pod": func(c *call, next plugin) answer {
			own := filepath.Join(present, c.env["CNI_CONTAINERID"])
			switch c.verb {
			case "ADD":
				others, _ := os.ReadDir(present)
				time.Sleep(time.Duration(len(others)) * 40 * time.Millisecond)
				a := next(c)
				if a.status != 0 {
					return a
				}
				if err := os.MkdirAll(present, 0o755); err != nil {
					return c.fail(5, "%v", err)
				}
				if err := os.WriteFile(own, nil, 0o644); err != nil {
					return c.fail(5, "%v", err)
				}
				return a
			case "DEL":
				_ = os.Remove(own)
			}
			return next(c)
		},
	}
}

// lock takes the lock of a file; unlock gives it back.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}
