package fault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

// tracer controls one run. All of it happens on one thread.
type tracer struct {
	task
	table map[int]callSpec
	root  int
	// stdout is the pipe of the plugin's answer, as its link in /proc/PID/fd shows it.
	stdout    string
	threads   map[int]*thread
	processes map[int]*process
	// questions contains the netlink requests without an answer; nil unless refusals are explained.
	questions map[askedFor]question
	took      func() time.Duration
	course
}

// course is the progress of a run.
type course struct {
	points []*Point
	hit    *Point
	// killed is set once everything must end, ended once the plugin has ended.
	killed, ended bool
	status        unix.WaitStatus
	trace         Trace
	answers
}

type thread struct {
	tid     int
	process *process
	// greeted is set after the first stop of a new tracee.
	greeted bool
	// call is the current call, from entry to exit.
	call *sysCall
	// again is the point of a call that a signal interrupted and that the kernel will restart.
	again *Point
}

type process struct {
	pid     int
	program string
	pidfd   int // -1 until it is needed
	ended   bool
}

// task is what a run is for: to list points, if it has nothing else.
type task struct {
	injection *Injection
	explain   bool
	meter     *meter  // nil unless costs are measured
	player    *player // nil unless it takes turns with another run
	log       *Log    // nil unless it is recorded what happens to files
	// reads makes points of calls that only look, too.
	reads bool
	watch *Watch // nil unless it runs for long
}

// calls returns the calls at which a task stops a program; nil means all.
func (do task) calls() map[int]callSpec {
	switch {
	case do.meter != nil && do.meter.count:
		return nil
	case do.meter != nil:
		return clocked()
	case do.explain:
		return explaining()
	case do.player != nil:
		return scheduling()
	case do.log != nil:
		return recording()
	case do.reads:
		return reading()
	}
	return calls(do.injection != nil && do.injection.When == Fail)
}

func run(ctx context.Context, command Command, do task) (Trace, error) {
	if command.Timeout <= 0 {
		command.Timeout = cni.DefaultTimeout
	}
	ctx, cancel := machinetime.WithTimeout(ctx, command.Timeout)
	defer cancel()
	// ptrace(2): only the thread that traces may make requests and wait, with __WNOTHREAD.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	t := &tracer{
		task:      do,
		table:     do.calls(),
		threads:   map[int]*thread{},
		processes: map[int]*process{},
	}
	t.locked, t.torn, t.deaf = map[string]bool{}, map[string]bool{}, map[string]unix.Errno{}
	if do.watch != nil {
		do.watch.mu.Lock()
		do.watch.adopt(t)
		do.watch.mu.Unlock()
	}
	if do.explain {
		t.questions = map[askedFor]question{}
	}
	t.describe(command)
	pipes, err := newPipes()
	if err != nil {
		return t.trace, fmt.Errorf("fault: %w", err)
	}
	t.stdout = linkOf(pipes.child[1])
	begin := time.Now()
	t.meter.start(begin)
	t.took = func() time.Duration { return time.Since(begin) }
	started, err := start(command, &os.ProcAttr{Env: append([]string{}, command.Env...), Files: pipes.child},
		t.table, t.meter.halt)
	pipes.serve(command.Stdin)
	if err == nil {
		err = t.follow(ctx, started)
	}
	t.trace.Call.Stdout, t.trace.Call.Stderr = pipes.collect()
	var path *os.PathError
	if errors.As(err, &path) {
		// If the binary cannot be started, that is the plugin's fault, not the tracer's.
		t.trace.Call.Failure = err.Error()
		return t.trace, nil
	}
	if err != nil {
		return t.trace, fmt.Errorf("fault: %w", err)
	}
	t.conclude(ctx)
	return t.trace, nil
}

// describe fills in the trace's description of the call.
func (t *tracer) describe(command Command) {
	t.trace.Call = cni.Call{
		Plugin: filepath.Base(command.Path), Path: command.Path, Env: command.Env, Stdin: string(command.Stdin),
		ExitCode: -1,
	}
	for _, e := range command.Env {
		if verb, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
			t.trace.Call.Verb = cni.Verb(verb)
		}
	}
}

func linkOf(f *os.File) string {
	link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	// Fd makes it blocking, as the program expects
	return link
}

// follow lets the program run, and returns when it and all processes that it started have ended.
func (t *tracer) follow(ctx context.Context, started *os.Process) error {
	t.root = started.Pid
	root := &process{pid: started.Pid, program: t.trace.Call.Plugin, pidfd: -1}
	t.processes[root.pid] = root
	t.threads[root.pid] = &thread{tid: root.pid, process: root, greeted: true}
	// The end of ctx kills only the plugin, by its pidfd; when it ends, the others are killed.
	stop := context.AfterFunc(ctx, func() { _ = started.Kill() })
	unwatch := machinetime.Watch(ctx, started.Pid)
	defer func() {
		unwatch()
		stop()
		_ = started.Release()
		t.adopt()
	}()
	t.meter.begins(root.pid, WorkProcess)
	t.meter.executes(root.pid)
	err := resume(unix.PtraceCont, root.pid, 0)
	for err == nil {
		var status unix.WaitStatus
		t.meter.proceed()
		tid, werr := t.next(&status)
		t.meter.halt()
		switch {
		case errors.Is(werr, unix.EINTR):
		case errors.Is(werr, unix.ECHILD):
			return nil
		case werr != nil:
			err = fmt.Errorf("wait: %w", werr)
		default:
			err = t.handle(tid, status)
		}
	}
	t.kill()
	return errors.Join(err, t.drain())
}

// drain waits until killed tracees have ended.
func (t *tracer) drain() error {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WCLONE|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return nil
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case status.Stopped():
			_ = unix.Kill(t.thread(tid).process.pid, unix.SIGKILL) // it has just been created
		}
	}
}

// adopt waits for processes that became children of this process because their parents ended without waiting for them,
// as happens to process 1. The tracer's own wait leaves them to their parents.
func (t *tracer) adopt() {
	for pid, p := range t.processes {
		if p.pidfd >= 0 {
			_ = unix.Close(p.pidfd)
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil)
	}
}

// thread returns the tracee of a thread, which may be new: the first stop of a new one may come before the stop of its
// parent.
func (t *tracer) thread(tid int) *thread {
	if th := t.threads[tid]; th != nil {
		return th
	}
	pid, parent := family(tid)
	p := t.processes[pid]
	if p == nil || p.ended {
		p = &process{pid: pid, pidfd: -1}
		if of := t.processes[parent]; of != nil {
			p.program = of.program
		}
		t.processes[pid] = p
		t.meter.begins(pid, WorkProcess)
	}
	th := &thread{tid: tid, process: p}
	t.threads[tid] = th
	return th
}

// family returns the process of a thread, and its parent.
func family(tid int) (pid, parent int) {
	pid = tid
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return pid, 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "Tgid:\t%d", &pid)
		if n, _ := fmt.Sscanf(lines.Text(), "PPid:\t%d", &parent); n == 1 {
			break
		}
	}
	return pid, parent
}

// resume lets a thread continue. If it was killed meanwhile, its end will be reported.
func resume(how func(pid, signal int) error, tid int, signal syscall.Signal) error {
	if err := how(tid, int(signal)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("go on: %w", err)
	}
	return nil
}

// stopped handles a stop of a thread and lets it continue.
func (t *tracer) stopped(th *thread, status unix.WaitStatus) error {
	if t.killed {
		_ = unix.Kill(th.process.pid, unix.SIGKILL)
		return nil
	}
	signal := status.StopSignal()
	switch {
	case signal == unix.SIGTRAP|0x80:
		return t.exit(th)
	case signal == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
		return t.enter(th)
	case signal == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_EXEC:
		return t.executed(th)
	case signal == unix.SIGTRAP && status.TrapCause() > 0:
		signal = 0
	case signal == unix.SIGSTOP && !th.greeted:
		th.greeted = true
		signal = 0
	}
	return resume(unix.PtraceCont, th.tid, signal)
}

// gone records the end of a thread.
func (t *tracer) gone(tid int, status unix.WaitStatus) {
	t.meter.ends(tid)
	delete(t.threads, tid)
	if p := t.processes[tid]; p != nil {
		p.ended = true
	}
	if tid == t.root {
		t.status, t.ended = status, true
		t.trace.Call.Duration = t.took()
		t.leave()
	}
}

// leave records and kills processes that outlive the plugin.
func (t *tracer) leave() {
	if t.killed {
		return
	}
	if t.status.Exited() {
		for pid, p := range t.processes {
			if pid != t.root && !p.ended && alive(pid) {
				t.trace.Left = append(t.trace.Left, p.program)
			}
		}
		slices.Sort(t.trace.Left)
	}
	t.kill()
}

// alive reports whether a process has not ended; zombies have.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// PID (COMMAND) STATE …, where a command may hold parentheses (proc_pid_stat(5)).
	_, state, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')'):]), " ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// kill kills all processes at once. A thread that is stopped before a call does not make it any more.
func (t *tracer) kill() {
	t.killed = true
	for pid, p := range t.processes {
		if !p.ended {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// conclude records how the plugin ended, in the words of cni.Exec.
func (t *tracer) conclude(ctx context.Context) {
	for _, p := range t.points {
		t.trace.Points = append(t.trace.Points, *p)
	}
	t.trace.Hit = t.hit
	call := &t.trace.Call
	if t.ended && t.status.Exited() {
		call.ExitCode = t.status.ExitStatus()
		return
	}
	switch {
	case t.hit != nil && t.injection.When.kills():
		call.Failure = fmt.Sprintf("killed %s %s", t.injection.When, t.hit)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		t.trace.Hung = true
		call.Failure = cni.KilledText(ctx, call.Duration)
	case ctx.Err() != nil:
		call.Failure = "killed: the run was stopped"
	case !t.ended:
		call.Failure = "another waited for it: its exit status is not known"
	default:
		call.Failure = fmt.Sprintf("ended by signal: %s", t.status.Signal())
	}
}
