package fault

import (
	"strings"

	"golang.org/x/sys/unix"
)

// change returns a point for all faults.
func change(what ...string) (Point, bool) {
	return Point{What: words(what...), Kill: true, Fail: true}, true
}

// outside reports whether a file is visible to others, in contrast to pipes, devices, memory and a process's own files
// in /proc.
func outside(path string) bool {
	switch {
	case !strings.HasPrefix(path, "/"), strings.HasPrefix(path, "/memfd:"):
		return false
	case strings.HasPrefix(path, "/dev/"):
		return strings.HasPrefix(path, "/dev/shm/")
	case strings.HasPrefix(path, "/proc/"):
		return strings.HasPrefix(path, "/proc/sys/")
	}
	return true
}

func onPath(verb string, dir, arg int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		path := c.path(dir, arg)
		if !outside(path) {
			return Point{}, false
		}
		return change(verb, path)
	}
}

func onPaths(verb string, fromDir, from, toDir, to int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		return change(verb, c.path(fromDir, from), "→", c.path(toDir, to))
	}
}

func symlinks(target, dir, arg int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		return change("symlink", c.path(dir, arg), "→", c.text(uintptr(c.args[target])))
	}
}

func unlinks(c *sysCall) (Point, bool) {
	verb := "unlink"
	if c.args[2]&unix.AT_REMOVEDIR != 0 {
		verb = "rmdir"
	}
	return onPath(verb, 0, 1)(c)
}

func opens(dir, arg, flags int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) { return c.opens(c.path(dir, arg), c.args[flags]) }
}

func opens2(c *sysCall) (Point, bool) {
	return c.opens(c.path(0, 1), c.word(c.args[2])) // struct open_how begins with the flags
}

func (c *sysCall) opens(path string, flags uint64) (Point, bool) {
	switch {
	case !outside(path), flags&openFlags == 0:
		return Point{}, false
	case strings.HasPrefix(path, "/proc/"), strings.HasPrefix(path, "/sys/"):
		return Point{}, false // nothing is made or emptied there: the write counts
	case flags&unix.O_TMPFILE == unix.O_TMPFILE:
		return change("create a nameless file in", path)
	case flags&unix.O_CREAT != 0:
		return change("create", path)
	}
	return change("truncate", path)
}

func writes(verb string, arg int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		link := c.link(c.args[arg])
		switch {
		case strings.HasPrefix(link, "socket:"):
			return c.sendsOn(c.args[arg])
		case link == c.tracer.stdout && c.thread.process.pid == c.tracer.root:
			return Point{What: "write the answer", Kill: true}, true
		case !outside(link):
			return Point{}, false
		case strings.HasPrefix(link, "/proc/sys/"), strings.HasPrefix(link, "/sys/"):
			return change(verb, link, "=", strings.ToValidUTF8(string(c.gather(c.buffers(), 64)), "?"))
		}
		return change(verb, link)
	}
}

func syncs(c *sysCall) (Point, bool) {
	link := c.link(c.args[0])
	return Point{What: "sync " + link, Fail: true}, outside(link)
}

func mounts(c *sysCall) (Point, bool) {
	kind := c.text(uintptr(c.args[2]))
	if kind != "" {
		kind = "type " + kind
	}
	return change("mount", c.text(uintptr(c.args[0])), "on", c.path(none, 1), kind)
}
