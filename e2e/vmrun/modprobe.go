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

// The path of the program that the kernel calls for a module (proc/sys/kernel/modprobe), and the directory of the
// modules: the usual ones.
const (
	modprobeName = "modprobe"
	modprobePath = "/sbin/" + modprobeName
	modulesDir   = "/lib/modules"
	moduleIndex  = modulesDir + "/index"
)

// modprobe loads the module that the kernel requests, and the modules that it needs. The kernel runs it as `modprobe -q
// -- NAME` (kernel/module/kmod.c) and only uses its exit status. If a person runs it, the error goes to standard error.
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

// load loads every module with a name or alias.
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

// lookUp returns the files to load for a name, in their order. The index has one line for each name: the name, and the
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

// sameName returns a module's name in the form of the index: dashes and underscores mean the same (modprobe(8)).
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
