package main

import "strings"

// environments returns defects in the use of CNI_ARGS, CNI_NETNS and CNI_IFNAME.
func environments() map[string]defect {
	return map[string]defect{
		"needs-args": on("ADD", func(c *call, next plugin) answer {
			if c.env["CNI_ARGS"] == "" {
				return c.fail(4, "CNI_ARGS: want K8S_POD_NAME, got nothing")
			}
			return next(c)
		}),
		"strict-args": on("ADD", func(c *call, next plugin) answer {
			for _, pair := range strings.Split(c.env["CNI_ARGS"], ";") {
				key, _, _ := strings.Cut(pair, "=")
				switch key {
				case "", "IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "IP", "MAC":
				default:
					return c.fail(4, "CNI_ARGS: key %s is not known", key)
				}
			}
			return next(c)
		}),
		"needs-netns-in-del": on("DEL", func(c *call, next plugin) answer {
			if c.env["CNI_NETNS"] == "" {
				return c.fail(4, "CNI_NETNS: want a path, got nothing")
			}
			return next(c)
		}),
		"deletes-without-id": on("DEL", func(c *call, next plugin) answer {
			if c.env["CNI_CONTAINERID"] == "" {
				return answer{}
			}
			return next(c)
		}),
		"does-not-know-verbs": func(c *call, next plugin) answer {
			switch c.verb {
			case "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION":
				return next(c)
			}
			return answer{}
		},
		"forgives-capabilities": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 && c.config["runtimeConfig"] != nil {
				return next(c.edited(func(config map[string]any) { delete(config, "runtimeConfig") }))
			}
			return a
		}),
		"ignores-capabilities": on("ADD", func(c *call, next plugin) answer {
			options, _ := c.config["runtimeConfig"].(map[string]any)
			if mac, _ := options["mac"].(string); !strings.Contains(mac, ":") {
				return next(c)
			}
			return next(c.edited(func(config map[string]any) { delete(config, "runtimeConfig") }))
		}),
		"needs-hex-ids": on("ADD", func(c *call, next plugin) answer {
			if strings.Contains(c.env["CNI_CONTAINERID"], "_") {
				return c.fail(100, "container %s: want hexadecimal digits", c.env["CNI_CONTAINERID"])
			}
			return next(c)
		}),
		// It keys its files by letters and digits alone.
		"mends-ids": func(c *call, next plugin) answer {
			id := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(c.env["CNI_CONTAINERID"]))
			return next(c.with("CNI_CONTAINERID", id))
		},
		"mends-names": on("ADD", func(c *call, next plugin) answer {
			return next(c.with("CNI_IFNAME", strings.ReplaceAll(c.env["CNI_IFNAME"], "/", "-")))
		}),
	}
}
