package kernel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	file, err := n.openSysctl(family, link, key, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer file.Close()
	raw, err := io.ReadAll(file)
	return strings.TrimSpace(string(raw)), err
}

// EnsureSysctl makes sure that a link has a setting. It writes only a value that differs: if /proc/sys is read-only, a
// setting that somebody else has made before is enough.
func (n *Namespace) EnsureSysctl(link string, s Sysctl) error {
	got, err := n.Sysctl(s.Family, link, s.Key)
	if err != nil || got == s.Value {
		return err
	}
	file, err := n.openSysctl(s.Family, link, s.Key, os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = file.WriteString(s.Value)
	return errors.Join(err, file.Close())
}

// The name of a link may hold dots but no slash (dev_valid_name), so only a path is unambiguous.
func (n *Namespace) openSysctl(family, link, key string, flags int) (*os.File, error) {
	settings, err := n.settingsOf(family)
	if err == nil {
		var file *os.File
		if file, err = settings.OpenFile(filepath.Join(link, key), flags, 0); err == nil {
			return file, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s.%s.%s: %w", family, link, key, ErrNoSysctl)
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = &fs.PathError{Op: "open", Path: filepath.Join(settingsPath(family), link, key), Err: failed.Err}
	}
	return nil, err
}

func settingsPath(family string) string { return filepath.Join("/proc/sys/net", family, "conf") }

// settingsOf returns the directory of all settings of links. It is opened once: the kernel keeps the directories "ipv4"
// of all namespaces under one name, and goes through them for each path below /proc/sys/net (proc_sys_compare), which
// takes half a millisecond on a node with 3,000 pods.
func (n *Namespace) settingsOf(family string) (*os.Root, error) {
	if settings := n.settings[family]; settings != nil {
		return settings, nil
	}
	var settings *os.Root
	open := func() (err error) {
		settings, err = os.OpenRoot(settingsPath(family))
		return err
	}
	if n.current {
		if err := open(); err != nil {
			return nil, err
		}
	} else if err := n.Do(open); err != nil {
		return nil, err
	}
	if n.settings == nil {
		n.settings = map[string]*os.Root{}
	}
	n.settings[family] = settings
	return settings, nil
}
