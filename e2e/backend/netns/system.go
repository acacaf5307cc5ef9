package netns

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeProc mounts /proc of the node. Only the sysctls of the network belong to the node; the others, and files that
// affect the machine, are read-only.
func (r *root) makeProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for _, path := range []string{
		"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi",
	} {
		err := bindReadOnly(path, path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := r.makeBootID(); err != nil {
		return fmt.Errorf("boot ID: %w", err)
	}
	return bindWritable("/proc/sys/net")
}

// makeBootID gives the node a boot ID: a program that starts again on an old disk sees by it that the node was
// rebooted.
func (r *root) makeBootID() error {
	id := make([]byte, 16)
	rand.Read(id)
	file := outside(filepath.Join(r.staging, "boot_id"))
	// A random UUID (RFC 9562, section 5.4), like the kernel's.
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	if err := os.WriteFile(file, []byte(text), 0o444); err != nil {
		return err
	}
	return unix.Mount(file, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, "")
}

// makeSys mounts sysfs. The attributes of the node's links belong to the node.
func (r *root) makeSys() error {
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := makeReadOnly("/sys"); err != nil {
		return err
	}
	return bindWritable("/sys/devices/virtual/net")
}

// bindWritable makes a directory of a read-only mount a separate mount that can be written to.
func bindWritable(path string) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// makeDev makes a /dev with the devices that do not belong to hardware.
func (r *root) makeDev() error {
	dev := outside(filepath.Join(r.staging, "dev"))
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "net/tun"} {
		from, to := outside(filepath.Join("/dev", name)), filepath.Join(dev, name)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := errors.Join(os.Mkdir(shm, 0o700), os.Chmod(shm, 0o777|fs.ModeSticky)); err != nil {
		return err
	}
	return unix.Mount(dev, "/dev", "", unix.MS_BIND|unix.MS_REC, "")
}

// make makes the mounts.
func (m Mounts) make() error {
	for _, dir := range m.Tmpfs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if !m.ControlGroups {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, ""); err != nil {
		return fmt.Errorf("control groups, version 2: %w", err)
	}
	// Only the mount is read-only: all mounts on the machine share the file system.
	return makeReadOnly("/sys/fs/cgroup")
}
