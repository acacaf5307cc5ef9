package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// reapOrphans waits for ended processes that became children of this one when their parents ended, as those of plugins
// do in a node, where the agent is process 1. Otherwise they remain as zombies and look like something that a plugin
// left behind.
//
// It leaves alone the children of package os, which waits for them itself: package os has a pidfd for each of them,
// from its start until somebody has waited for it. Calls may be made concurrently. It returns how many there were.
func reapOrphans() (reaped int) {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || info.Signo == 0 || !knowsPidfds() {
		return 0
	}
	// The order matters: a child that is waited for in between is in neither list.
	ended := endedChildren()
	own := openPidfds()
	for _, pid := range ended {
		if own[pid] {
			continue
		}
		if done, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && done == pid {
			reaped++
		}
	}
	return reaped
}

// knowsPidfds reports whether package os uses pidfds for its children: since Linux 5.4.
func knowsPidfds() bool {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil)
	// It is not a child; a kernel that does not know pidfds answers EINVAL.
	return err == unix.ECHILD
}

// endedChildren returns the zombies whose parent is this process.
func endedChildren() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it is gone
		}
		text := string(data)
		// PID (COMMAND) STATE PPID …, where a command may hold parentheses (proc_pid_stat(5)).
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 || fields[0] != "Z" || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// openPidfds returns the processes for which this one has a pidfd.
func openPidfds() map[int]bool {
	pids := map[int]bool{}
	infos, _ := filepath.Glob("/proc/self/fdinfo/[0-9]*")
	for _, file := range infos {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			var pid int
			if _, err := fmt.Sscanf(line, "Pid:\t%d", &pid); err == nil {
				pids[pid] = true
			}
		}
	}
	return pids
}
