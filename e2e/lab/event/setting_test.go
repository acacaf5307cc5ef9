package event_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/lab/event"
)

// shipped are the lines of systemd's 50-default.conf for interfaces.
const shipped = `net.ipv4.conf.default.rp_filter = 2
net.ipv4.conf.*.rp_filter = 2
-net.ipv4.conf.all.rp_filter
net.ipv4.conf.default.accept_source_route = 0
net.ipv4.conf.*.accept_source_route = 0
-net.ipv4.conf.all.accept_source_route
net.ipv4.conf.default.promote_secondaries = 1
net.ipv4.conf.*.promote_secondaries = 1
-net.ipv4.conf.all.promote_secondaries
`

// TestHappen_sysctls_as_applied compares what is emulated with `sysctl --system` itself.
func TestHappen_sysctls_as_applied(t *testing.T) {
	const program = "sysctl"
	if version, err := exec.Command(program, "--version").Output(); err != nil {
		t.Skip("no sysctl; apt-get install procps")
	} else if !strings.Contains(string(version), "procps-ng 4") {
		t.Skipf("%s knows no asterisks, as procps-ng 4 does", strings.TrimSpace(string(version)))
	}
	var emulated, applied map[string]string
	inNode(t, func(t *testing.T, n *event.Node) {
		unsettle(t)
		happen(t, n, event.SysctlsLoosened)
		emulated = settings(t)
	})
	inNode(t, func(t *testing.T, _ *event.Node) {
		unsettle(t)
		if err := onlyShipped(); err != nil {
			t.Error(err)
			return
		}
		if out, err := exec.Command(program, "--system").CombinedOutput(); err != nil {
			t.Errorf("%s --system: %v\n%s", program, err, out)
		}
		applied = settings(t)
	})
	if diff := cmp.Diff(emulated, applied); diff != "" {
		t.Errorf("settings of interfaces (-emulated +applied):\n%s", diff)
	}
	if got := applied["eno1.host/rp_filter"]; got != "2\n" {
		t.Errorf("got the filter %q of eno1.host, want 2: its name has a dot, and that of a sysctl, too", got)
	}
}

// unsettle adds an interface, and gives all of them other values than those that are shipped.
func unsettle(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eno1.host"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "other"}); err != nil {
		t.Error(err)
	}
	for path := range settings(t) {
		value := "1"
		if filepath.Base(path) == "promote_secondaries" {
			value = "0"
		}
		if err := os.WriteFile(filepath.Join(ipv4Settings, path), []byte(value), 0o644); err != nil {
			t.Error(err)
		}
	}
}

const ipv4Settings = "/proc/sys/net/ipv4/conf"

// settings returns the values of those that are shipped, of each interface.
func settings(t *testing.T) map[string]string {
	t.Helper()
	interfaces, err := os.ReadDir(ipv4Settings)
	if err != nil {
		t.Error(err)
	}
	values := map[string]string{}
	for _, i := range interfaces {
		for _, name := range []string{"rp_filter", "accept_source_route", "promote_secondaries"} {
			path := filepath.Join(i.Name(), name)
			value, err := os.ReadFile(filepath.Join(ipv4Settings, path))
			if err != nil {
				t.Error(err)
			}
			values[path] = string(value)
		}
	}
	return values
}

// onlyShipped hides the machine's files of sysctls from the calling thread, and writes the one that systemd ships.
// Sysctls that are not of the network, which belong to the machine, become read-only.
func onlyShipped() error {
	bind := func(path string, attr *unix.MountAttr) error {
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.MountSetattr(unix.AT_FDCWD, path, 0, attr)
	}
	if err := errors.Join(
		bind("/proc/sys", &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}),
		bind("/proc/sys/net", &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}),
	); err != nil {
		return err
	}
	for _, dir := range []string{"/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	const last = "/etc/sysctl.conf"
	if err := unix.Mount("/dev/null", last, "", unix.MS_BIND, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", last, err)
	}
	const file = "/run/sysctl.d/50-default.conf" // /run is the node's own
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(shipped), 0o644))
}
