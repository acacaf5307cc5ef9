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

// ErrNoSysctl is returned for a setting that this kernel does not have, such as a setting of IPv6 if the kernel has no
// IPv6.
var ErrNoSysctl = errors.New("no such sysctl")

// The name of a link may hold dots but no slash (dev_valid_name), so only a path is unambiguous.
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

// EnsureSysctl makes sure that a link in the namespace of the calling thread has a setting. It writes only a value that
// differs: if /proc/sys is read-only, a setting that somebody else has made before is enough.
func EnsureSysctl(link string, s Sysctl) error {
	got, err := ReadSysctl(s.Family, link, s.Key)
	if err != nil || got == s.Value {
		return err
	}
	return os.WriteFile(sysctlPath(s.Family, link, s.Key), []byte(s.Value), 0o644)
}
