package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/cnitest/cnitest/e2e/internal/sysctl"
)

// NamespaceDir is where the namespaces of pods are mounted, as `ip netns` and container runtimes do.
const NamespaceDir = "/var/run/netns"

// NamespacePath returns the path of a pod's network namespace.
func NamespacePath(name string) string { return filepath.Join(NamespaceDir, name) }

// CreateNamespace makes a pod's network namespace with lo up and the node's IPv4 settings. On an error there is none.
func (s *Server) CreateNamespace(name string, path *string) error {
	*path = NamespacePath(name)
	inherited, err := readIPv4Settings()
	if err != nil {
		return err
	}
	if err := newNamespace(name); err != nil {
		return fmt.Errorf("namespace %s: %w", *path, err)
	}
	err = inNamespace(*path, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		return inherited.apply()
	})
	if err != nil {
		return errors.Join(err, netns.DeleteNamed(name))
	}
	return nil
}

// newNamespace makes a namespace and leaves its thread in the original one. If the thread were the first one of the
// process, which never ends, it would keep the namespace alive for good, and other processes would see it there.
func newNamespace(name string) error {
	return inNewNamespace(func() (netns.NsHandle, error) { return netns.NewNamed(name) }, func() error { return nil })
}

// inNewNamespace calls f on a thread in a namespace that enter makes and enters.
func inNewNamespace(enter func() (netns.NsHandle, error), f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			own, err := netns.Get()
			if err != nil {
				return err
			}
			defer own.Close()
			inside, err := enter()
			if err == nil {
				err = errors.Join(f(), inside.Close())
			}
			if back := netns.Set(own); back != nil {
				// The thread stays locked and ends with the goroutine.
				return errors.Join(err, back)
			}
			runtime.UnlockOSThread()
			return err
		}()
	}()
	return <-done
}

// RemoveNamespace ends the servers and links in a pod's namespace and unmounts it. Removing a namespace that is gone
// succeeds.
func (s *Server) RemoveNamespace(name string, _ *None) error {
	path := NamespacePath(name)
	if err := s.Unlisten(path, nil); err != nil {
		return err
	}
	if err := emptyNamespace(path); err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	return nil
}

// inNamespace calls f on a thread in the namespace at path; "" means the agent's own.
func inNamespace(path string, f func() error) error {
	if path == "" {
		return f()
	}
	return ns.WithNetNSPath(path, func(ns.NetNS) error { return f() })
}

// settings has sysctls by file, relative to /proc/sys/net.
type settings map[string]string

// readIPv4Settings reads the settings that a pod takes over from its node. The kernel would give a new namespace the
// values of the machine's first one (ip-sysctl.rst, devconf_inherit_init_net), so that a verdict would depend on the
// machine.
func readIPv4Settings() (settings, error) {
	values := settings{}
	const forward = "ipv4/ip_forward"
	value, ok, err := sysctl.Read(filepath.Join(sysctl.Root, forward))
	if err != nil {
		return nil, err
	}
	if ok {
		values[forward] = value
	}
	for _, dir := range []string{"ipv4/conf/all", "ipv4/conf/default"} {
		if err := values.readDir(dir); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// readDir adds the settings of a directory that have a value.
func (v settings) readDir(dir string) error {
	open, err := os.Open(filepath.Join(sysctl.Root, dir))
	if err != nil {
		return err
	}
	defer open.Close()
	entries, err := open.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		value, ok, err := sysctl.ReadAt(int(open.Fd()), e.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if ok {
			v[filepath.Join(dir, e.Name())] = value
		}
	}
	return nil
}

// apply writes the settings that differ.
func (v settings) apply() error {
	for _, file := range slices.SortedFunc(maps.Keys(v), forwardingFirst) {
		if err := sysctl.Set(filepath.Join(sysctl.Root, file), v[file]); err != nil {
			return err
		}
	}
	return nil
}

// forwardingFirst orders sysctls by name, after those that reset others (ip-sysctl.rst, ip_forward).
func forwardingFirst(a, b string) int {
	last := func(name string) int {
		if strings.HasSuffix(name, "ip_forward") || strings.HasSuffix(name, "forwarding") {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a, b))
}

// SysctlArgs have the settings of one namespace by their dotted names, e.g. "net.ipv4.ip_forward"; a slash stands for a
// dot within a name, as in sysctl(8) ("net.ipv4.conf.eno1/host.rp_filter").
type SysctlArgs struct {
	Netns  string            `json:"netns"`
	Values map[string]string `json:"values"`
}

// SetSysctls sets them, forwarding before the sysctls that it resets, or returns the first error.
func (s *Server) SetSysctls(args SysctlArgs, _ *None) error {
	return inNamespace(args.Netns, func() error {
		for _, name := range slices.SortedFunc(maps.Keys(args.Values), forwardingFirst) {
			path, err := sysctlPath(name)
			if err != nil {
				return err
			}
			if err := sysctl.Set(path, args.Values[name]); err != nil {
				return fmt.Errorf("sysctl %s=%s: %w", name, args.Values[name], err)
			}
		}
		return nil
	})
}

// sysctlPath keeps a name inside /proc/sys/net, since everything else belongs to the machine and not to the namespace.
func sysctlPath(name string) (string, error) {
	file := strings.NewReplacer(".", "/", "/", ".").Replace(name)
	below, found := strings.CutPrefix(file, "net/")
	if !found || !filepath.IsLocal(below) || filepath.Clean(below) == "." {
		return "", fmt.Errorf("sysctl %q: want a name below net", name)
	}
	return filepath.Join(sysctl.Root, below), nil
}
