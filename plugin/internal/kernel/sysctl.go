package kernel

import (
	"errors"
	"fmt"
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

// ErrNoSysctl is returned for a setting that this kernel does not have, such as any of IPv6 where IPv6 is not there.
var ErrNoSysctl = errors.New("no such sysctl")

// The name of a link may hold dots, so a path is all that is unambiguous. It cannot hold a slash (dev_valid_name).
func sysctlPath(family, link, key string) string {
	return filepath.Join("/proc/sys/net", family, "conf", link, key)
}

// ReadSysctl returns a setting of a link in the namespace of the calling thread.
func ReadSysctl(family, link, key string) (string, error) {
	raw, err := os.ReadFile(sysctlPath(family, link, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s.%s.%s: %w", family, link, key, ErrNoSysctl)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(raw)), nil
}

// EnsureSysctl makes sure of a setting of a link in the namespace of the calling thread. It writes only what differs:
// where /proc/sys is read-only, settings made by somebody else before are good enough.
func EnsureSysctl(link string, s Sysctl) error {
	got, err := ReadSysctl(s.Family, link, s.Key)
	if err != nil || got == s.Value {
		return err
	}
	return os.WriteFile(sysctlPath(s.Family, link, s.Key), []byte(s.Value), 0o644)
}
