package machinetime

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	// watchAfter is how long a process runs before it is measured; most end before.
	watchAfter = 500 * time.Millisecond
	// watchEvery is the interval between two measurements. Threads that began and ended in between are not seen.
	watchEvery = 250 * time.Millisecond
)

// Watch adds the time that a process and its descendants wait for a processor to the innermost timeout around ctx,
// until stop is called. It does nothing if ctx has no such timeout, or if the kernel has no figures
// (/proc/PID/task/TID/schedstat, CONFIG_SCHED_INFO): then only the heartbeat counts. pid is the ID in this process's
// /proc.
func Watch(ctx context.Context, pid int) (stop func()) {
	return watchOver(ctx, func() []int { return processTable().below(pid) })
}

// WatchSelf does the same as Watch for this process only, which works for the owner of ctx itself.
func WatchSelf(ctx context.Context) (stop func()) {
	return watchOver(ctx, func() []int { return []int{os.Getpid()} })
}

func watchOver(ctx context.Context, pids func() []int) (stop func()) {
	t, ok := ctx.Value(timeoutKey{}).(*timeout)
	if !ok {
		return func() {}
	}
	stopped := make(chan struct{})
	go func() {
		w := &watch{root: "/proc", seen: map[int]time.Duration{}}
		wait := watchAfter
		for last := time.Now(); ; wait = watchEvery {
			select {
			case <-stopped:
				return
			case <-t.Done():
				return
			case <-time.After(wait):
			}
			now := time.Now()
			// No thread can have waited longer than the time that passed.
			t.starved.Add(int64(min(w.look(pids()), now.Sub(last))))
			last = now
		}
	}()
	return sync.OnceFunc(func() { close(stopped) })
}

// watch remembers how long threads had waited at the last measurement.
type watch struct {
	root string
	seen map[int]time.Duration
}

// look returns the longest time that a thread waited for a processor since the last measurement. Threads wait at the
// same time, and the one that waits longest delays the call.
func (w *watch) look(pids []int) time.Duration {
	longest := time.Duration(0)
	for _, pid := range pids {
		dir := filepath.Join(w.root, strconv.Itoa(pid), "task")
		threads, _ := os.ReadDir(dir) // none if it has ended
		for _, entry := range threads {
			tid, err := strconv.Atoi(entry.Name())
			if err != nil {
				continue
			}
			if delay, ok := runDelay(filepath.Join(dir, entry.Name(), "schedstat")); ok {
				longest = max(longest, delay-w.seen[tid])
				w.seen[tid] = delay
			}
		}
	}
	return longest
}

// runDelay returns how long a thread was runnable and did not run (Documentation/scheduler/sched-stats.rst,
// /proc/<pid>/schedstat).
func runDelay(file string) (time.Duration, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	var ran, waited int64
	if n, _ := fmt.Sscan(string(data), &ran, &waited); n != 2 {
		return 0, false
	}
	return time.Duration(waited), true
}

// processes contains the children of each process of this PID namespace. It is read at most once in watchEvery, since
// many calls are watched at the same time.
type processes struct {
	root string

	mu       sync.Mutex
	read     time.Time
	children map[int][]int
}

// processTable is shared by all watches of this process.
var processTable = sync.OnceValue(func() *processes { return &processes{root: "/proc"} })

// below returns a process and its descendants.
func (p *processes) below(pid int) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.read) >= watchEvery {
		p.refresh()
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, p.children[all[i]]...)
	}
	return all
}

func (p *processes) refresh() {
	p.read, p.children = time.Now(), map[int][]int{}
	entries, _ := os.ReadDir(p.root)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// PID (COMMAND) STATE PPID …, where a command may hold parentheses (proc_pid_stat(5)).
		data, err := os.ReadFile(filepath.Join(p.root, entry.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil && parent != pid {
			p.children[parent] = append(p.children[parent], pid)
		}
	}
}
