package netns

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cluster"
)

// Enterer is a cluster whose places can be entered by a person.
type Enterer interface {
	// Enter runs a program in a place, with the caller's terminal, and waits for it.
	Enter(ctx context.Context, place *cluster.Place, p Program) error
	// WayIn is a command that enters a place from another terminal.
	WayIn(place *cluster.Place) string
}

// Program is what Enter runs.
type Program struct {
	Argv           []string
	Env            []string // the whole environment
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// pidOf is the first process of the machine that a place belongs to.
func (l *lab) pidOf(place *cluster.Place) int {
	for _, m := range l.machines {
		if m.agent == place.Agent {
			return m.pid()
		}
	}
	return l.fabric.pid()
}

// WayIn is an nsenter command line.
func (l *lab) WayIn(place *cluster.Place) string {
	pid := l.pidOf(place)
	user := ""
	if inUserNamespace() {
		user = "--user --preserve-credentials "
	}
	if place.Netns == "" {
		return fmt.Sprintf("nsenter --target %d %s--mount --uts --ipc --pid --net", pid, user)
	}
	return fmt.Sprintf("nsenter --target %d %s--mount --uts --ipc --pid --net=/proc/%d/root%s", pid, user, pid, onRoot(place.Netns))
}

// onRoot is a path of the node without the symbolic link /var/run, which would be followed on the machine.
func onRoot(path string) string { return strings.Replace(path, "/var/run/", "/run/", 1) }

// Enter runs a program in a place.
func (l *lab) Enter(ctx context.Context, place *cluster.Place, p Program) error {
	done := make(chan error, 1)
	go func() {
		// No unlock: the thread is in other namespaces from here on and ends with the goroutine.
		runtime.LockOSThread()
		done <- enter(ctx, l.pidOf(place), onRoot(place.Netns), p)
	}()
	return <-done
}

// enter joins the namespaces with the calling thread and starts the program from it, which inherits them.
func enter(ctx context.Context, pid int, netns string, p Program) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	paths := map[int]string{unix.CLONE_NEWNET: fmt.Sprintf("/proc/%d/ns/net", pid)}
	if netns != "" {
		paths[unix.CLONE_NEWNET] = fmt.Sprintf("/proc/%d/root%s", pid, netns)
	}
	for kind, name := range map[int]string{unix.CLONE_NEWUTS: "uts", unix.CLONE_NEWIPC: "ipc", unix.CLONE_NEWPID: "pid", unix.CLONE_NEWNS: "mnt"} {
		paths[kind] = fmt.Sprintf("/proc/%d/ns/%s", pid, name)
	}
	kinds := []int{unix.CLONE_NEWNET, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWPID, unix.CLONE_NEWNS}
	for _, kind := range kinds {
		f, err := os.Open(paths[kind])
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	// A thread that shares its root and working directory cannot change its mount namespace (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	for i, kind := range kinds {
		if err := unix.Setns(int(files[i].Fd()), kind); err != nil {
			return fmt.Errorf("setns %s: %w", paths[kind], err)
		}
	}
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Env, cmd.Dir = p.Env, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, p.Stdout, p.Stderr
	return cmd.Run()
}
