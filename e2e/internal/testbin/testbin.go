// Package testbin builds the programs that the tests of this module run, once for all test binaries: in bin/test below
// the module's root, where the go command finds them again and relinks only what changed. `make clean` removes them.
package testbin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Build builds main packages without cgo, and makes each available in dir under the last element of its path. Packages
// are named as for go build in the test's own directory; the name tool stands for the tools of go.mod. It may be called
// by several processes at once.
func Build(dir string, packages ...string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	names, err := programs(packages)
	if err != nil {
		return err
	}
	shared := filepath.Join(root, "bin", "test")
	if err := errors.Join(os.MkdirAll(shared, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(shared, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	// Nobody debugs them, and without that information linking takes less time.
	build := []string{"build", "-buildvcs=false", "-ldflags=-w", "-o", shared + "/"}
	if _, err := run(append(build, packages...)); err != nil {
		return err
	}
	for _, name := range names {
		if err := link(filepath.Join(shared, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// programs returns the names that go build gives to what it builds.
func programs(packages []string) ([]string, error) {
	out, err := run(append([]string{"list", "-f", "{{.ImportPath}}"}, packages...))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, path := range strings.Fields(out) {
		names = append(names, filepath.Base(path))
	}
	return names, nil
}

func run(arguments []string) (string, error) {
	cmd := exec.Command("go", arguments...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said.String())
	}
	return string(out), nil
}

// link makes a file available under another name. It copies the file if the directories are on different file systems.
func link(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// moduleRoot returns the directory of the go.mod that the test's own directory belongs to.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		switch parent := filepath.Dir(dir); {
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		case parent == dir:
			return "", errors.New("no go.mod above the test's directory")
		default:
			dir = parent
		}
	}
}
