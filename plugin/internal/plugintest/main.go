// Package plugintest supports a plugin's own tests: it runs them in a process with namespaces of its own, calls the
// plugin's program as a runtime does, and makes the namespaces and links for these calls.
//
// It is not a conformance suite (that is e2e/), and plugins import it only in tests.
package plugintest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inNamespaces = "PLUGIN_TEST_BIN_DIR"

// Upstream is the module of the plugins that upstream ships.
const Upstream = "github.com/containernetworking/plugins/plugins/"

// Main runs the tests of a package, for TestMain to exit with what it returns. A plugin's records have a fixed place,
// so as root the whole test process lives in a mount and a network namespace of its own. They go away with it, even
// when it is killed. The map binaries names the packages of the programs that the tests run.
func Main(m *testing.M, binaries map[string]string) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if os.Getenv(inNamespaces) != "" {
		if err := hideHost(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	code, err := again(binaries)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// BinDir returns the directory of the binaries, or "" for an ordinary user.
func BinDir() string { return os.Getenv(inNamespaces) }

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

// again runs this test process once more, in namespaces.
func again(binaries map[string]string) (int, error) {
	dir, err := os.MkdirTemp("", "plugin-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range binaries {
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, name), pkg).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
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
