package netns

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/cnitest/cnitest/e2e/agent"
)

// layer contains everything that the node writes to one of its directories.
type layer struct {
	path, upper string
	lowers      []string // the directories that the overlay shows below upper; none if there is no overlay
}

// open opens the layer, once the root was changed.
func (l layer) open() (*written, error) {
	upper, err := os.OpenRoot(outside(l.upper))
	if err != nil {
		return nil, err
	}
	w := &written{readFS: upper.FS().(readFS)}
	for _, dir := range l.lowers {
		lower, err := os.OpenRoot(outside(dir))
		if errors.Is(err, fs.ErrPermission) {
			continue // nothing is written in a directory that the user may not read
		}
		if err != nil {
			return nil, err
		}
		w.lowers = append(w.lowers, lower)
	}
	return w, nil
}

// readFS has the methods of the file system of an os.Root.
type readFS interface {
	fs.ReadDirFS
	fs.ReadLinkFS
}

// written is an upper layer without those directories that the overlay only copied because something inside them was
// written. The overlay keeps such copies even when the written file is gone. They can be listed, but for every other
// query they do not exist.
type written struct {
	readFS
	lowers []*os.Root
}

// ReadDir reads a directory.
func (w *written) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := w.readFS.ReadDir(name)
	for i, entry := range entries {
		if entry.IsDir() && len(w.lowers) > 0 {
			entries[i] = writtenDir{DirEntry: entry, tree: w, path: joined(name, entry.Name())}
		}
	}
	return entries, err
}

func joined(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// writtenDir is a directory of an upper layer.
type writtenDir struct {
	fs.DirEntry
	tree *written
	path string
}

// Info returns the information of a directory that was made or changed on the node, and an error for a mere copy.
func (d writtenDir) Info() (fs.FileInfo, error) {
	upper, err := d.DirEntry.Info()
	if err != nil {
		return nil, err
	}
	for _, lower := range d.tree.lowers {
		info, err := lower.Lstat(d.path)
		if err != nil {
			continue
		}
		opaque, err := agent.IsOpaque(d.tree.readFS, d.path)
		if err != nil {
			return nil, err
		}
		if !opaque && sameDir(upper, info) {
			return nil, &fs.PathError{Op: "stat", Path: d.path, Err: fs.ErrNotExist}
		}
		break // an upper directory hides those below it
	}
	return upper, nil
}

func sameDir(a, b fs.FileInfo) bool {
	x, isX := a.Sys().(*syscall.Stat_t)
	y, isY := b.Sys().(*syscall.Stat_t)
	return isX && isY && a.Mode() == b.Mode() && x.Uid == y.Uid && x.Gid == y.Gid
}
