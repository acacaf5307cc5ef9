package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/cnitest/cnitest/e2e/backend/netns"
)

// selfPath still works if the binary is replaced during a run.
const selfPath = "/proc/self/exe"

// newBackend returns the netns backend with this program as its agent.
func newBackend() *netns.Backend {
	return &netns.Backend{Command: []string{selfPath, agentCommand}}
}

// asRoot calls do if this process is root. Without root it runs this program again in a user namespace, and ends with
// its status.
func asRoot(do func() error) error {
	if os.Geteuid() == 0 {
		return do()
	}
	// The death signal of the child comes when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	child := exec.Command(selfPath, os.Args[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// Signals are caught before the start: one in between must not end this process alone.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := child.Start(); err != nil {
		return &exitError{
			exitUnfit,
			fmt.Errorf("user namespace: %w; run as root, or allow unprivileged user namespaces "+
				"(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "+
				"kernel.apparmor_restrict_unprivileged_userns)", err),
		}
	}
	go func() {
		for s := range signals {
			if s == os.Interrupt && hasTerminal() {
				continue // the child has it already
			}
			_ = child.Process.Signal(s)
		}
	}()
	err := child.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &exitError{status: statusOf(exit)}
	}
	return err
}

// statusOf returns the status of a process as a shell shows it.
func statusOf(exit *exec.ExitError) int {
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return signalStatus + int(w.Signal())
	}
	return exit.ExitCode()
}
