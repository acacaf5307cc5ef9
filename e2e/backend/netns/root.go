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

// root builds the file system of a node: the machine's, under overlays whose upper layers are on a tmpfs of the node's
// own mount namespace. /run, /tmp and the directories of CNI are empty; /proc, /sys and /dev are the node's own
// (system.go).
//
// It is built on the machine's root, in a mount namespace of the calling process. Then the root is changed. From then
// on absolute paths are the node's, and relative ones the machine's, so that a symbolic link on a path of the node is
// followed on the node.
type root struct {
	staging string // the tmpfs, mounted over a directory of the machine, which only this mount namespace sees
	user    bool   // whether this is a user namespace, which refuses an overlay of a directory with mounts below it
	mounts  []string
	layers  []layer
}

// Bind shows a file or directory of the machine on the node, read-only.
type Bind struct {
	From string `json:"from"` // an absolute path without symbolic links
	To   string `json:"to"`
}

// Mounts are mounts of a node that plugins do not need, and a container runtime does.
type Mounts struct {
	// Tmpfs are directories with file systems of their own. No snapshot of the node has the files in them.
	Tmpfs []string `json:"tmpfs,omitempty"`
	// ControlGroups shows the machine's control groups, version 2, which nobody on the node can change.
	ControlGroups bool `json:"controlGroups,omitempty"`
}

// emptyDirs are empty when a node starts. A CNI store or configuration of the machine must not reach the lab.
var emptyDirs = []string{"/run", "/tmp", "/var/lib/cni", "/etc/cni", "/opt/cni"}

// systemDirs belong to the node from the start. Files written there do not count as files.
var systemDirs = []string{"/proc", "/sys", "/dev"}

// writableDepth is the depth below / of the deepest mounts of the machine that can be written to on the node (/home,
// /var/log). Deeper mounts belong to the machine's containers and snaps; there can be hundreds of them.
const writableDepth = 2

// enterRoot turns the mount namespace of the calling process, which must not be shared, into that of a node. It returns
// the trees that show everything written on the node.
func enterRoot(binds []Bind, mounts Mounts) ([]snapshot.FileTree, error) {
	r := &root{user: InUserNamespace()}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"keep mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"stage a tmpfs", func() error { return r.stage(binds) }},
		{"overlay the machine's root", r.overlayMachine},
		{"enter the root", r.enter},
		{"make /proc", r.makeProc},
		{"make /sys", r.makeSys},
		{"make /dev", r.makeDev},
		{"make empty directories", r.makeEmptyDirs},
		{"show directories", func() error { return r.bindAll(binds) }},
		{"mount what a runtime needs", mounts.make},
	} {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	trees, err := r.trees()
	if err != nil {
		return nil, err
	}
	return trees, r.leaveMachine()
}

// InUserNamespace reports whether this is not the initial user namespace, which maps all IDs to themselves
// (user_namespaces(7)).
func InUserNamespace() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") != "0 0 4294967295"
}

// on returns where a path of the node is while the root is built.
func (r *root) on(path string) string { return filepath.Join(r.staging, "root", path) }

// stage mounts a tmpfs over a directory that is not needed.
func (r *root) stage(binds []Bind) (err error) {
	if r.mounts, err = mountPoints(); err != nil {
		return err
	}
	for _, dir := range []string{"/mnt", "/media", "/srv", "/tmp"} {
		needed := slices.ContainsFunc(binds, func(b Bind) bool { return isBelow(b.From, dir) })
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && !needed {
			r.staging = dir
			break
		}
	}
	if r.staging == "" {
		return errors.New("none of /mnt, /media, /srv and /tmp is a directory free to mount over")
	}
	if err := unix.Mount("tmpfs", r.staging, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"root", "points", "skeleton", "layers", "empty", "dev"} {
		if err := os.Mkdir(filepath.Join(r.staging, dir), 0o755); err != nil {
			return err
		}
	}
	// They get layers of their own: in a user namespace nobody can make a directory in a directory of the machine's
	// root user.
	for _, dir := range slices.Concat(systemDirs, emptyDirs) {
		if exists(dir) {
			continue
		}
		if err := os.MkdirAll(filepath.Join(r.staging, "points", dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// mountPoints returns the mount points of the machine, parents first, each once.
func mountPoints() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] != "/" {
			points = append(points, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[4]))
		}
	}
	slices.Sort(points)
	return slices.Compact(points), nil
}

// isBelow reports whether a path is dir or in it.
func isBelow(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func depth(path string) int { return strings.Count(path, "/") }

// isOwn reports whether the node has its own file or directory at a path of the machine.
func (r *root) isOwn(path string) bool {
	return slices.ContainsFunc(slices.Concat(systemDirs, emptyDirs, []string{r.staging}), func(dir string) bool {
		return isBelow(path, dir)
	})
}

// overlayMachine overlays the root, and then the mounts, since an overlay does not show what is mounted in its lower
// layer. In a user namespace the root's lower layer is a skeleton: directories without content, into which everything
// that they contain is mounted.
func (r *root) overlayMachine() error {
	lower, parts := "/", slices.DeleteFunc(slices.Clone(r.mounts), func(m string) bool {
		return depth(m) > writableDepth || r.isOwn(m)
	})
	if r.user {
		var err error
		lower = filepath.Join(r.staging, "skeleton")
		if parts, err = r.skeleton("/"); err != nil {
			return err
		}
	}
	if err := r.overlay(lower, "/"); err != nil {
		return err
	}
	for _, part := range parts {
		r.show(part)
	}
	return nil
}

// skeleton copies a directory without its content, and returns the parts of it that must be shown there. A directory
// that the user may not read stays empty.
func (r *root) skeleton(dir string) (parts []string, err error) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		made := filepath.Join(r.staging, "skeleton", path)
		var below []string
		switch {
		case entry.IsDir():
			err = os.Mkdir(made, 0o755)
			if r.isOwn(path) {
				break
			}
			below = []string{path}
			if err == nil && depth(path) <= writableDepth && r.hasMountsBelow(path) {
				below, err = r.skeleton(path)
			}
		case entry.Type()&fs.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(path); err == nil {
				err = os.Symlink(target, made)
			}
		case entry.Type().IsRegular():
			err = os.WriteFile(made, nil, 0o600)
			below = []string{path}
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, below...)
	}
	return parts, nil
}

// hasMountsBelow reports whether something is mounted below a directory, which therefore cannot be overlaid in a user
// namespace.
func (r *root) hasMountsBelow(dir string) bool {
	return slices.ContainsFunc(r.mounts, func(m string) bool { return m != dir && isBelow(m, dir) })
}

// show puts a file or directory of the machine at its place: a directory under an overlay, and everything else,
// including directories that cannot be overlaid, read-only. What cannot be shown at all stays empty: plugins have no
// files where even this user may not read.
func (r *root) show(path string) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() && depth(path) <= writableDepth+1 && r.overlay(path, path) == nil {
		return
	}
	if err == nil {
		_ = bindReadOnly(path, r.on(path))
	}
}

// overlay mounts a directory of the machine with an upper layer of its own.
func (r *root) overlay(lower, path string) error {
	info, err := os.Stat(lower)
	if err != nil {
		return err
	}
	l := layer{
		path: path, upper: filepath.Join(r.staging, "layers", fmt.Sprint(len(r.layers)), "upper"),
		lowers: []string{lower},
	}
	if points := filepath.Join(r.staging, "points", path); exists(points) {
		l.lowers = []string{points, lower}
	}
	work := filepath.Join(filepath.Dir(l.upper), "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(l.upper, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// An overlay shows the mode of the upper layer's directory.
	if err := os.Chmod(l.upper, info.Mode()); err != nil {
		return err
	}
	var lowers []string
	for _, dir := range l.lowers {
		lowers = append(lowers, strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(dir))
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,", strings.Join(lowers, ":"), l.upper, work)
	if r.user {
		// Only the initial user namespace may set trusted.* attributes (overlayfs.rst, "User xattr").
		options += "userxattr"
	} else {
		// With these options the upper layer contains files as they were written, whatever the defaults of this kernel.
		options += "redirect_dir=off,metacopy=off"
	}
	if err := unix.Mount("overlay", r.on(path), "overlay", 0, options); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.layers = append(r.layers, l)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bindReadOnly shows a file or directory at another place. A file or a directory, respectively, must already exist
// there.
func bindReadOnly(from, to string) error {
	// Recursive: in a user namespace a mount with others below it can only be bound as a whole (mount_namespaces(7)).
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return makeReadOnly(to)
}

// makeReadOnly makes a mount and all mounts below it read-only. It leaves their other flags, which a user namespace may
// not change.
func makeReadOnly(path string) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		return fmt.Errorf("mount_setattr, since Linux 5.12: %w", err)
	}
	return nil
}

// enter changes the root. The machine's root becomes the working directory. It stays in this mount namespace, since
// everything that is bound must be in it (mount(2)), and since a user namespace may mount /proc and /sys only while it
// sees the machine's.
func (r *root) enter() error {
	machine, err := os.Open("/")
	if err != nil {
		return err
	}
	defer machine.Close()
	if err := unix.Chdir(r.on("/")); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	return unix.Fchdir(int(machine.Fd()))
}

// outside returns a path of the machine after the change of the root.
func outside(path string) string { return "./" + strings.TrimPrefix(path, "/") }

// leaveMachine detaches the machine's root (pivot_root(2), `pivot_root(".", ".")`).
func (r *root) leaveMachine() error {
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's root: %w", err)
	}
	return unix.Chdir("/")
}

func (r *root) makeEmptyDirs() error {
	for _, dir := range emptyDirs {
		from := outside(filepath.Join(r.staging, "empty", dir))
		if err := os.MkdirAll(from, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(from, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	// Make the directory for namespaces of pods before the first pod, so that it does not count as left behind.
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		return err
	}
	return os.Chmod("/tmp", 0o777|fs.ModeSticky)
}

func (r *root) bindAll(binds []Bind) error {
	for _, b := range binds {
		info, err := os.Stat(outside(b.From))
		if err != nil {
			return fmt.Errorf("%s: %w", b.From, err)
		}
		if info.IsDir() {
			err = os.MkdirAll(b.To, 0o755)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(b.To), 0o755), os.WriteFile(b.To, nil, 0o644))
		}
		if err == nil {
			err = bindReadOnly(outside(b.From), b.To)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", b.From, err)
		}
	}
	return nil
}

// trees opens the layers that are written to. They stay open when the machine's root, and with it the staging
// directory, is gone.
func (r *root) trees() ([]snapshot.FileTree, error) {
	layers := slices.Clone(r.layers)
	for _, dir := range emptyDirs {
		layers = append(layers, layer{path: dir, upper: filepath.Join(r.staging, "empty", dir)})
	}
	var trees []snapshot.FileTree
	for _, l := range layers {
		written, err := l.open()
		if err != nil {
			return nil, err
		}
		trees = append(trees, snapshot.FileTree{Name: l.path, FS: written})
	}
	return trees, nil
}
