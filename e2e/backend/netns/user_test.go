package netns_test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// userEnv is set for the run of the tests in a user namespace.
const userEnv = "CNITEST_TEST_USER"

// The lab in a user namespace of an ordinary user: these tests run again as nobody.
func TestUserNamespace(t *testing.T) {
	if os.Getenv(userEnv) != "" {
		t.Skip("this is the run in a user namespace")
	}
	asNobody(t, "^(TestNode|TestNetwork|TestReboot|TestEnter|TestWayIn|TestClose|TestStart_error|TestStart_takes)")
}

// As in a container: if a file is a mount point, a user namespace refuses an overlay of its directory.
func TestUserNamespace_in_a_container(t *testing.T) {
	if os.Getenv(userEnv) != "" {
		t.Skip("this is the run in a user namespace")
	}
	check(t, unix.Mount("/etc/passwd", "/etc/passwd", "", unix.MS_BIND, ""))
	defer unix.Unmount("/etc/passwd", 0)
	asNobody(t, "^(TestNode_shows|TestNode_writes|TestReboot_keeps)")
}

func asNobody(t *testing.T, tests string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.shuffle=on", "-test.run="+tests)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, insideEnv+"=") && !strings.HasPrefix(e, "TMPDIR=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL,
	}
	cmd.Dir = "/"
	// The child gets its death signal when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), noNamespaces) {
		t.Skip(strings.TrimSpace(string(out)))
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestNode_shows") {
		t.Errorf("%v:\n%s", err, out)
	}
}
