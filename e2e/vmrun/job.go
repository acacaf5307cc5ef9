package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Paths in the initramfs. The machine's root is in a separate directory, since a process whose root is the initramfs
// itself cannot change it (pivot_root(2): "The rootfs (initial ramfs) cannot be pivot_root()ed").
const (
	initPath    = "/init"
	jobPath     = "/job.json"
	machineRoot = "/machine"
)

// job is what the machine does. Without arguments it only reports that it is up.
type job struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	Back []string `json:"back,omitempty"`
}

// pack makes the initramfs: the kernel's modules, this program, the program to run and its files. The file has no name
// on any disk, so that nothing stays when this process is killed.
func pack(k *kernel, o *options) (_ *os.File, err error) {
	j := job{}
	var take []string
	if o != nil {
		if j, take, err = o.job(); err != nil {
			return nil, err
		}
	}
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	modules, err := os.Open(k.modules())
	if err != nil {
		return nil, err
	}
	defer modules.Close()
	if _, err := io.Copy(f, modules); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := checkStatic(self); err != nil {
		return nil, err
	}
	data, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	a := newArchive(f)
	a.device("/dev/console", 5, 1)
	a.data(jobPath, 0o600, data)
	for _, dir := range []string{
		"dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "usr/bin",
		"usr/local", "usr/sbin", "var/lib", "var/log",
	} {
		a.dir(filepath.Join(machineRoot, dir), 0o755)
	}
	a.dir(machineRoot+"/tmp", 0o777|fs.ModeSticky)
	a.symlink(machineRoot+"/var/run", "/run")
	a.data(machineRoot+"/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	a.data(machineRoot+"/etc/passwd", 0o644,
		[]byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"))
	for _, to := range []string{initPath, machineRoot + modprobePath} {
		if err := a.copy(self, to); err != nil {
			return nil, err
		}
	}
	for _, path := range take {
		if err := a.copy(path, filepath.Join(machineRoot, path)); err != nil {
			return nil, err
		}
	}
	return f, a.close()
}

// job returns the job that the command line describes, and the files that it needs.
func (o *options) job() (job, []string, error) {
	program, err := exec.LookPath(o.program[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return job{}, nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return job{}, nil, err
	}
	var take []string
	var missing []error
	for _, path := range slices.Concat([]string{program}, o.with) {
		abs, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(abs)
		}
		take, missing = append(take, abs), append(missing, err)
	}
	if err := errors.Join(missing...); err != nil {
		return job{}, nil, err
	}
	if err := checkStatic(take[0]); err != nil {
		return job{}, nil, err
	}
	j := job{Args: append([]string{take[0]}, o.program[1:]...), Env: guestEnv(os.Environ()), Dir: dir}
	for _, path := range o.back {
		abs, err := filepath.Abs(path)
		if err != nil {
			return job{}, nil, err
		}
		j.Back = append(j.Back, abs)
	}
	for _, named := range append(o.named(), filepath.Join(dir, "testdata")) {
		// A path that is to be written is brought back, and not copied into the machine.
		if _, err := os.Stat(named); err == nil && !slices.Contains(j.Back, named) {
			take = append(take, named)
		}
	}
	return j, take, nil
}

// named returns the absolute paths that the program's arguments may contain: "plugin.conflist", "--bin-dir bin" and
// "--bin-dir=bin".
func (o *options) named() []string {
	var all []string
	for _, arg := range o.program[1:] {
		if _, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "-") {
			arg = value
		}
		if abs, err := filepath.Abs(arg); err == nil && arg != "" && arg != "/" && arg != "." {
			all = append(all, abs)
		}
	}
	return all
}

// guestEnv returns the environment without variables that name places of this machine.
func guestEnv(environ []string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{"PATH", "HOME", "TMPDIR", "HOSTNAME"}, name)
	})
	return append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "HOSTNAME="+
		guestName)
}

// checkStatic returns an error for a program that needs libraries, since the machine has none.
func checkStatic(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: want a static program: %w", path, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s: want a static program, got one that needs libraries: build it with CGO_ENABLED=0",
				path)
		}
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s: want a program for amd64, got one for %s", path, f.Machine)
	}
	return nil
}
