package fault_test

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

// These tests run again as an ordinary user's node: as nobody, who is root of a user namespace.
func TestUserNamespace(t *testing.T) {
	if os.Getenv(userEnv) != "" {
		t.Skip("this is the run in a user namespace")
	}
	cmd := exec.Command("/proc/self/exe", "-test.v",
		"-test.run=^(TestAvailable|TestMacvlan|TestInject|TestObserve$|TestHang)")
	cmd.Env = append(os.Environ(), userEnv+"=yes")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0},
		Pdeathsig:   syscall.SIGKILL,

		GidMappingsEnableSetgroups: true,
	}
	// The child gets its death signal when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestMacvlan_failed") {
		t.Errorf("%v:\n%s", err, out)
	}
	wantAlone(t)
}
