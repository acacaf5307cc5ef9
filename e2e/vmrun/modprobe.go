package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the kernel calls for a module (proc/sys/kernel/modprobe), and where the modules are: in the machine as
// anywhere.
const (
	modprobeName = "modprobe"
	modprobePath = "/sbin/" + modprobeName
	modulesDir   = "/lib/modules"
	moduleIndex  = modulesDir + "/index"
)

// modprobe loads what the kernel asks for, with what that needs. The kernel calls it as `modprobe -q -- NAME`
// (kernel/module/kmod.c) and looks at the status alone; where a person calls it, the error goes to standard error.
func modprobe(args []string) int {
	quiet := false
	for _, name := range args {
		if strings.HasPrefix(name, "-") {
			quiet = quiet || name == "-q"
			continue
		}
		if err := load(name); err != nil {
			if !quiet {
				fmt.Fprintln(os.Stderr, "modprobe:", err)
			}
			return 1
		}
	}
	return 0
}

// load loads every module that goes by a name or alias.
func load(name string) error {
	index, err := os.Open(moduleIndex)
	if err != nil {
		return err
	}
	defer index.Close()
	files, err := lookUp(index, name)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("module %s: not in %s", name, modulesDir)
	}
	for _, file := range files {
		if err := insert(filepath.Join(modulesDir, file)); err != nil {
			return fmt.Errorf("module %s: %w", file, err)
		}
	}
	return nil
}

// lookUp returns the files to load for a name, in their order. The index has a line for each name: the name, and the
// files.
func lookUp(index io.Reader, name string) ([]string, error) {
	prefix := sameName(name) + " "
	lines := bufio.NewScanner(index)
	lines.Buffer(nil, 1<<20)
	var files []string
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			files = append(files, strings.Fields(rest)...)
		}
	}
	return files, lines.Err()
}

// sameName returns a module's name in the one way in which the index has it: dashes and underscores mean the same
// (modprobe(8)).
func sameName(name string) string { return strings.ReplaceAll(name, "-", "_") }

func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
