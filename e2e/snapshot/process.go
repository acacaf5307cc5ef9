package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

// maxCommandLine is the number of bytes of a command line that are shown.
const maxCommandLine = 200

// takeProcesses reads every process except the calling one, kernel threads, and those in another root directory, which
// are containers or the lab's own programs.
func takeProcesses() ([]object, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || isElsewhere("/proc/"+entry.Name()) {
			continue
		}
		item, ok, err := takeProcess("/proc/" + entry.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			// It ended meanwhile.
			continue
		}
		if err != nil {
			return nil, err
		}
		if ok {
			objects = append(objects, object{Item: item})
		}
	}
	return objects, nil
}

// isElsewhere reports whether a process has another root directory than this one.
func isElsewhere(dir string) bool {
	root, err := os.Stat(dir + "/root")
	if err != nil {
		return false // it ended, or it is somebody else's
	}
	own, err := os.Stat("/")
	return err == nil && !os.SameFile(root, own)
}

// takeProcess reads the process of a directory below /proc, unless it is a kernel thread.
func takeProcess(dir string) (item Item, ok bool, err error) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Item{}, false, err
	}
	command, state, flags, err := parseStat(string(stat))
	if err != nil || flags&kernelThread != 0 {
		return Item{}, false, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return Item{}, false, err
	}
	uid := info.Sys().(*syscall.Stat_t).Uid
	item = Item{Name: "zombie of " + command, Text: fmt.Sprintf("uid %d", uid)}
	if state == "Z" {
		return item, true, nil
	}
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return Item{}, false, err
	}
	item.Name = string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	if len(item.Name) > maxCommandLine {
		item.Name = item.Name[:maxCommandLine] + "..."
	}
	if item.Name == "" {
		item.Name = command
	}
	return item, true, nil
}

// parseStat reads the command, state and flags of proc_pid_stat(5): PID (COMMAND) STATE PPID PGRP SESSION TTY TPGID
// FLAGS ... A command may contain spaces and parentheses.
func parseStat(stat string) (command, state string, flags uint64, err error) {
	start, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if start < 0 || end < start {
		return "", "", 0, fmt.Errorf("stat of a process: want a command in parentheses, got %q", stat)
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 7 {
		return "", "", 0, fmt.Errorf("stat of a process: want 7 fields behind the command, got %q", stat)
	}
	flags, err = strconv.ParseUint(fields[6], 10, 32)
	if err != nil {
		return "", "", 0, fmt.Errorf("stat of a process: flags: %w", err)
	}
	return stat[start+1 : end], fields[0], flags, nil
}
