package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const defaultKernel = "linux-image-cloud-amd64"

// kernel is an unpacked kernel: a directory with vmlinuz and modules.cpio.
type kernel struct{ dir string }

func (k *kernel) image() string   { return filepath.Join(k.dir, "vmlinuz") }
func (k *kernel) modules() string { return filepath.Join(k.dir, "modules.cpio") }

// store keeps kernels, and whether KVM works, for later runs. Several processes may use it at the same time.
type store struct{ dir string }

// openStore opens the store in the user's cache directory, $XDG_CACHE_HOME or ~/.cache.
func openStore() (*store, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	s := &store{dir: filepath.Join(dir, "cnitest", "vm")}
	return s, os.MkdirAll(s.dir, 0o755)
}

// lock takes a lock that one process can have at a time. The returned function, or the end of the process, releases it.
func (s *store) lock() (func(), error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// kernel returns the kernel of a package. It downloads the kernel if the store lacks it, and does not replace an
// existing one.
func (s *store) kernel(ctx context.Context, name string) (*kernel, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	k := &kernel{filepath.Join(s.dir, name)}
	if _, err := os.Stat(k.modules()); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	return k, s.fetch(ctx, name)
}

// fetch downloads a package or, if it is a metapackage of the newest kernel, the package that it depends on.
func (s *store) fetch(ctx context.Context, name string) error {
	if name != filepath.Base(name) || !strings.HasPrefix(name, "linux-image-") {
		return fmt.Errorf("kernel %q: want the name of a Debian package, such as %s", name, defaultKernel)
	}
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("kernel %s: fetching it needs Debian's %s: %w", name, program, err)
		}
	}
	start := time.Now()
	real, version, err := resolve(ctx, name)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, name)
	stamp := real + " " + version + "\n"
	work, err := os.MkdirTemp(s.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	made := filepath.Join(work, "made")
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	if err := unpack(ctx, work, made, real); err != nil {
		return fmt.Errorf("kernel %s: %w", real, err)
	}
	if err := os.WriteFile(filepath.Join(made, "package"), []byte(stamp), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "fetched kernel %s %s in %s into %s\n", real, version,
		time.Since(start).Round(100*time.Millisecond), dir)
	return os.Rename(made, dir)
}

// resolve follows dependencies to the package that contains the kernel.
func resolve(ctx context.Context, name string) (real, version string, err error) {
	for range 3 {
		out, err := exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", name).Output()
		if err != nil || len(out) == 0 {
			return "", "", fmt.Errorf("kernel %s: apt-cache knows no such package; after `apt-get update` it may, "+
				"and `apt-cache search ^linux-image` lists them", name)
		}
		next := ""
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "Version":
				version = value
			case "Depends":
				for _, d := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '|' }) {
					if d = strings.Fields(d)[0]; strings.HasPrefix(d, "linux-image-") {
						next = d
					}
				}
			}
		}
		if next == "" {
			return name, version, nil
		}
		name = next
	}
	return "", "", fmt.Errorf("kernel %s: want a package with a kernel, got one that depends on others, and so on",
		name)
}

// unpack downloads a package and keeps the files that machines boot with.
func unpack(ctx context.Context, work, made, name string) error {
	// As root apt-get would download as another user, who may not write here.
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download: %w; perhaps after `apt-get update`: %s", err, lastLine(out))
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get download: want one package, got %d", len(packages))
	}
	tree := filepath.Join(work, "tree")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", packages[0], tree).CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, lastLine(out))
	}
	image, err := one(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	if err := os.Rename(image, filepath.Join(made, "vmlinuz")); err != nil {
		return err
	}
	dir, err := one(filepath.Join(tree, "lib", "modules", "*"), filepath.Join(tree, "usr", "lib", "modules", "*"))
	if err != nil {
		return err
	}
	all, err := readModules(dir)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(made, "modules.cpio"))
	if err != nil {
		return err
	}
	return errors.Join(all.pack(newArchive(f), dir), f.Close())
}

// one returns the only path that matches.
func one(patterns ...string) (string, error) {
	var found []string
	for _, p := range patterns {
		some, err := filepath.Glob(p)
		if err != nil {
			return "", err
		}
		found = append(found, some...)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("want one %s in the package, got %d", filepath.Base(filepath.Dir(patterns[0]))+"/"+
			filepath.Base(patterns[0]), len(found))
	}
	return found[0], nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// kvmTry records whether KVM works with a kernel in one boot of this machine. Its file is beside the kernel.
type kvmTry struct {
	Boot  string `json:"boot"`
	Accel string `json:"accel"`
	Why   string `json:"why,omitempty"`
}

// kvmDeadline limits how long a machine may take to come up with KVM; it usually takes less than two seconds. If KVM
// exists and does not work (under some hypervisors its guests hang) QEMU would wait for ever.
const kvmDeadline = 8 * time.Second

// accelerator tries KVM once for each boot of this machine and each kernel.
func (s *store) accelerator(ctx context.Context, k *kernel) (string, error) {
	unlock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	now := kvmTry{Boot: strings.TrimSpace(string(boot)), Accel: "kvm"}
	file := filepath.Join(k.dir, "kvm.json")
	var before kvmTry
	if data, err := os.ReadFile(file); err == nil && json.Unmarshal(data, &before) == nil && before.Boot == now.Boot {
		return before.Accel, nil
	}
	empty, err := pack(k, nil)
	if err != nil {
		return "", err
	}
	defer empty.Close()
	if err := tryKVM(ctx, k, empty); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		now.Accel, now.Why = "tcg", err.Error()
		fmt.Fprintf(os.Stderr, "vmrun: no KVM here, QEMU translates: %s\n", strings.SplitN(now.Why, "\n", 2)[0])
	}
	data, err := json.Marshal(now)
	if err != nil {
		return "", err
	}
	return now.Accel, os.WriteFile(file, append(data, '\n'), 0o644)
}

// tryKVM boots a machine that only reports that it is up.
func tryKVM(ctx context.Context, k *kernel, empty *os.File) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	f.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, kvmDeadline, errors.New("/dev/kvm is there, but its guests hang"))
	defer cancel()
	_, err = (&machine{
		kernel: k, accel: "kvm", memory: 512, cpus: 1, initrd: empty, stdout: os.Stderr, stderr: os.Stderr,
	}).run(ctx)
	return err
}
