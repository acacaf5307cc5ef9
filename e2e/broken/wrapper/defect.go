package main

import "maps"

// defects returns all defects by name. Tests of package e2e say which requirements each of them fails.
func defects() map[string]defect {
	all := map[string]defect{"none": func(c *call, next plugin) answer { return next(c) }}
	for _, family := range []map[string]defect{
		answers(), errorCodes(), environments(), results(), leaks(), deletions(), checks(), readiness(), collections(),
		delegations(), races(), failures(), unasked(), slow(), masquerades(), successors(), astray(), runtimes(),
	} {
		maps.Copy(all, family)
	}
	return all
}

// on returns a defect of one verb.
func on(verb string, d defect) defect {
	return func(c *call, next plugin) answer {
		if c.verb != verb {
			return next(c)
		}
		return d(c, next)
	}
}

// swallowing returns a verb that hides the errors of the delegated plugin: stubs return code 50.
func swallowing(verb string) defect {
	return on(verb, func(c *call, next plugin) answer {
		a := next(c)
		if e, failed := a.errorOf(); failed && e.Code == 50 {
			return answer{}
		}
		return a
	})
}

// alone returns a verb that does not call the delegated plugin.
func alone(verb string) defect {
	return on(verb, func(c *call, next plugin) answer { return next(c.withoutIPAM()) })
}

// withoutIPAM returns the call with a plugin that does nothing in place of the delegated one.
func (c *call) withoutIPAM() *call {
	return c.edited(func(config map[string]any) { config["ipam"] = map[string]any{"type": "nothing"} })
}

// adding returns an ADD whose successful result is spoilt.
func adding(spoil func(c *call, result map[string]any)) defect {
	return on("ADD", func(c *call, next plugin) answer {
		return next(c).edited(func(result map[string]any) { spoil(c, result) })
	})
}

// lying returns a defect that spoils the result of ADD and remembers the correct one, which the plugin itself gets as
// prevResult. So only a comparison with the kernel notices it.
func lying(spoil, repair func(c *call, result map[string]any)) defect {
	return func(c *call, next plugin) answer {
		if c.verb == "ADD" {
			return next(c).edited(func(result map[string]any) { spoil(c, result) })
		}
		if result := c.prevResult(); result != nil {
			// The object belongs to this call alone.
			c = c.edited(func(map[string]any) { repair(c, result) })
		}
		return next(c)
	}
}
