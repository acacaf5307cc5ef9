package main

import (
	"os"
	"path/filepath"
	"time"
)

// slow returns defects of plugins that work, but slowly.
func slow() map[string]defect {
	const present = "/var/lib/broken/present"
	return map[string]defect{
		"takes-seconds": on("ADD", func(c *call, next plugin) answer {
			time.Sleep(2 * time.Second)
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
