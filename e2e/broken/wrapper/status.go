package main

import "os"

// readiness returns defects of STATUS.
func readiness() map[string]defect {
	const asked = volatile + "/ready"
	return map[string]defect{
		"always-ready": on("STATUS", func(c *call, next plugin) answer {
			if c.sound() {
				return answer{}
			}
			return next(c)
		}),
		"never-ready": on("STATUS", func(c *call, next plugin) answer {
			if c.sound() {
				return c.fail(50, "not ready")
			}
			return next(c)
		}),
		"needs-status": func(c *call, next plugin) answer {
			a := next(c)
			switch {
			case a.status != 0:
			case c.verb == "STATUS":
				if err := write(asked, ""); err != nil {
					return c.fail(5, "%v", err)
				}
			case c.verb == "ADD":
				if _, err := os.Stat(asked); err != nil {
					_ = next(c.as("DEL"))
					return c.fail(106, "STATUS was not asked")
				}
			}
			return a
		},
		"closed-when-not-ready": on("DEL", func(c *call, next plugin) answer {
			if a := next(c.as("STATUS")); a.status != 0 {
				return a
			}
			return next(c)
		}),
		"belittles-outages": on("STATUS", func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed && e.Code == 51 {
				return c.fail(50, "%s", e.Msg)
			}
			return a
		}),
		"status-alone":             alone("STATUS"),
		"swallows-error-of-status": swallowing("STATUS"),
		"never-full": on("STATUS", func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed && e.Code == 50 {
				if _, err := os.ReadDir(c.reservations()); err == nil {
					return answer{}
				}
			}
			return a
		}),
	}
}
