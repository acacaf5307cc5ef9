package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxHashed is the size in bytes up to which the contents of files are compared. For larger files their size and time
// of modification are compared.
const maxHashed = 1 << 20

func takeFiles(ctx context.Context, trees []FileTree) ([]object, error) {
	var objects []object
	for _, tree := range trees {
		err := fs.WalkDir(tree.FS, ".", func(name string, entry fs.DirEntry, err error) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var text string
			if err == nil {
				text, err = fileText(tree.FS, name, entry)
			}
			if errors.Is(err, fs.ErrNotExist) {
				// It was removed while the tree was walked, or the whole tree does not exist.
				return nil
			}
			if err != nil {
				return err
			}
			place := path.Join(tree.Name, name)
			objects = append(objects, object{Item: Item{Name: place, Text: text}, remove: func() error {
				return os.Remove(place)
			}})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	pins, err := takePins()
	return append(objects, pins...), err
}

// fileText returns what `ls -ln` shows, with the content's digest instead of the time.
func fileText(tree fs.FS, name string, entry fs.DirEntry) (string, error) {
	info, err := entry.Info()
	if err != nil {
		return "", err
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	if stat != nil && stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0 {
		// Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
		return "deleted", nil
	}
	w := words{info.Mode().String()}
	if stat != nil {
		w.addf(true, "%d %d", stat.Uid, stat.Gid)
	}
	switch info.Mode().Type() {
	case 0:
		content, err := contentText(tree, name, info)
		if err != nil {
			return "", err
		}
		w.add(content)
	case fs.ModeSymlink:
		target, err := fs.ReadLink(tree, name)
		if err != nil {
			return "", err
		}
		w.add("->", target)
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		w.addf(stat != nil, "%d, %d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	}
	return w.String(), nil
}

// contentText returns the size of a regular file and what represents its content.
func contentText(tree fs.FS, name string, info fs.FileInfo) (string, error) {
	if info.Size() > maxHashed {
		return fmt.Sprintf("%d %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano)), nil
	}
	file, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return fmt.Sprintf("%d sha256:%x", size, hash.Sum(nil)), nil
}
