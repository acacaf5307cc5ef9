package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/rtnl"
	"github.com/cnitest/cnitest/e2e/internal/sysctl"
)

func takeSysctls() ([]object, error) {
	root, err := os.Open(sysctl.Root)
	if err != nil {
		return nil, err
	}
	modes, err := addressModes()
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	w := sysctlWalk{modes: modes}
	err = w.walk(root, "net")
	return w.objects, err
}

// sysctlWalk is one walk over the sysctls of a network namespace.
type sysctlWalk struct {
	// modes contains the addr_gen_mode of links by name.
	modes   map[string]string
	objects []object
}

// walk appends the sysctls below a directory, which it closes. A namespace has several hundred.
func (w *sysctlWalk) walk(dir *os.File, prefix string) error {
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		// As in sysctl(8): dots between the parts, and a slash in place of a dot in a device's name.
		name := prefix + "." + strings.ReplaceAll(entry.Name(), ".", "/")
		if value, has, known := w.known(filepath.Base(dir.Name()), entry.Name()); known {
			if has {
				w.add(name, value)
			}
			continue
		}
		if entry.IsDir() {
			below, err := openAt(dir, entry.Name())
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
				continue // its link was removed
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := w.walk(below, name); err != nil {
				return err
			}
			continue
		}
		value, ok, err := sysctl.ReadAt(int(dir.Fd()), entry.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if ok {
			w.add(name, value)
		}
	}
	return nil
}

func (w *sysctlWalk) add(name, value string) {
	restore := func(before string) error { return writeSysctl(name, before) }
	w.objects = append(w.objects, object{Item: Item{Name: name, Text: value}, restore: restore})
}

// stablePrivacy is the addr_gen_mode of a link that makes addresses from a secret (IN6_ADDR_GEN_MODE_STABLE_PRIVACY).
const stablePrivacy = "2"

// known returns the values of the two sysctls of a link whose read waits for the RTNL lock without sleeping
// (addrconf_sysctl_addr_gen_mode and addrconf_sysctl_stable_secret in net/ipv6/addrconf.c), if they are known. A link
// has a secret only if it makes addresses from one.
func (w *sysctlWalk) known(link, name string) (value string, has, known bool) {
	mode, seen := w.modes[link]
	switch {
	case seen && name == "addr_gen_mode":
		return mode, true, true
	case seen && name == "stable_secret" && mode != stablePrivacy:
		return "", false, true
	}
	return "", false, false
}

// addressModes returns the addr_gen_mode of all links, all and default. A missing one is read like other sysctls.
func addressModes() (map[string]string, error) {
	modes := map[string]string{}
	err := eachProtocolInfo(unix.AF_INET6, func(_ int, attributes, inet6 []byte) {
		for _, mode := range nestedOf(inet6, unix.IFLA_INET6_ADDR_GEN_MODE) {
			for _, name := range nestedOf(attributes, unix.IFLA_IFNAME) {
				modes[unix.ByteSliceToString(name)] = strconv.Itoa(int(mode[0]))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	rtnl.Wait()
	for _, name := range []string{"all", "default"} {
		if mode, ok, err := sysctl.Read(sysctl.Root + "/ipv6/conf/" + name + "/addr_gen_mode"); err == nil && ok {
			modes[name] = mode
		}
	}
	return modes, nil
}

func openAt(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// writeSysctl sets a sysctl. It adds a newline for empty values, since the kernel ignores an empty write.
func writeSysctl(name, value string) error {
	path := strings.NewReplacer(".", "/", "/", ".").Replace(strings.TrimPrefix(name, "net."))
	return os.WriteFile(sysctl.Root+"/"+path, []byte(value+"\n"), 0)
}
