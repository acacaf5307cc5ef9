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
	// watchAfter is how long a process runs before it is looked at: most end before.
	watchAfter = 500 * time.Millisecond
	// watchEvery is how long lies between two looks. Of what began and ended between them nothing is seen.
	watchEvery = 250 * time.Millisecond
)

// Watch adds what a process and its descendants wait for a processor to the innermost timeout around ctx, until stop is
// called. It does nothing where ctx has no such timeout, or the kernel does not tell (/proc/PID/task/TID/schedstat,
// CONFIG_SCHED_INFO): the heartbeat is all there is then. pid is as this process's /proc has it.
func Watch(ctx context.Context, pid int) (stop func()) {
	return watchOver(ctx, func() []int { return processTable().below(pid) })
}

// WatchSelf is Watch for this process alone, which works for the owner of ctx itself.
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
			// None waited for longer than there was time.
			t.starved.Add(int64(min(w.look(pids()), now.Sub(last))))
			last = now
		}
	}()
	return sync.OnceFunc(func() { close(stopped) })
}

// watch knows how long threads had waited when they were last looked at.
type watch struct {
	root string
	seen map[int]time.Duration
}

// look returns the longest wait for a processor of a thread since the last look. Threads wait beside each other, and
// what holds a call up is the one that waits most.
func (w *watch) look(pids []int) time.Duration {
	longest := time.Duration(0)
	for _, pid := range pids {
		dir := filepath.Join(w.root, strconv.Itoa(pid), "task")
		threads, _ := os.ReadDir(dir) // none where it has ended
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

// runDelay reads how long a thread was ready to run and did not (Documentation/scheduler/sched-stats.rst,
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

// processes are the children of each process of this PID namespace, read at most once in watchEvery: many calls are
// watched at once.
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
