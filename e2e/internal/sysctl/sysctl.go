// Package sysctl reads and writes settings of a network namespace. It reads several hundred at a time, by plain system
// calls: opening each relative to its directory takes two thirds of the time of os.ReadFile with full paths.
//
// Run its tests: go test ./e2e/internal/sysctl
package sysctl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/rtnl"
)

// Root shows the network namespace of the thread that opens it, not that of the process (net_ctl_root of
// net/sysctl_net.c).
const Root = "/proc/sys/net"

// unreadable are the errors of sysctls without a value: one that can only be written, a stable_secret that was never
// set (EIO), and one of a link that was removed.
var unreadable = []unix.Errno{
	unix.EACCES, unix.EPERM, unix.EIO, unix.EINVAL, unix.ENODEV, unix.ENOENT,
}

// ReadAt returns the value of a file of an open directory, with one space between its parts. ok is false if it has
// none.
func ReadAt(dir int, name string) (value string, ok bool, err error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		value, err = read(fd)
	}
	var number unix.Errno
	if errors.As(err, &number) && slices.Contains(unreadable, number) {
		return "", false, nil
	}
	if err != nil {
		return "", false, &os.PathError{Op: "read", Path: name, Err: err}
	}
	return value, true, nil
}

// Read is ReadAt for a path.
func Read(path string) (value string, ok bool, err error) { return ReadAt(unix.AT_FDCWD, path) }

// underRTNL contains the sysctls whose write waits for the RTNL lock without sleeping.
var underRTNL = map[string]bool{
	"ip_forward": true, "forwarding": true, "disable_ipv6": true, "proxy_ndp": true,
	"ignore_routes_with_linkdown": true,
}

// Set writes a value that is not there already: /proc/sys may be read-only.
func Set(path, value string) error {
	if now, ok, err := Read(path); err == nil && ok && now == Normal(value) {
		return nil
	}
	if underRTNL[filepath.Base(path)] {
		rtnl.Wait()
	}
	return os.WriteFile(path, []byte(value), 0)
}

func read(fd int) (string, error) {
	var buffer [4096]byte
	n, err := unix.Read(fd, buffer[:])
	return Normal(string(buffer[:max(n, 0)])), err
}

// Normal returns a value with one space between its parts, as ReadAt does.
func Normal(value string) string { return strings.Join(strings.Fields(value), " ") }
