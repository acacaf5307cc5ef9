package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the only format that kernels unpack (early-userspace/buffer-format.rst, "newc"). An
// initramfs may consist of several archives; if they contain the same path, the last one counts.
type archive struct {
	w     io.Writer
	inode int
	made  map[string]bool // directories
	err   error           // the first one; nothing is written after it
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, made: map[string]bool{".": true, "/": true}}
}

// The types of files (cpio(5)).
const (
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeFile    = 0o100000
	typeSymlink = 0o120000
)

// entry is a file, whose name has no leading slash.
type entry struct {
	name         string
	mode         int
	size         int64
	major, minor int
}

func (a *archive) add(e entry, content io.Reader) {
	if a.err != nil {
		return
	}
	a.inode++
	name := e.name + "\x00"
	fields := []int64{
		int64(a.inode), int64(e.mode), 0, 0, 1, 0, e.size, 0, 0, int64(e.major), int64(e.minor), int64(len(name)), 0,
	}
	var head bytes.Buffer
	head.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&head, "%08X", f)
	}
	head.WriteString(name)
	head.Write(padding(int64(head.Len())))
	if _, a.err = a.w.Write(head.Bytes()); a.err != nil || content == nil {
		return
	}
	var n int64
	if n, a.err = io.Copy(a.w, io.LimitReader(content, e.size)); a.err == nil && n != e.size {
		a.err = fmt.Errorf("%s: want %d bytes, got %d: it changed while it was read", e.name, e.size, n)
	}
	if a.err == nil {
		_, a.err = a.w.Write(padding(e.size))
	}
}

// padding fills up to a multiple of four.
func padding(n int64) []byte { return make([]byte, (4-n%4)%4) }

// dir makes a directory and its parents.
func (a *archive) dir(path string, mode fs.FileMode) {
	path = filepath.Clean(path)
	if a.made[path] {
		return
	}
	a.dir(filepath.Dir(path), 0o755)
	a.made[path] = true
	bits := int(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	a.add(entry{name: strings.TrimPrefix(path, "/"), mode: typeDir | bits}, nil)
}

func (a *archive) data(path string, mode fs.FileMode, data []byte) {
	a.dir(filepath.Dir(path), 0o755)
	a.add(entry{name: strings.TrimPrefix(path, "/"), mode: typeFile | int(mode.Perm()), size: int64(len(data))},
		bytes.NewReader(data))
}

func (a *archive) symlink(path, target string) {
	a.dir(filepath.Dir(path), 0o755)
	a.add(entry{name: strings.TrimPrefix(path, "/"), mode: typeSymlink | 0o777, size: int64(len(target))},
		strings.NewReader(target))
}

func (a *archive) device(path string, major, minor int) {
	a.dir(filepath.Dir(path), 0o755)
	a.add(entry{name: strings.TrimPrefix(path, "/"), mode: typeChar | 0o600, major: major, minor: minor}, nil)
}

// copy adds a file or a whole directory of this machine. Symbolic links in it stay links.
func (a *archive) copy(from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch info, err := d.Info(); {
		case err != nil:
			return err
		case d.IsDir():
			a.dir(target, info.Mode())
		case d.Type().IsRegular():
			return a.file(path, target, info)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			a.symlink(target, link)
		}
		return a.err
	})
}

func (a *archive) file(from, to string, info fs.FileInfo) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	a.dir(filepath.Dir(to), 0o755)
	a.add(entry{name: strings.TrimPrefix(to, "/"), mode: typeFile | int(info.Mode().Perm()), size: info.Size()}, f)
	return a.err
}

// close ends the archive.
func (a *archive) close() error {
	a.add(entry{name: "TRAILER!!!"}, nil)
	return a.err
}
