package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

// machine describes this machine, as far as it tells.
func machine() benchmark.Machine {
	m := benchmark.Machine{Kernel: "unknown", Processor: "unknown", Processors: runtime.NumCPU()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if model := field("/proc/cpuinfo", "model name"); model != "" {
		m.Processor = model
	}
	_, _ = fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d", &m.MemoryBytes)
	m.MemoryBytes <<= 10
	return m
}

// availableMemory returns how many bytes the machine can give without swapping; 0 if it does not tell.
func availableMemory() (bytes int64) {
	_, _ = fmt.Sscanf(field("/proc/meminfo", "MemAvailable"), "%d", &bytes)
	return bytes << 10
}

// field returns the value of the first line "NAME: VALUE" of a file; empty without one.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// busyTime returns how long the processors of the machine have been busy since it was booted, all together; false if it
// does not tell (proc_stat(5)).
func busyTime() (time.Duration, bool) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	const idle, wait = 4, 5 // after the name: user, nice, system, idle, iowait, irq, softirq, steal
	if len(fields) < 9 {
		return 0, false
	}
	ticks := 0
	for i, text := range fields[1:9] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, false
		}
		if i+1 != idle && i+1 != wait {
			ticks += n
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere
	return time.Duration(ticks) * tick, true
}
