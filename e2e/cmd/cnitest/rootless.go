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

// selfPath outlives a replacement of the binary during a run.
const selfPath = "/proc/self/exe"

// newBackend is the netns backend with this program as its agent.
func newBackend() *netns.Backend {
	return &netns.Backend{Command: []string{selfPath, agentCommand}}
}

// asRoot runs do where this process is root. Without root it runs this program again in a user namespace of its own, where it
// is, and ends with its status.
func asRoot(do func() error) error {
	if os.Geteuid() == 0 {
		return do()
	}
	// The child's death signal comes with the end of the thread that started it (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	child := exec.Command(selfPath, os.Args[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// A terminal's interrupt reaches the child by itself.
	signal.Ignore(os.Interrupt)
	if err := child.Start(); err != nil {
		return &exitError{exitUnfit, fmt.Errorf("user namespace: %w; run as root, or allow unprivileged user namespaces "+
			"(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)", err)}
	}
	terminations := make(chan os.Signal, 1)
	signal.Notify(terminations, syscall.SIGTERM)
	go func() {
		for s := range terminations {
			_ = child.Process.Signal(s)
		}
	}()
	err := child.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		status := exit.ExitCode()
		if status < 0 {
			status = exitUnfit
		}
		return &exitError{status: status}
	}
	return err
}
