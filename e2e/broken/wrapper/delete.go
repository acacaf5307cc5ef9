package main

import (
	"os"

	"github.com/vishvananda/netlink"
)

// deletions returns defects of DEL.
func deletions() map[string]defect {
	return map[string]defect{
		// It copes with the loss of the interface and with that of the files of its IPAM plugin, not with both.
		"counts-losses": on("DEL", func(c *call, next plugin) answer {
			_, err := os.Stat(c.reservations() + "/lock")
			if err != nil && c.prevResult() != nil && !c.attached() {
				return c.fail(100, "neither %s nor a reservation is there", c.env["CNI_IFNAME"])
			}
			return next(c)
		}),
		"deletes-by-container": on("DEL", func(c *call, next plugin) answer {
			for _, name := range []string{"eth0", "net1"} {
				if name != c.env["CNI_IFNAME"] {
					next(c.with("CNI_IFNAME", name))
				}
			}
			return next(c)
		}),
		"del-wants-programs": on("DEL", func(c *call, next plugin) answer {
			if c.env["PATH"] == "/nonexistent" {
				return c.fail(100, `exec: "iptables": executable file not found in $PATH`)
			}
			return next(c)
		}),
		"needs-prevresult": on("DEL", func(c *call, next plugin) answer {
			if c.sound() && c.prevResult() == nil && c.text("cniVersion") >= "0.4.0" {
				return c.fail(7, "prevResult: want one, got none")
			}
			return next(c)
		}),
		"does-nothing-without-prevresult": on("DEL", func(c *call, next plugin) answer {
			if c.sound() && c.prevResult() == nil {
				return answer{}
			}
			return next(c)
		}),
		"fails-on-loss": on("DEL", func(c *call, next plugin) answer {
			if c.whole() {
				if a := next(c.as("CHECK")); a.status != 0 {
					return a
				}
			}
			return next(c)
		}),
		"stops-on-loss": on("DEL", func(c *call, next plugin) answer {
			if c.whole() && next(c.as("CHECK")).status != 0 {
				return answer{}
			}
			return next(c)
		}),
		"fails-without-attachment": on("DEL", func(c *call, next plugin) answer {
			if c.sound() && next(c.as("CHECK")).status != 0 {
				return c.fail(3, "container %s: unknown", c.env["CNI_CONTAINERID"])
			}
			return next(c)
		}),
		"needs-namespace": on("DEL", func(c *call, next plugin) answer {
			if _, err := os.Stat(c.env["CNI_NETNS"]); err != nil {
				return answer{}
			}
			return next(c)
		}),
		"forgets-old-format": func(c *call, next plugin) answer {
			path := "old-format-" + c.env["CNI_CONTAINERID"]
			old := c.text("cniVersion") < "1.0.0"
			a := next(c)
			switch {
			case a.status != 0:
			case c.verb == "ADD" && old:
				if err := note(path, ""); err != nil {
					return c.fail(5, "%v", err)
				}
			case c.verb == "DEL" && old:
				_ = os.Remove(store + "/" + path)
			}
			return a
		},
		"empties-the-node": on("DEL", func(c *call, next plugin) answer {
			a := next(c)
			link, err := netlink.LinkByName(c.text("bridge"))
			if err == nil {
				err = netlink.LinkDel(link)
			}
			_ = err // it may already be gone
			return a
		}),
	}
}

// sound reports whether the library accepts the configuration.
func (c *call) sound() bool {
	return c.text("name") != "" && c.text("name") != "../net" && c.text("cniVersion") != "9.9.9"
}

// whole reports whether everything that DEL can use exists: a pod with an interface, and prevResult.
func (c *call) whole() bool {
	return c.prevResult() != nil && c.inPod(func() error {
		_, err := netlink.LinkByName("lo")
		return err
	}) == nil
}
