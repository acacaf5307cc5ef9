package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// File is a file on a node.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	// Data is the content of a regular file, or the target of a symbolic link.
	Data []byte `json:"data,omitempty"`
	// Deleted is a file or directory of the machine that was removed on the node.
	Deleted bool `json:"deleted,omitempty"`
	// Opaque is a directory that replaces one of the machine: nothing of the latter shows in it.
	Opaque bool `json:"opaque,omitempty"`
}

// FileReply is a file, if there is one.
type FileReply struct {
	Found bool `json:"found"`
	File  File `json:"file"`
}

// ReadFile reads a regular file.
func (s *Server) ReadFile(path string, reply *FileReply) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	*reply = FileReply{Found: true, File: File{Path: path, Data: data}}
	return nil
}

// ListDir lists the names in a directory; one that does not exist is empty.
func (s *Server) ListDir(path string, names *[]string) error {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	*names = []string{}
	for _, e := range entries {
		*names = append(*names, e.Name())
	}
	return nil
}

// WriteFile makes the file as described, in place of what is there, and its parents if they are missing.
func (s *Server) WriteFile(file File, _ *None) error {
	if now, err := os.Lstat(file.Path); err == nil {
		// A file is written in place, a directory keeps its content; anything else is replaced.
		keep := now.Mode().Type() == file.Mode.Type() && file.Mode&fs.ModeSymlink == 0
		if !keep || file.Deleted || file.Opaque {
			if err := os.RemoveAll(file.Path); err != nil {
				return err
			}
		}
	}
	if file.Deleted {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file.Path), 0o755); err != nil {
		return err
	}
	var err error
	switch file.Mode.Type() {
	case fs.ModeSymlink:
		return os.Symlink(string(file.Data), file.Path)
	case fs.ModeDir:
		err = os.Mkdir(file.Path, 0o755)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case 0:
		err = os.WriteFile(file.Path, file.Data, 0o600)
	default:
		err = fmt.Errorf("%s: want a regular file, a directory or a symbolic link, got %s", file.Path, file.Mode)
	}
	if err != nil {
		return err
	}
	// The umask does not matter, and a mount point that has the mode already need not be writable.
	if now, err := os.Stat(file.Path); err != nil || now.Mode() == file.Mode {
		return err
	}
	return os.Chmod(file.Path, file.Mode)
}

// RemoveFile removes a file; one that does not exist is no error.
func (s *Server) RemoveFile(path string, _ *None) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Disk lists the files that were written on the node and survive a reboot, parents first: all but /run and /tmp.
// Owners, times, devices, pipes and sockets are not kept.
func (s *Server) Disk(_ None, files *[]File) error {
	*files = []File{}
	for _, tree := range s.options.Files {
		if tree.Name == "/run" || tree.Name == "/tmp" {
			continue
		}
		err := fs.WalkDir(tree.FS, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			file, ok, err := readDisk(tree.FS, path, entry)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went away meanwhile
			}
			if ok {
				file.Path = filepath.Join(tree.Name, path)
				*files = append(*files, file)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("disk %s: %w", tree.Name, err)
		}
	}
	return nil
}

// readDisk reads a file of an overlay's upper layer, which has marks among the files (overlayfs.rst, "whiteouts and
// opaque directories").
func readDisk(tree fs.FS, path string, entry fs.DirEntry) (file File, ok bool, err error) {
	info, err := entry.Info()
	if err != nil {
		return file, false, err
	}
	file.Mode = info.Mode()
	switch info.Mode().Type() {
	case 0:
		file.Data, err = fs.ReadFile(tree, path)
	case fs.ModeSymlink:
		var target string
		target, err = fs.ReadLink(tree, path)
		file.Data = []byte(target)
	case fs.ModeDir:
		file.Opaque, err = IsOpaque(tree, path)
	case fs.ModeDevice | fs.ModeCharDevice:
		stat, isStat := info.Sys().(*syscall.Stat_t)
		file = File{Deleted: isStat && stat.Rdev == 0}
		return file, file.Deleted, nil
	default:
		return file, false, nil
	}
	return file, err == nil, err
}

// IsOpaque reports whether a directory of an overlay's upper layer hides the one below it. The mark has another name in
// a user namespace (overlayfs.rst).
func IsOpaque(tree fs.FS, path string) (bool, error) {
	dir, err := tree.Open(path)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	file, ok := dir.(interface{ Fd() uintptr })
	if !ok {
		return false, nil
	}
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [1]byte
		if n, err := unix.Fgetxattr(int(file.Fd()), name, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true, nil
		}
	}
	return false, nil
}

// CommandArgs describe a program to run on the node.
type CommandArgs struct {
	Argv []string `json:"argv"`
	// BinDirs are searched for the program before the PATH.
	BinDirs []string      `json:"binDirs"`
	Env     []string      `json:"env"`
	Netns   string        `json:"netns"`
	Timeout time.Duration `json:"timeout"` // in time that the machine gave; 0 means a minute
}

// CommandReply is its output and its exit status, -1 if a signal ended it.
type CommandReply struct {
	Output   string `json:"output"`
	ExitCode int    `json:"exitCode"`
}

// Command runs a program until it ends or its time is over; then it is killed with its process group.
func (s *Server) Command(args CommandArgs, reply *CommandReply) error {
	if len(args.Argv) == 0 {
		return errors.New("command: want a program, got none")
	}
	if args.Timeout == 0 {
		args.Timeout = time.Minute
	}
	ctx, cancel := machinetime.WithTimeout(context.Background(), args.Timeout)
	defer cancel()
	var output bytes.Buffer
	program, err := args.Argv[0], error(nil)
	if len(args.BinDirs) > 0 {
		if program, err = findProgram(program, args.BinDirs); err != nil {
			return fmt.Errorf("command: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, program, args.Argv[1:]...)
	cmd.Env = append(os.Environ(), args.Env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cni.KillGroup(cmd)
	if err = inNamespace(args.Netns, cmd.Start); err == nil {
		_, err = cni.Wait(ctx, cmd)
	}
	reply.Output = output.String()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("command %s: killed after %s%s: %s", args.Argv[0], args.Timeout,
			machinetime.Excess(machinetime.Extra(ctx)), reply.Output)
	case errors.As(err, &exit):
		reply.ExitCode = exit.ExitCode()
		return nil
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it ended, and left a process behind that keeps its output open
	}
	return err
}

// Programs returns the given programs that are in the PATH.
func (s *Server) Programs(names []string, found *[]string) error {
	*found = []string{}
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			*found = append(*found, name)
		}
	}
	return nil
}
