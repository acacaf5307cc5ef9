package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The plugin's records have a fixed place, so the whole test process lives in a mount and a network namespace of its
// own. They go away with it, even when it is killed.
const inNamespaces = "VETH_TO_HOST_TEST_BIN_DIR"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inNamespaces) != "" {
		os.Exit(runTests(m))
	}
	code, err := runInNamespaces()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) int {
	if os.Geteuid() == 0 {
		if err := hideHost(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// hideHost puts an empty tmpfs where plugins and tests write.
func hideHost() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib"} { // /var/lib/cni is host-local's
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

func runInNamespaces() (int, error) {
	dir, err := os.MkdirTemp("", "veth-to-host-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespaces+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// build builds this plugin, and the upstream ones that stand beside it in a chain.
func build(dir string) error {
	const upstream = "github.com/containernetworking/plugins/plugins/"
	for name, pkg := range map[string]string{
		pluginName: ".", "macvlan": upstream + "main/macvlan", "host-local": upstream + "ipam/host-local",
	} {
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, name), pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}
