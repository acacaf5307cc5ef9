// Package busy makes a machine busy, for tests of code that must not depend on the load: with loops that compute, and
// with a loop that writes to the disk.
//
// The loops are processes of their own, so that they compete as other processes do. They end with Stop, or with the
// process that started them, however that ends.
//
// Run its tests: go test ./e2e/internal/busy
package busy

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Load is a set of running loops.
type Load struct {
	stop chan struct{}
	done sync.WaitGroup
}

// writer writes the same 64 MiB to the disk again and again, into a file that has been unlinked.
const writer = "while :; do dd if=/dev/zero of=/proc/self/fd/3 bs=1M count=64 conv=notrunc,fdatasync 2>/dev/null || " +
	"sleep 1; done"

// Start starts loops, and a writer if disk is set. The caller calls Stop.
func Start(loops int, disk bool) (*Load, error) {
	l := &Load{stop: make(chan struct{})}
	commands := make([]*exec.Cmd, 0, loops+1)
	for range loops {
		commands = append(commands, exec.Command("sh", "-c", "while :; do :; done"))
	}
	if disk {
		file, err := os.CreateTemp("", "busy")
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if err := os.Remove(file.Name()); err != nil {
			return nil, err
		}
		cmd := exec.Command("sh", "-c", writer)
		cmd.ExtraFiles = []*os.File{file}
		commands = append(commands, cmd)
	}
	for _, cmd := range commands {
		if err := l.run(cmd); err != nil {
			l.Stop()
			return nil, fmt.Errorf("load: %w", err)
		}
	}
	return l, nil
}

// run starts a command that ends with Stop, or with this process.
func (l *Load) run(cmd *exec.Cmd) error {
	// The command gets a process group of its own, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	l.done.Go(func() {
		// The signal is sent when the thread that started the command ends (prctl(2), PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		<-l.stop
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return <-started
}

// Stop ends all loops and waits for their end. It is called once.
func (l *Load) Stop() {
	close(l.stop)
	l.done.Wait()
}
