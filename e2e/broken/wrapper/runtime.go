package main

import (
	"net"
	"os"
	"strconv"
	"time"
)

// runtimes returns defects of plugins for which a container runtime is not what they think it is.
func runtimes() map[string]defect {
	return map[string]defect{
		// It takes the process that called ADD for the only one that may call DEL.
		"keeps-runtime": keeping("process", func(*call) string { return strconv.Itoa(os.Getppid()) }),
		// It wants each pod's configuration to be as it was.
		"keeps-version": keeping("cniVersion", func(c *call) string { return c.text("cniVersion") }),
		// They refuse pods that they never saw, or keep something of them.
		"refuses-strangers": meeting(func(c *call, _ plugin) answer {
			return c.fail(3, "container %s: it was never added", c.env["CNI_CONTAINERID"])
		}),
		"keeps-strangers": meeting(func(c *call, next plugin) answer {
			if err := write(volatile+"/stranger-"+c.env["CNI_CONTAINERID"], ""); err != nil {
				return c.fail(5, "%v", err)
			}
			return next(c)
		}),
		"computes-in-status": on("STATUS", func(c *call, next plugin) answer {
			for begin := time.Now(); time.Since(begin) < 400*time.Millisecond; { //nolint:revive // it is to be busy
			}
			return next(c)
		}),
		"waits-for-daemon": on("DEL", func(c *call, next plugin) answer {
			a := next(c)
			conn, err := net.Dial("unix", c.text("socket"))
			if err != nil {
				return a
			}
			defer conn.Close()
			// A daemon that lives says something at once.
			_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
			_, _ = conn.Read(make([]byte, 1))
			return a
		}),
	}
}

// known begins the paths of what these plugins know of pods.
const known = volatile + "/known-"

// meeting returns a plugin with another DEL for pods that it never saw.
func meeting(stranger defect) defect {
	return func(c *call, next plugin) answer {
		path := known + "pod-" + c.env["CNI_CONTAINERID"]
		switch c.verb {
		case "ADD":
			if err := write(path, ""); err != nil {
				return c.fail(5, "%v", err)
			}
		case "DEL":
			if _, err := os.Stat(path); err != nil {
				return stranger(c, next)
			}
			if c.prevResult() == nil { // the last one that a container runtime calls
				_ = os.Remove(path)
			}
		}
		return next(c)
	}
}

// keeping returns a plugin whose DEL wants something to be as it was at ADD.
func keeping(what string, of func(*call) string) defect {
	return func(c *call, next plugin) answer {
		path := known + what + "-" + c.env["CNI_CONTAINERID"]
		switch c.verb {
		case "ADD":
			if err := write(path, of(c)); err != nil {
				return c.fail(5, "%v", err)
			}
		case "DEL":
			was, err := os.ReadFile(path)
			if err == nil && string(was) != of(c) {
				return c.fail(7, "%s: want %s as at ADD, got %s", what, was, of(c))
			}
			_ = os.Remove(path)
		}
		return next(c)
	}
}
