package main

import (
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// delegations returns defects of delegation between plugins.
func delegations() map[string]defect {
	return map[string]defect{
		"keeps-args-to-itself": func(c *call, next plugin) answer {
			return next(c.with("CNI_ARGS", "IgnoreUnknown=1"))
		},
		"keeps-keys-to-itself": func(c *call, next plugin) answer {
			return next(c.edited(func(config map[string]any) {
				ipam, _ := config["ipam"].(map[string]any)
				only := map[string]any{}
				for key, value := range ipam {
					if key != "routes" {
						only[key] = value
					}
				}
				config["ipam"] = only
			}))
		},
		"first-directory": on("ADD", func(c *call, next plugin) answer {
			first, _, _ := strings.Cut(c.env["CNI_PATH"], string(filepath.ListSeparator))
			return next(c.with("CNI_PATH", first))
		}),
		"drops-stderr": func(c *call, next plugin) answer {
			a := next(c)
			a.stderr = ""
			return a
		},
		"swallows-error-of-del": swallowing("DEL"),
		"rolls-back-alone": on("ADD", func(c *call, _ plugin) answer {
			if a, refused := c.refuse(); refused {
				return a
			}
			a := real(c)
			if a.status != 0 {
				real(c.withoutIPAM().as("DEL"))
			}
			return a
		}),
		"knows-macvlan": on("CHECK", func(c *call, next plugin) answer {
			if c.attached() && !c.link(func(l netlink.Link) bool { return l.Type() == "macvlan" }) {
				return c.fail(107, "%s: want a macvlan", c.env["CNI_IFNAME"])
			}
			return next(c)
		}),
		"follows-args": on("ADD", func(c *call, next plugin) answer {
			if !strings.Contains(c.env["CNI_ARGS"], "IP=") {
				return next(c)
			}
			return next(c.edited(func(config map[string]any) { delete(config, "args") }))
		}),
	}
}
