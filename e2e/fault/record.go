package fault

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/disk"
)

// Log collects what programs do with files that survive a reboot: all but those below /run, /tmp and /dev, what they
// print into /var/log, and files larger than a megabyte, of which every write would be kept. Several runs may write
// into it at the same time.
type Log struct {
	mu        sync.Mutex
	recording disk.Recording
	seen      map[string]bool // paths whose former state is known
	large     map[string]bool // paths of files that are too large
}

// mostKept is the size of the largest files that are logged.
const mostKept = 1 << 20

// NewLog returns an empty log.
func NewLog() *Log { return &Log{seen: map[string]bool{}, large: map[string]bool{}} }

// Recording returns what was collected until now.
func (l *Log) Recording() disk.Recording {
	l.mu.Lock()
	defer l.mu.Unlock()
	return disk.Recording{
		Before: slices.DeleteFunc(slices.Clone(l.recording.Before), func(f disk.File) bool { return l.large[f.Path] }),
		Calls: slices.DeleteFunc(slices.Clone(l.recording.Calls), func(c disk.Call) bool {
			return l.large[c.Path] || l.large[c.To]
		}),
	}
}

// content reads a file, under the name that it has in the log.
func (l *Log) content(path, name string) []byte {
	if info, err := os.Stat(path); err == nil && info.Size() > mostKept {
		l.large[name] = true
		return nil
	}
	data, _ := os.ReadFile(path)
	return data
}

// Record runs a plugin and logs what it does with files; the trace has no points. In all other respects it is like
// Observe.
func Record(ctx context.Context, command Command, log *Log) (Trace, error) {
	return run(ctx, command, task{log: log})
}

// recording returns the table of the calls that change files or make changes durable, and of those that start programs.
func recording() map[int]callSpec {
	table := calls(false)
	for number, spec := range table {
		_, onPath := pathArguments()[spec.name]
		if !onPath && spec.name != "execve" && spec.name != "execveat" && !opensFile(spec.name) &&
			!slices.Contains(fileCalls(), spec.name) {
			delete(table, number)
		}
	}
	table[unix.SYS_SYNC], table[unix.SYS_SYNCFS] = callSpec{name: "sync"}, callSpec{name: "syncfs"}
	return table
}

// fileCalls are the calls on open files.
func fileCalls() []string {
	return []string{
		"write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice", "ftruncate",
		"fallocate", "fchmod", "fsync", "fdatasync",
	}
}

func opensFile(name string) bool {
	return slices.Contains([]string{"open", "openat", "openat2", "creat"}, name)
}

// survives reports whether a file is there after a reboot.
func survives(path string) bool {
	return outside(path) && !strings.HasSuffix(path, " (deleted)") &&
		!slices.ContainsFunc([]string{"/run", "/tmp", "/dev", "/proc", "/sys", "/var/log"}, func(dir string) bool {
			return path == dir || strings.HasPrefix(path, dir+"/")
		})
}

// realPath returns a path without symbolic links above its last part.
func realPath(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// enters notes what was there before a call changes it.
func (l *Log) enters(c *sysCall) error {
	starts, syncs := strings.HasPrefix(c.spec.name, "execve"), strings.HasPrefix(c.spec.name, "sync")
	if starts {
		_, _ = c.describes() // it notes the program
	}
	if c.paths = c.filesOf(); len(c.paths) == 0 && !starts && !syncs {
		return resume(unix.PtraceCont, c.thread.tid, 0)
	}
	l.mu.Lock()
	for _, path := range c.paths {
		l.look(path)
	}
	l.mu.Unlock()
	c.existed = len(c.paths) > 0 && c.exists(c.paths[0])
	c.thread.call = c
	return resume(unix.PtraceSyscall, c.thread.tid, 0)
}

// filesOf returns the files that a call concerns; none if none of them survives a reboot.
func (c *sysCall) filesOf() (paths []string) {
	name := c.spec.name
	switch {
	case name == "mount" || name == "umount2" || name == "move_mount" || name == "mount_setattr" ||
		name == "pivot_root" || name == "setxattr" || strings.HasSuffix(name, "chown") || name == "fchownat":
		return nil
	case name == "open":
		paths = append(paths, c.path(none, 0))
	case name == "openat" || name == "openat2":
		paths = append(paths, c.path(0, 1))
	case name == "copy_file_range" || name == "splice":
		paths = append(paths, c.link(c.args[2]))
	case slices.Contains(fileCalls(), name):
		paths = append(paths, c.link(c.args[0]))
	default:
		args := pathArguments()[name]
		for i := 0; i < len(args); i += 2 {
			paths = append(paths, c.path(args[i], args[i+1]))
		}
	}
	lives := false
	for i, path := range paths {
		if filepath.IsAbs(path) {
			paths[i] = realPath(path)
		}
		lives = lives || survives(paths[i])
	}
	if !lives {
		return nil
	}
	return paths
}

// look notes what is at a path, and at those above, once. The caller holds the lock.
func (l *Log) look(path string) {
	if l.seen[path] || !survives(path) || path == "/" {
		return
	}
	l.seen[path] = true
	l.look(filepath.Dir(path))
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	file := disk.File{Path: path, Mode: info.Mode()}
	switch info.Mode().Type() {
	case 0:
		file.Data = l.content(path, path)
	case fs.ModeSymlink:
		target, _ := os.Readlink(path)
		file.Data = []byte(target)
	case fs.ModeDir:
	default:
		return
	}
	l.recording.Before = append(l.recording.Before, file)
}

// leaves logs a call that has ended.
func (l *Log) leaves(c *sysCall, result int64) {
	if result < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	add := func(call disk.Call) {
		call.Program = c.thread.process.program
		l.recording.Calls = append(l.recording.Calls, call)
	}
	if c.spec.name == "sync" || c.spec.name == "syncfs" {
		if len(l.recording.Calls) > 0 {
			add(disk.Call{Kind: disk.SyncAll})
		}
		return
	}
	if len(c.paths) == 0 {
		return
	}
	if opensFile(c.spec.name) {
		l.opened(c, uint64(result), add)
		return
	}
	path := c.paths[0]
	switch name := c.spec.name; name {
	case "fsync", "fdatasync":
		add(disk.Call{Kind: disk.Sync, Path: path})
	case "mkdir", "mkdirat":
		add(disk.Call{Kind: disk.Mkdir, Path: path, Mode: modeOf(path)})
	case "symlink", "symlinkat":
		target, _ := os.Readlink(path)
		add(disk.Call{Kind: disk.Symlink, Path: path, Data: []byte(target)})
	case "rename", "renameat", "renameat2":
		l.renamed(path, c.paths[1], add)
	case "link", "linkat":
		l.linked(path, c.paths[1], add)
	case "unlink", "unlinkat", "rmdir":
		add(disk.Call{Kind: disk.Remove, Path: path})
	case "chmod", "fchmod", "fchmodat", "fchmodat2":
		add(disk.Call{Kind: disk.Mode, Path: path, Mode: modeOf(path)})
	case "truncate":
		add(disk.Call{Kind: disk.Write, Path: path, Data: l.content(path, path)})
	case "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice", "ftruncate",
		"fallocate":
		if result == 0 && name != "ftruncate" && name != "fallocate" {
			return // nothing was written
		}
		fd := c.args[0]
		if name == "copy_file_range" || name == "splice" {
			fd = c.args[2]
		}
		add(disk.Call{Kind: disk.Write, Path: path, Data: l.content(c.proc("fd/%d", int32(fd)), path)})
		if c.synchronous(fd) {
			add(disk.Call{Kind: disk.Sync, Path: path})
		}
	}
}

func modeOf(path string) fs.FileMode {
	info, err := os.Lstat(path)
	if err != nil {
		return 0o644
	}
	return info.Mode()
}

// opened logs an open that made a file, or emptied one.
func (l *Log) opened(c *sysCall, fd uint64, add func(disk.Call)) {
	path := c.link(fd)
	if !survives(path) {
		return
	}
	switch {
	case !c.existed && !l.has(path):
		add(disk.Call{Kind: disk.Create, Path: path, Mode: modeOf(path)})
	case c.openFlags()&unix.O_TRUNC != 0 || c.spec.name == "creat":
		add(disk.Call{Kind: disk.Write, Path: path})
	}
}

// has reports whether the last that was logged about a path is that it is there.
func (l *Log) has(path string) bool {
	there := slices.ContainsFunc(l.recording.Before, func(f disk.File) bool { return f.Path == path })
	for _, call := range l.recording.Calls {
		switch {
		case call.To == path, call.Path == path && call.Kind == disk.Create:
			there = true
		case call.Path == path && (call.Kind == disk.Remove || call.Kind == disk.Rename):
			there = false
		}
	}
	return there
}

// renamed logs a rename. A file that comes from where nothing survives is a new one, and one that goes there is gone.
func (l *Log) renamed(from, to string, add func(disk.Call)) {
	switch {
	case !survives(to):
		add(disk.Call{Kind: disk.Remove, Path: from})
	case !survives(from):
		l.arrives(to, add)
	default:
		add(disk.Call{Kind: disk.Rename, Path: from, To: to})
	}
}

// linked logs a new name. A file without a name before counts as synced, since its calls are not known.
func (l *Log) linked(from, to string, add func(disk.Call)) {
	switch {
	case !survives(to):
	case !survives(from):
		l.arrives(to, add)
		add(disk.Call{Kind: disk.Sync, Path: to})
	default:
		add(disk.Call{Kind: disk.Link, Path: from, To: to})
	}
}

func (l *Log) arrives(path string, add func(disk.Call)) {
	add(disk.Call{Kind: disk.Create, Path: path, Mode: modeOf(path)})
	add(disk.Call{Kind: disk.Write, Path: path, Data: l.content(path, path)})
}

// synchronous reports whether writes into an open file are durable when they end (O_SYNC, O_DSYNC).
func (c *sysCall) synchronous(fd uint64) bool {
	data, err := os.ReadFile(c.proc("fdinfo/%d", int32(fd)))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(text), 8, 64)
			return err == nil && flags&unix.O_DSYNC != 0
		}
	}
	return false
}
