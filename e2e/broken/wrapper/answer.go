package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// answers returns defects of exit status, standard output and versions.
func answers() map[string]defect {
	return map[string]defect{
		"answers-another-version": on("VERSION", func(c *call, next plugin) answer {
			return next(c).edited(func(result map[string]any) { result["cniVersion"] = "0.1.0" })
		}),
		"takes-any-version": func(c *call, next plugin) answer {
			if c.text("cniVersion") == "9.9.9" {
				c = c.edited(func(config map[string]any) { config["cniVersion"] = "1.0.0" })
			}
			return next(c)
		},
		"fails-at-0.3.1": on("ADD", func(c *call, next plugin) answer {
			if c.text("cniVersion") == "0.3.1" {
				return c.fail(100, "version 0.3.1 was forgotten")
			}
			return next(c)
		}),
		"error-with-status-0": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed && e.Code == 1 {
				a.status = 0
			}
			return a
		}),
		"result-with-status-1": on("ADD", func(c *call, next plugin) answer {
			a := next(c)
			if c.text("cniVersion") == "0.3.1" {
				a.status = 1
			}
			return a
		}),
		"panics-without-prevresult": on("ADD", func(c *call, next plugin) answer {
			if c.prevResult() == nil && c.text("name") != "" && c.text("cniVersion") != "9.9.9" {
				panic("prevResult is nil")
			}
			return next(c)
		}),
		"error-as-text": func(c *call, next plugin) answer {
			a := next(c)
			if e, failed := a.errorOf(); failed {
				a.stdout, a.stderr = "", a.stderr+e.Error()+"\n"
			}
			return a
		},
		"talks-in-del": on("DEL", func(c *call, next plugin) answer {
			return next(c).after("deleted\n")
		}),
		"prints-result-in-check": on("CHECK", func(c *call, next plugin) answer {
			return next(c).after("{}\n{}\n")
		}),
		"logs-before-result": on("ADD", func(c *call, next plugin) answer {
			return next(c).after("level=info msg=attached\n")
		}),
		"holds-stdout": on("STATUS", func(c *call, next plugin) answer {
			// Longer than an agent waits for the end of output (cni.KillGroup), and over before the processes are
			// compared.
			if err := linger("7s", os.Stdout); err != nil {
				return c.fail(100, "%v", err)
			}
			return next(c)
		}),
		"hangs": on("CHECK", func(c *call, next plugin) answer {
			a := next(c)
			if a.status != 0 {
				select {}
			}
			return a
		}),
	}
}

// lingering is the argument with which the wrapper does nothing for a time.
const lingering = "linger"

func linger(duration string, stdout *os.File) error {
	cmd := exec.Command("/proc/self/exe", lingering, duration)
	cmd.Stdout = stdout
	return cmd.Start()
}

// after returns the answer, and if it is a success with text before it.
func (a answer) after(text string) answer {
	if a.status == 0 {
		a.stdout = text + a.stdout
	}
	return a
}

// errorCodes returns defects of error objects.
func errorCodes() map[string]defect {
	recode := func(edit func(code uint, msg string) (uint, string)) defect {
		return func(c *call, next plugin) answer {
			a := next(c)
			e, failed := a.errorOf()
			if !failed || strings.Contains(e.Msg, "CNI_PATH") { // the library itself requires CNI_PATH
				return a
			}
			code, msg := edit(e.Code, e.Msg)
			spoilt := c.fail(code, "%s", msg)
			spoilt.stderr = a.stderr
			return spoilt
		}
	}
	instead := func(of, code uint) defect {
		return recode(func(c uint, msg string) (uint, string) {
			if c == of {
				c = code
			}
			return c, msg
		})
	}
	named := func(key string, value any) string { return fmt.Sprintf("key not supported: %s=%v", key, value) }
	return map[string]defect{
		"calls-environment-config": instead(4, 7),
		"calls-decoding-internal":  instead(6, 999),
		"calls-config-internal":    instead(7, 999),
		"exaggerates-status":       instead(50, 51),
		"calls-transient-internal": instead(11, 999),
		"calls-io-internal":        instead(5, 999),
		"calls-retry-internal":     instead(50, 999),
		"names-no-variable": recode(func(code uint, msg string) (uint, string) {
			if code == 4 {
				msg = "the environment is not as it should be"
			}
			return code, msg
		}),
		"reserved-code": recode(func(code uint, msg string) (uint, string) {
			if code >= 100 {
				code = 42
			}
			return code, msg
		}),
		"refuses-keys-with-any-code": refusingKeys(999, named),
		"refuses-keys-in-del": on("DEL", func(c *call, next plugin) answer {
			for key := range c.config {
				if strings.HasPrefix(key, "cnitest") {
					return c.fail(7, "key not supported: %s", key)
				}
			}
			return next(c)
		}),
		"refuses-args":              refusingArgs,
		"refuses-keys-without-name": refusingKeys(2, func(string, any) string { return "a key is not supported" }),
		// No defect: the specification allows it.
		"refuses-keys": refusingKeys(2, named),
	}
}

// refusingKeys returns an ADD that refuses unknown keys; msg makes the message about one of them.
func refusingKeys(code uint, msg func(key string, value any) string) defect {
	known := map[string]bool{
		"cniVersion": true, "name": true, "type": true, "prevResult": true, "ipam": true, "dns": true, "master": true,
		"bridge": true,
		"args":   true, "runtimeConfig": true,
	}
	return on("ADD", func(c *call, next plugin) answer {
		for key, value := range c.config {
			if !known[key] && !strings.HasPrefix(key, "cni.dev/") {
				return c.fail(code, "%s", msg(key, value))
			}
		}
		return next(c)
	})
}

// refusingArgs refuses args that it does not know.
func refusingArgs(c *call, next plugin) answer {
	args, _ := c.config["args"].(map[string]any)
	for key := range args {
		if key != "cni" {
			return c.fail(7, "args: key %s is not known", key)
		}
	}
	return next(c)
}
