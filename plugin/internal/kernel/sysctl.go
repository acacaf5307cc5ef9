package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Sysctl is a setting of one link, or of "all" or "default".
type Sysctl struct {
	Family string // "ipv4" or "ipv6"
	Key    string
	Value  string
}

// ErrNoSysctl is returned for a setting that this kernel does not have, such as a setting of IPv6 if the kernel has no
// IPv6.
var ErrNoSysctl = errors.New("no such sysctl")

// Sysctl returns a setting of a link.
func (n *Namespace) Sysctl(family, link, key string) (string, error) {
	fd, err := n.openSysctl(family, link, key, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var value [64]byte
	length, err := unix.Read(fd, value[:])
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: sysctlPath(family, link, key), Err: err}
	}
	return strings.TrimSpace(string(value[:length])), nil
}

// EnsureSysctl makes sure that a link has a setting. It writes only a value that differs: if /proc/sys is read-only, a
// setting that somebody else has made before is enough.
func (n *Namespace) EnsureSysctl(link string, s Sysctl) error {
	got, err := n.Sysctl(s.Family, link, s.Key)
	if err != nil || got == s.Value {
		return err
	}
	fd, err := n.openSysctl(s.Family, link, s.Key, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(s.Value)); err != nil {
		return &fs.PathError{Op: "write", Path: sysctlPath(s.Family, link, s.Key), Err: err}
	}
	return nil
}

// EnsureSysctls makes sure that a link has settings, except those that this kernel does not have.
func (n *Namespace) EnsureSysctls(link string, settings ...Sysctl) error {
	for _, s := range settings {
		if err := n.EnsureSysctl(link, s); err != nil && !errors.Is(err, ErrNoSysctl) {
			return fmt.Errorf("link %s: sysctl %s.%s=%s: %w", link, s.Family, s.Key, s.Value, err)
		}
	}
	return nil
}

// CheckSysctls returns an error about the first of some settings that a link does not have, except those that this
// kernel does not have.
func (n *Namespace) CheckSysctls(link string, settings ...Sysctl) error {
	for _, s := range settings {
		got, err := n.Sysctl(s.Family, link, s.Key)
		if errors.Is(err, ErrNoSysctl) {
			continue
		}
		if err != nil {
			return err
		}
		if got != s.Value {
			return fmt.Errorf("link %s: want sysctl %s.%s=%s, got %s", link, s.Family, s.Key, s.Value, got)
		}
	}
	return nil
}

// The name of a link may hold dots but no slash (dev_valid_name), so only a path is unambiguous.
func sysctlPath(family string, parts ...string) string {
	return filepath.Join("/proc/sys/net", family, "conf", filepath.Join(parts...))
}

// openSysctl returns a plain descriptor: a file of package os takes seven system calls more for each of the dozen
// settings of a call. It opens inside the namespace: a thread of another one may open settings too, but takes none that
// the kernel has cached (proc_sys_compare), and each time would leave two entries more in the cache, which all later
// calls go through.
func (n *Namespace) openSysctl(family, link, key string, flags int) (int, error) {
	dir, err := n.settingsOf(family)
	if err != nil {
		return -1, err
	}
	fd := -1
	err = n.inside(func() (err error) {
		fd, err = unix.Openat(dir, filepath.Join(link, key), flags|unix.O_CLOEXEC, 0)
		return openError(err, family, link, key)
	})
	return fd, err
}

func openError(err error, family string, parts ...string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s.%s: %w", family, strings.Join(parts, "."), ErrNoSysctl)
	case err != nil:
		return &fs.PathError{Op: "open", Path: sysctlPath(family, parts...), Err: err}
	}
	return nil
}

// settingsOf returns the directory of all settings of links. It is opened once: the kernel keeps the directories "ipv4"
// of all namespaces under one name, and goes through them for each path below /proc/sys/net (proc_sys_compare), which
// takes half a millisecond on a node with 3,000 pods.
func (n *Namespace) settingsOf(family string) (int, error) {
	if dir, ok := n.settings[family]; ok {
		return dir, nil
	}
	dir := -1
	if err := n.inside(func() (err error) {
		dir, err = unix.Open(sysctlPath(family), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return openError(err, family)
	}); err != nil {
		return -1, err
	}
	if n.settings == nil {
		n.settings = map[string]int{}
	}
	n.settings[family] = dir
	return dir, nil
}
