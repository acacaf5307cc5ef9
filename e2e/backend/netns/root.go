package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

// root builds the file system of a node: every directory of the machine's root under an overlay whose upper layer lies on a
// tmpfs of the node's own mount namespace. What is mounted on /run, /tmp and the directories of CNI is empty; /proc and /sys
// are the node's own, with all that is not of its network read-only.
type root struct {
	staging string // the tmpfs, on a directory of the machine that only this mount namespace sees covered
	user    bool   // in a user namespace overlays keep their marks in user.* attributes (kernel: overlayfs.rst)
	binds   []Bind
	mounts  []string // mount points of the machine
	layers  int
}

// Bind shows a file or directory of the machine on the node, read-only.
type Bind struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// emptyDirs are a node's own from the start. A CNI store or configuration of the machine must not reach the lab.
var emptyDirs = []string{"/run", "/tmp", "/var/lib/cni", "/etc/cni", "/opt/cni"}

// enterRoot makes the calling process's mount namespace, which must be its own, that of a node. It returns the trees in which
// everything that is written on the node can be seen.
func enterRoot(binds []Bind) ([]snapshot.FileTree, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	r := &root{binds: binds, user: inUserNamespace()}
	steps := []struct {
		what string
		do   func() error
	}{
		{"stage a tmpfs", r.stage},
		{"overlay the machine's root", r.overlayRoot},
		{"mount proc", r.mountProc},
		{"mount sysfs", r.mountSys},
		{"make /dev", r.makeDev},
		{"make empty directories", r.makeEmptyDirs},
		{"bind directories", r.bindAll},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	trees, err := r.trees()
	if err != nil {
		return nil, err
	}
	if err := r.pivot(); err != nil {
		return nil, fmt.Errorf("enter the root: %w", err)
	}
	return trees, nil
}

func inUserNamespace() bool {
	// The first user namespace maps all ids onto themselves (user_namespaces(7)).
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") != "0 0 4294967295"
}

func (r *root) path(elem ...string) string {
	return filepath.Join(r.staging, "root", filepath.Join(elem...))
}

// stage mounts a tmpfs over a directory that nothing needed lies in.
func (r *root) stage() error {
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	r.mounts = mounts
	for _, dir := range []string{"/mnt", "/media", "/srv", "/tmp"} {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			continue
		}
		if slices.ContainsFunc(r.binds, func(b Bind) bool { return strings.HasPrefix(b.From, dir+"/") }) {
			continue
		}
		r.staging = dir
		break
	}
	if r.staging == "" {
		return errors.New("none of /mnt, /media, /srv and /tmp is a directory free to mount over")
	}
	if err := unix.Mount("tmpfs", r.staging, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"root", "upper", "work", "empty"} {
		if err := os.Mkdir(filepath.Join(r.staging, dir), 0o755); err != nil {
			return err
		}
	}
	return unix.Mount(r.path(), r.path(), "", unix.MS_BIND, "")
}

func mountPoints() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[4]))
		}
	}
	return points, nil
}

// hasMountsBelow reports whether directories are mounted below dir. Files that are (as in containers) do not count.
func (r *root) hasMountsBelow(dir string) bool {
	return slices.ContainsFunc(r.mounts, func(m string) bool {
		if !strings.HasPrefix(m, dir+"/") {
			return false
		}
		info, err := os.Stat(m)
		return err == nil && info.IsDir()
	})
}

// mustOpen reports whether a directory's entries have to be shown one by one. In a user namespace that is so above the empty
// directories too: the owner of the machine's directories has no id there, and nothing can be made in them.
func (r *root) mustOpen(dir string) bool {
	below := func(empty string) bool { return strings.HasPrefix(empty, dir+"/") }
	return r.hasMountsBelow(dir) || r.user && slices.ContainsFunc(emptyDirs, below)
}

func (r *root) overlayRoot() error { return r.overlayEntries("/") }

// own reports whether a path of the node is not the machine's.
func (r *root) own(path string) bool {
	return path == "/proc" || path == "/sys" || path == "/dev" || path == r.staging || slices.Contains(emptyDirs, path)
}

func (r *root) overlayEntries(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if r.own(path) {
			continue
		}
		if err := r.show(path, entry); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// show makes an entry of the machine's file system visible at the same path.
func (r *root) show(path string, entry fs.DirEntry) error {
	switch {
	case entry.IsDir():
		return r.showDir(path)
	case entry.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, r.path(path))
	case entry.Type().IsRegular():
		return bindReadOnly(path, r.path(path))
	}
	return nil // a socket, a pipe or a device outside /dev
}

// showDir overlays a directory. Where that is refused, as it is in a user namespace for a directory with mounts below it, its
// entries are shown one by one; a directory that cannot be overlaid at all is shown read-only.
func (r *root) showDir(path string) error {
	if err := os.MkdirAll(r.path(path), 0o755); err != nil {
		return err
	}
	if r.mustOpen(path) {
		return r.overlayEntries(path)
	}
	if r.overlay(path) == nil {
		return nil
	}
	if err := bindReadOnly(path, r.path(path)); err != nil {
		// Nothing of a node lives in a directory that not even root can mount; it stays empty.
		return nil
	}
	return nil
}

func (r *root) overlay(path string) error {
	upper := filepath.Join(r.staging, "upper", path)
	work := filepath.Join(r.staging, "work", fmt.Sprint(r.layers))
	r.layers++
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", escape(path), escape(upper), work)
	if r.user {
		options += ",userxattr"
	}
	// The lower layer is what is not covered by the staging tmpfs: it never covers a directory that is overlaid.
	return unix.Mount("overlay", r.path(path), "overlay", 0, options)
}

// bindReadOnly shows a file or directory at another place.
func bindReadOnly(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
		var file *os.File
		if file, err = os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
			err = file.Close()
		}
	}
	if err != nil {
		return err
	}
	// Recursive: in a user namespace a mount with others below it can only be bound as a whole (mount_namespaces(7)).
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return remountReadOnly(to)
}

// remountReadOnly keeps the flags that a mount has: in a user namespace they are locked.
func remountReadOnly(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	keep := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|keep, "")
}

func (r *root) mountProc() error {
	proc := r.path("proc")
	if err := os.Mkdir(proc, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	// Of the sysctls only those of the network are the node's own.
	for _, dir := range []string{"sys", "sys/net"} {
		path := filepath.Join(proc, dir)
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return remountReadOnly(filepath.Join(proc, "sys"))
}

func (r *root) mountSys() error {
	sys := r.path("sys")
	if err := os.Mkdir(sys, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", sys, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	virtual := filepath.Join(sys, "devices/virtual/net")
	if err := unix.Mount(virtual, virtual, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return remountReadOnly(sys)
}

func (r *root) makeDev() error {
	for _, dev := range []string{"null", "zero", "full", "random", "urandom", "tty", "net/tun"} {
		from, to := filepath.Join("/dev", dev), r.path("dev", dev)
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
			return fmt.Errorf("%s: %w", from, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, r.path("dev", name)); err != nil {
			return err
		}
	}
	return os.Mkdir(r.path("dev/shm"), 0o1777)
}

func (r *root) makeEmptyDirs() error {
	for _, dir := range emptyDirs {
		from := filepath.Join(r.staging, "empty", dir)
		if err := os.MkdirAll(from, 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(r.path(dir), 0o755); err != nil {
			return err
		}
		if err := unix.Mount(from, r.path(dir), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	// Where namespaces of pods are mounted is there before the first pod, so that its making is nobody's leftover.
	if err := os.Mkdir(r.path("/run/netns"), 0o755); err != nil {
		return err
	}
	return os.Chmod(r.path("/tmp"), 0o1777)
}

func (r *root) bindAll() error {
	for _, b := range r.binds {
		if err := bindReadOnly(b.From, r.path(b.To)); err != nil {
			return fmt.Errorf("%s: %w", b.From, err)
		}
	}
	return nil
}

// trees opens the layers that are written to. They stay open when the machine's root, and the staging directory with it, is gone.
func (r *root) trees() ([]snapshot.FileTree, error) {
	trees := []snapshot.FileTree{{Name: "/", FS: nil}}
	for _, dir := range emptyDirs {
		trees = append(trees, snapshot.FileTree{Name: dir})
	}
	for i := range trees {
		path := filepath.Join(r.staging, "empty", trees[i].Name)
		if trees[i].Name == "/" {
			path = filepath.Join(r.staging, "upper")
		}
		dir, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		trees[i].FS = dir.FS()
	}
	return trees, nil
}

// pivot changes the root and lets go of the old one (pivot_root(2), "pivot_root(".", ".")").
func (r *root) pivot() error {
	if err := unix.Chdir(r.path()); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}
