package netns

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/internal/lostthread"
)

// Enterer is a cluster whose places a person can enter.
type Enterer interface {
	// Enter runs a program in a place, with the caller's terminal, and waits until it ends.
	Enter(ctx context.Context, place *cluster.Place, p Program) error
	// WayIn returns a command that enters a place from another terminal.
	WayIn(place *cluster.Place) string
}

// Program is the program that Enter runs.
type Program struct {
	Argv           []string
	Env            []string // the complete environment
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Foreground puts the program into a process group of its own, and makes that group the foreground group of the
	// caller's terminal, which must be standard input. A shell needs this: in its PID namespace it cannot see a group
	// from outside. The caller must ignore SIGTTOU (tcsetpgrp(3)) and take the terminal back.
	Foreground bool
}

// pidOf returns the ID of the first process of a place's machine.
func (l *lab) pidOf(place *cluster.Place) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.machines {
		if m.agent == place.Agent {
			return m.pid()
		}
	}
	return l.fabric.pid()
}

// WayIn returns an nsenter command line.
func (l *lab) WayIn(place *cluster.Place) string {
	pid := l.pidOf(place)
	user := ""
	if InUserNamespace() {
		user = "--user --preserve-credentials "
	}
	if place.Netns == "" {
		return fmt.Sprintf("nsenter --target %d %s--mount --uts --ipc --pid --net", pid, user)
	}
	return fmt.Sprintf("nsenter --target %d %s--mount --uts --ipc --pid --net=/proc/%d/root%s", pid, user, pid,
		onRoot(place.Netns))
}

// Lab is what Backend.Start returns, for backends that put more on the nodes.
type Lab interface {
	cluster.Leasing
	Enterer
	// PathTo returns where a path of a place's machine is on this one, until that machine ends.
	PathTo(place *cluster.Place, path string) string
}

// PathTo returns a path below the root of the place's first process.
func (l *lab) PathTo(place *cluster.Place, path string) string {
	return fmt.Sprintf("/proc/%d/root%s", l.pidOf(place), onRoot(path))
}

// onRoot replaces the symbolic link /var/run in a path of the node by /run; the link would be followed on the machine.
func onRoot(path string) string { return strings.Replace(path, "/var/run/", "/run/", 1) }

// killDelay is the time that a program has to end after SIGTERM.
const killDelay = 5 * time.Second

// Enter runs a program in a place. When ctx ends, the program gets a SIGTERM, and after killDelay a SIGKILL.
func (l *lab) Enter(ctx context.Context, place *cluster.Place, p Program) error {
	if len(p.Argv) == 0 {
		return fmt.Errorf("enter %s: want a program, got none", place.Name)
	}
	return lostthread.Do(func() error { return enter(ctx, l.pidOf(place), onRoot(place.Netns), p) })
}

// enter moves the calling thread into the namespaces and starts the program from it; the program inherits them.
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
	for kind, name := range map[int]string{
		unix.CLONE_NEWUTS: "uts", unix.CLONE_NEWIPC: "ipc", unix.CLONE_NEWPID: "pid", unix.CLONE_NEWNS: "mnt",
	} {
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
	program, err := lookPath(p.Argv[0], p.Env)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, p.Argv[1:]...)
	cmd.Args[0] = p.Argv[0]
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = killDelay
	if p.Foreground {
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: unix.Stdin}
	}
	cmd.Env, cmd.Dir = p.Env, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, p.Stdout, p.Stderr
	return cmd.Run()
}

// lookPath finds a program on the node, on the PATH of its environment. exec.LookPath would use the harness's PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode().Perm()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w: PATH is %q", name, exec.ErrNotFound, path)
}
