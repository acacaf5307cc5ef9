package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cnitest/cnitest/e2e/internal/testbin"
)

// nobody is a user without rights.
const nobody = 65534

func TestMain(m *testing.M) {
	if os.Args[0] == selfPath || len(os.Args) == 3 && os.Args[1] == agentCommand {
		// cnitest started itself: as an agent, in a user namespace, or again; or the kernel started it as a stub plugin
		main()
	}
	testscript.Main(testMain{m}, map[string]func(){"cnitest": main, cnitoolName: main, "unprivileged": unprivileged})
}

// testMain removes what the tests built.
type testMain struct{ *testing.M }

// buildDirVariable contains the directory in which the tests build plugins.
const buildDirVariable = "CNITEST_TEST_BUILD"

func (m testMain) Run() int {
	dir, err := os.MkdirTemp("", "cnitest-build-")
	if err == nil {
		// For unprivileged.
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv(buildDirVariable, dir)
	return m.M.Run()
}

// unprivileged runs the command of its arguments as nobody.
func unprivileged() {
	path, err := exec.LookPath(os.Args[1])
	for _, step := range []func() error{
		func() error { return err },
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(nobody) },
		func() error { return syscall.Setuid(nobody) },
		func() error { return syscall.Exec(path, os.Args[1:], os.Environ()) },
	} {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, "unprivileged:", err)
			os.Exit(99)
		}
	}
}

// buildPlugins builds the upstream plugins and route once, in bin below the directory of the variable.
var buildPlugins = sync.OnceValue(func() error {
	return testbin.Build(binDir(), "tool", "github.com/cnitest/cnitest/plugin/route")
})

func binDir() string { return filepath.Join(os.Getenv(buildDirVariable), "bin") }

// plugins returns the directory of the plugins' binaries. It skips tests that run them if no lab can be made.
func plugins(t *testing.T) string {
	t.Helper()
	if !canMakeLabs() {
		t.Skip("neither root nor user namespaces")
	}
	if err := buildPlugins(); err != nil {
		t.Fatal(err)
	}
	return binDir()
}

// routeConflist returns the conflist of this repository's route plugin.
func routeConflist(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../plugin/route/net.d/00-default.conflist")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// doctorSays is the output of doctor on this machine, without its verdict.
var doctorSays = sync.OnceValue(func() string {
	out, _ := exec.Command("cnitest", "doctor").Output()
	return string(out)
})

func canMakeLabs() bool { return strings.Contains(doctorSays(), "ok       backend netns") }

func TestScripts(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(os.Getenv(buildDirVariable), "scripts")
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition:           condition,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status},
		Setup: func(env *testscript.Env) error {
			if canMakeLabs() {
				if err := buildPlugins(); err != nil {
					return err
				}
			}
			env.Setenv("PLUGINS", binDir())
			env.Setenv("ROUTE", routeConflist(t))
			env.Setenv("SHELL", "/bin/sh")
			// For unprivileged: these directories belong to their owner alone.
			cnitest, err := exec.LookPath("cnitest")
			if err != nil {
				return err
			}
			return errors.Join(os.Chmod(filepath.Dir(filepath.Dir(cnitest)), 0o755), os.Chmod(env.WorkDir, 0o755),
				os.Chmod(env.Getenv("TMPDIR"), 0o1777))
		},
	})
}

// condition reports whether this is root, whether labs can be made, and what is missing: IPVS, or a kind of links.
func condition(name string) (bool, error) {
	what, ok := strings.CutPrefix(name, "missing:")
	switch {
	case name == "root":
		return os.Geteuid() == 0, nil
	case name == "lab":
		return canMakeLabs(), nil
	case ok:
		return regexp.MatchString(`(?m)^missing +(links of kind )?`+what+`\b`, doctorSays())
	}
	return false, fmt.Errorf("condition %q: want root, lab, missing:IPVS or missing:KIND", name)
}

// status runs a command that must end with a status: status 2 cnitest run.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s: got status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}
