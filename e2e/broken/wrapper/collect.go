package main

// collections returns defects of GC.
func collections() map[string]defect {
	const (
		key      = "cni.dev/valid-attachments"
		otherKey = "cni.dev/attachments"
	)
	return map[string]defect{
		"collects-nothing": on("GC", func(c *call, next plugin) answer {
			if c.config[key] == nil {
				return next(c)
			}
			return next(c.edited(func(config map[string]any) { config[key] = everything() }))
		}),
		"collects-everything": on("GC", func(c *call, next plugin) answer {
			return next(c.edited(func(config map[string]any) { config[key] = []any{} }))
		}),
		"knows-the-other-key": on("GC", func(c *call, next plugin) answer {
			return next(c.edited(func(config map[string]any) {
				if config[key] = config[otherKey]; config[otherKey] == nil {
					config[key] = []any{}
				}
			}))
		}),
		"collects-by-container": on("GC", func(c *call, next plugin) answer {
			return next(c.edited(func(config map[string]any) {
				var all []any
				for _, valid := range objects(config, key) {
					for _, name := range []string{"eth0", "net1"} {
						all = append(all, map[string]any{"containerID": valid["containerID"], "ifname": name})
					}
				}
				config[key] = all
			}))
		}),
		"keeps-when-none-is-valid": on("GC", func(c *call, next plugin) answer {
			if len(objects(c.config, key)) == 0 && c.sound() {
				return answer{}
			}
			return next(c)
		}),
		"stops-collecting": on("GC", func(c *call, _ plugin) answer {
			if !c.sound() {
				return real(c) // its answer says what is wrong
			}
			return c.collect(false)
		}),
		"hides-errors-of-gc": on("GC", func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed && e.Code == 5 {
				return answer{}
			}
			return a
		}),
		"collects-alone":       alone("GC"),
		"swallows-error-of-gc": swallowing("GC"),
		"reports-collection": on("GC", func(c *call, next plugin) answer {
			a := next(c)
			if a.status == 0 {
				a.stdout = `{"deleted": 2}`
			}
			return a
		}),
	}
}

// everything returns all names that the suite uses as valid attachments.
func everything() []any {
	var list []any
	for _, name := range []string{"live", "stale", "gone", "stuck"} {
		list = append(list, map[string]any{"containerID": "cnitest-" + name, "ifname": "eth0"})
	}
	return list
}
