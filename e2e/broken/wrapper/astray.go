package main

import (
	"os"
	"path/filepath"
)

// astray returns defects that follow names or links to files of others.
func astray() map[string]defect {
	return map[string]defect{
		// A file with a pod's name, wherever that leads.
		"files-by-pod": func(c *call, next plugin) answer {
			file := filepath.Join(store, c.argument("K8S_POD_NAME"))
			return keep(c, next, file, func() error { return write(file, "known") })
		},
		// What a valid attachment is called is a file that GC touches.
		"touches-valid": on("GC", func(c *call, next plugin) answer {
			for _, a := range objects(c.config, "cni.dev/valid-attachments") {
				id, _ := a["containerID"].(string)
				if _, err := os.Stat(filepath.Join(store, id)); err == nil {
					_ = write(filepath.Join(store, id), "valid")
				}
			}
			return next(c)
		}),
		// Its record is written through a link.
		"follows-links": func(c *call, next plugin) answer {
			file := filepath.Join(store, "known-"+c.attachment())
			return keep(c, next, file, func() error { return write(file, "known") })
		},
		// Its record says whose it is, and DEL tells.
		"tells-record": func(c *call, next plugin) answer {
			file := filepath.Join(store, "told-"+c.attachment())
			if said, err := os.ReadFile(file); c.verb == "DEL" && err == nil {
				_ = os.Remove(file)
				if string(said) != "known" {
					return c.fail(102, "%s says %q", file, said)
				}
			}
			return keep(c, next, file, func() error {
				_ = os.Remove(file)
				return write(file, "known")
			})
		},
	}
}

// attachment returns a name for a file of an attachment, which is a container and an interface.
func (c *call) attachment() string { return c.env["CNI_CONTAINERID"] + "-" + c.env["CNI_IFNAME"] }

// keep makes a file after ADD, and removes it after DEL.
func keep(c *call, next plugin, file string, make func() error) answer {
	a := next(c)
	var err error
	switch {
	case a.status != 0:
	case c.verb == "ADD":
		err = make()
	case c.verb == "DEL":
		_ = os.Remove(file)
	}
	if err != nil {
		return c.fail(102, "%v", err)
	}
	return a
}
