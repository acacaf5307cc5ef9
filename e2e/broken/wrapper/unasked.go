package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// unasked returns defects that few tests of plugins look for: changes to objects of others, reactions to missing
// fields, and changes by a verb that must only answer.
func unasked() map[string]defect {
	return map[string]defect{
		// After its own network it also collects all others for which it finds files, as if none of their attachments
		// were valid.
		"collects-other-networks": on("GC", func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 || !c.sound() {
				return a
			}
			for _, name := range networks() {
				if name == c.text("name") {
					continue
				}
				other := c.edited(func(config map[string]any) {
					config["name"], config["cni.dev/valid-attachments"], config["cni.dev/attachments"] = name, []any{},
						[]any{}
				})
				if a := next(other); a.status != 0 {
					return a
				}
			}
			return a
		}),
		"forgets-search": adding(func(_ *call, result map[string]any) {
			if dns, ok := result["dns"].(map[string]any); ok {
				delete(dns, "search")
			}
		}),
		"forgets-pci-id": adding(eachInterface(func(_ *call, i map[string]any) { delete(i, "pciID") })),
		"forgets-advmss": adding(func(_ *call, result map[string]any) {
			for _, route := range objects(result, "routes") {
				delete(route, "advmss")
			}
		}),
		"status-makes-link": on("STATUS", func(c *call, next plugin) answer {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "ready0"
			_ = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}) // it may exist from the last time
			return next(c)
		}),
		"check-writes": on("CHECK", func(c *call, next plugin) answer {
			if err := note("checked", c.env["CNI_CONTAINERID"]); err != nil {
				return c.fail(5, "%v", err)
			}
			return next(c)
		}),
		"reads-a-page":   reading(4 << 10),
		"reads-a-buffer": reading(64 << 10),
		"takes-advertisements": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status == 0 {
				if err := c.setInPod("ipv6", "accept_ra", "2"); err != nil {
					return c.fail(100, "%v", err)
				}
			}
			return a
		}),
		"answers-for-others": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 {
				return a
			}
			for _, name := range []string{"forwarding", "proxy_arp_pvlan"} {
				if err := c.setInPod("ipv4", name, "1"); err != nil {
					return c.fail(100, "%v", err)
				}
			}
			return a
		}),
		"proxies-arp": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			_ = c.setInPod("ipv4", "proxy_arp", "1")
			return a
		}),
		"lowers-lo": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 || c.prevResult() == nil {
				return a
			}
			_ = c.inPod(func() error {
				lo, err := netlink.LinkByName("lo")
				if err != nil {
					return err
				}
				return netlink.LinkSetDown(lo)
			})
			return a
		}),
	}
}

// networks returns the networks for which host-local and the plugins of this repository have files.
func networks() []string {
	var names []string
	for _, pattern := range []string{"/var/lib/cni/networks/*", "/run/cni/*/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			panic(err)
		}
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				names = append(names, filepath.Base(path))
			}
		}
	}
	return names
}

// reading returns a plugin that reads only a number of bytes of its configuration.
func reading(bytes int) defect {
	return func(c *call, next plugin) answer {
		if len(c.stdin) <= bytes {
			return next(c)
		}
		other := *c
		other.stdin = c.stdin[:bytes]
		if other.config = map[string]any{}; json.Unmarshal(other.stdin, &other.config) != nil {
			other.config = map[string]any{} // the real plugin reports the mistake
		}
		return next(&other)
	}
}
