package agent

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// File is a file on a node.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	// Data is the content of a regular file, or where a symbolic link points.
	Data []byte `json:"data,omitempty"`
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

// WriteFile writes a directory, a symbolic link or a regular file with its parents.
func (s *Server) WriteFile(file File, _ *None) error {
	if file.Mode.IsDir() {
		return os.MkdirAll(file.Path, file.Mode.Perm())
	}
	if err := os.MkdirAll(filepath.Dir(file.Path), 0o755); err != nil {
		return err
	}
	if file.Mode&fs.ModeSymlink != 0 {
		return os.Symlink(string(file.Data), file.Path)
	}
	return os.WriteFile(file.Path, file.Data, file.Mode.Perm())
}

// RemoveFile removes a file; one that does not exist is no error.
func (s *Server) RemoveFile(path string, _ *None) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Disk lists what was written on the node and outlives a reboot: all but /run and /tmp.
func (s *Server) Disk(_ None, files *[]File) error {
	*files = []File{}
	for _, tree := range s.options.Files {
		if tree.Name == "/run" || tree.Name == "/tmp" {
			continue
		}
		err := fs.WalkDir(tree.FS, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == "." {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			file := File{Path: filepath.Join(tree.Name, path), Mode: info.Mode()}
			switch {
			case info.Mode().IsRegular():
				file.Data, err = fs.ReadFile(tree.FS, path)
			case info.Mode()&fs.ModeSymlink != 0:
				var target string
				target, err = fs.ReadLink(tree.FS, path)
				file.Data = []byte(target)
			case !info.IsDir():
				return nil
			}
			*files = append(*files, file)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CommandArgs are a program to run on the node.
type CommandArgs struct {
	Argv    []string      `json:"argv"`
	Env     []string      `json:"env"`
	Netns   string        `json:"netns"`
	Timeout time.Duration `json:"timeout"` // 0 means a minute
}

// CommandReply is what it printed and its exit status, -1 when a signal ended it.
type CommandReply struct {
	Output   string `json:"output"`
	ExitCode int    `json:"exitCode"`
}

// Command runs a program to its end.
func (s *Server) Command(args CommandArgs, reply *CommandReply) error {
	if args.Timeout == 0 {
		args.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), args.Timeout)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, args.Argv[0], args.Argv[1:]...)
	cmd.Env = append(os.Environ(), args.Env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	err := inNamespace(args.Netns, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	reply.Output = output.String()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		reply.ExitCode = exit.ExitCode()
		return nil
	}
	return err
}

// Programs returns those of the given programs that are in the PATH.
func (s *Server) Programs(names []string, found *[]string) error {
	*found = []string{}
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			*found = append(*found, name)
		}
	}
	return nil
}
