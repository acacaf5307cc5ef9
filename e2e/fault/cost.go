package fault

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/cni"
)

// Costs is what one run of a plugin asked of the machine, with all programs that it started.
type Costs struct {
	// Call is what cni.Exec would have returned; its duration is that of a run under the tracer.
	Call cni.Call `json:"call"`
	// SystemCalls counts all of them, NetlinkSent the messages in netlink sends, Programs the programs that ran, the
	// plugin included. DumpBytes are those of the messages that netlink answered as parts of a dump.
	SystemCalls int   `json:"systemCalls,omitempty"`
	NetlinkSent int   `json:"netlinkSent,omitempty"`
	DumpBytes   int64 `json:"dumpBytes,omitempty"`
	Programs    int   `json:"programs,omitempty"`
	// PeakBytes is the memory of the largest program at its largest: VmHWM of proc_pid_status(5). The maximum of
	// getrusage(2) would be that of this process, whose memory a plugin shares until its exec.
	PeakBytes int64 `json:"peakBytes,omitempty"`
	// Times has for each kind of work how long it took. Together they are the duration without what the tracer did.
	Times map[Work]time.Duration `json:"times,omitempty"`
}

// Work is what a plugin's time goes to. Of several programs the one that was started last counts: others wait for it.
type Work string

// These are the kinds of work.
const (
	// WorkProcess is in the kernel: fork, exec and exit.
	WorkProcess Work = "fork, exec, exit"
	// WorkStart is from the first instruction until the program reads its standard input: the runtime starts, and the
	// program is loaded.
	WorkStart Work = "until main"
	// WorkLock waits for a lock of a file (flock, fcntl).
	WorkLock Work = "lock"
	// WorkNetlink is in a netlink call in which the kernel works, WorkAsleep in one in which it sleeps: it waits for an
	// RCU grace period, or for the RTNL lock, which others hold.
	WorkNetlink Work = "netlink"
	WorkAsleep  Work = "netlink asleep"
	// WorkSync waits for a disk.
	WorkSync Work = "fsync"
	// WorkOwn is all other work, WorkWait all other waiting: for timers, daemons or a processor.
	WorkOwn  Work = "other work"
	WorkWait Work = "other waits"
)

// Works returns all kinds of work in the order in which tables show them.
func Works() []Work {
	return []Work{WorkProcess, WorkStart, WorkLock, WorkNetlink, WorkAsleep, WorkSync, WorkOwn, WorkWait}
}

// Count runs a plugin and counts what it asks for. Each system call stops it, which makes it several times as slow.
// Errors are those of Observe.
func Count(ctx context.Context, command Command) (Costs, error) {
	return measure(ctx, command, newMeter(true))
}

// Clock runs a plugin and says where its time goes. It is stopped only at the calls that are told apart, and what the
// tracer does meanwhile is left out; each stop still costs some microseconds. Errors are those of Observe.
func Clock(ctx context.Context, command Command) (Costs, error) {
	return measure(ctx, command, newMeter(false))
}

func measure(ctx context.Context, command Command, m *meter) (Costs, error) {
	trace, err := run(ctx, command, task{meter: m})
	m.costs.Call = trace.Call
	return m.costs, err
}

// clocked returns the table of Clock.
func clocked() map[int]callSpec {
	return map[int]callSpec{
		unix.SYS_SENDTO:    {name: "sendto", data: dataFlat},
		unix.SYS_SENDMSG:   {name: "sendmsg", data: dataMessage},
		unix.SYS_SENDMMSG:  {name: "sendmmsg", data: dataMany},
		unix.SYS_RECVFROM:  {name: "recvfrom", data: dataFlat, receives: true},
		unix.SYS_RECVMSG:   {name: "recvmsg", data: dataMessage, receives: true},
		unix.SYS_FLOCK:     {name: "flock"},
		unix.SYS_FCNTL:     {name: "fcntl", where: condition{arg: 1, values: []uint32{unix.F_SETLKW, unix.F_OFD_SETLKW}}},
		unix.SYS_FSYNC:     {name: "fsync"},
		unix.SYS_FDATASYNC: {name: "fdatasync"},
		// Of standard input.
		unix.SYS_READ:       {name: "read", where: condition{arg: 0, values: []uint32{0}}},
		unix.SYS_EXIT_GROUP: {name: "exit_group"},
	}
}

// meter measures one run. Without count it keeps the time.
type meter struct {
	count bool
	costs Costs
	// begin is when the plugin's process was to be started, paused how long the tracer worked since, and stopped when
	// it began to the last time.
	begin    time.Time
	paused   time.Duration
	stopped  time.Time
	accounts time.Duration // the time until which all is accounted for
	programs []*metered    // those that run; the last one was started last
	calls    map[int]*timed
}

// metered is a program that runs.
type metered struct {
	pid  int
	work Work          // WorkOwn once it has read its input
	cpu  time.Duration // of the process, when it was last looked at
}

// timed is a call under way.
type timed struct {
	work       Work
	begin, cpu time.Duration
}

func newMeter(count bool) *meter {
	m := &meter{count: count, calls: map[int]*timed{}}
	if !count {
		m.costs.Times = map[Work]time.Duration{}
	}
	return m
}

// start says when the plugin's process is started. It does nothing without a meter, as all that the tracer calls.
func (m *meter) start(at time.Time) {
	if m != nil {
		m.begin = at
	}
}

// now is the time since the beginning without what the tracer did.
func (m *meter) now() time.Duration { return m.stopped.Sub(m.begin) - m.paused }

// halt says that the tracer has something to do, proceed that it has nothing more.
func (m *meter) halt() {
	if m != nil {
		m.stopped = time.Now()
	}
}

func (m *meter) proceed() {
	if m != nil {
		m.paused += time.Since(m.stopped)
	}
}

// account adds the time since the last account to what was going on.
func (m *meter) account() {
	if m.count {
		return
	}
	since := m.now() - m.accounts
	m.accounts += since
	work, own := m.underway()
	if work != WorkOwn {
		m.costs.Times[work] += since
		return
	}
	busy := since
	if cpu, err := processorTime(own.pid); err == nil {
		busy = min(since, cpu-own.cpu)
		own.cpu = cpu
	}
	m.costs.Times[WorkOwn] += busy
	m.costs.Times[WorkWait] += since - busy
}

// underway returns what is going on, and the program that does it; nil if there is none.
func (m *meter) underway() (Work, *metered) {
	if len(m.programs) == 0 {
		return WorkProcess, nil
	}
	top := m.programs[len(m.programs)-1]
	if top.work != WorkOwn {
		return top.work, top
	}
	for _, work := range []Work{WorkLock, WorkSync, WorkNetlink} {
		for _, c := range m.calls {
			if c.work == work {
				return work, top
			}
		}
	}
	return WorkOwn, top
}

// begins notes a new process: the plugin, or a copy of a program that is to become another one.
func (m *meter) begins(pid int, work Work) {
	if m == nil {
		return
	}
	m.account()
	m.programs = append(m.programs, &metered{pid: pid, work: work})
}

// executes notes that a process became another program.
func (m *meter) executes(pid int) {
	if m == nil {
		return
	}
	m.costs.Programs++
	m.become(pid, WorkStart)
}

// become notes that a process does something else from now on.
func (m *meter) become(pid int, work Work) {
	m.account()
	for _, p := range m.programs {
		if p.pid == pid {
			p.work = work
			p.cpu, _ = processorTime(pid)
		}
	}
}

// ends notes the end of a thread.
func (m *meter) ends(tid int) {
	if m == nil {
		return
	}
	m.account()
	delete(m.calls, tid)
	for i, p := range m.programs {
		if p.pid == tid {
			m.programs = append(m.programs[:i:i], m.programs[i+1:]...)
			break
		}
	}
}

// enter handles the entry of a system call.
func (m *meter) enter(c *sysCall, number int) error {
	m.costs.SystemCalls++
	pid, tid := c.thread.process.pid, c.thread.tid
	if number == unix.SYS_EXIT_GROUP {
		m.costs.PeakBytes = max(m.costs.PeakBytes, peakMemory(pid))
		m.become(pid, WorkProcess)
		return resume(unix.PtraceCont, tid, 0)
	}
	var work Work
	switch c.spec.name {
	case "read":
		if top := m.programs[len(m.programs)-1]; top.pid == pid && top.work == WorkStart && uint32(c.args[0]) == 0 {
			m.become(pid, WorkOwn)
		}
	case "flock", "fcntl":
		work = WorkLock
	case "fsync", "fdatasync":
		work = WorkSync
	case "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg":
		if c.isNetlink() {
			work = WorkNetlink
		}
	}
	if work == "" || m.count && work != WorkNetlink {
		return resume(unix.PtraceCont, tid, 0)
	}
	if m.count && !c.spec.receives {
		m.costs.NetlinkSent += requests(c)
		return resume(unix.PtraceCont, tid, 0)
	}
	m.account()
	m.calls[tid] = &timed{work: work, begin: m.now(), cpu: threadTime(pid, tid)}
	c.thread.call = c
	return resume(unix.PtraceSyscall, tid, 0)
}

// exit handles the exit of a call.
func (m *meter) exit(c *sysCall, result int64) error {
	pid, tid := c.thread.process.pid, c.thread.tid
	if m.count {
		m.costs.DumpBytes += c.dumped(result)
		return resume(unix.PtraceCont, tid, 0)
	}
	m.account()
	did := m.calls[tid]
	delete(m.calls, tid)
	// Below this it is what a stop costs.
	const asleepFrom = 100 * time.Microsecond
	if did != nil && did.work == WorkNetlink {
		asleep := m.now() - did.begin - (threadTime(pid, tid) - did.cpu)
		if asleep = min(asleep, m.costs.Times[WorkNetlink]); asleep > asleepFrom {
			m.costs.Times[WorkNetlink] -= asleep
			m.costs.Times[WorkAsleep] += asleep
		}
	}
	return resume(unix.PtraceCont, tid, 0)
}

// requests returns how many messages a netlink send has.
func requests(c *sysCall) (count int) {
	for _, m := range messages(c.gather(c.buffers(), maxMessage)) {
		if m.header.Type >= unix.NLMSG_MIN_TYPE {
			count++
		}
	}
	return count
}

// dumped returns the bytes of a dump that a netlink receive has taken.
func (c *sysCall) dumped(result int64) (bytes int64) {
	flags := c.args[3]
	if c.spec.data == dataMessage {
		flags = c.args[2]
	}
	if result <= 0 || flags&unix.MSG_PEEK != 0 {
		return 0
	}
	for _, m := range messages(c.gather(c.buffers(), int(min(result, maxMessage)))) {
		if m.header.Flags&unix.NLM_F_MULTI != 0 {
			bytes += int64(m.header.Len)
		}
	}
	return bytes
}

// processorTime returns the processor time of a process, by its clock (clock_getcpuclockid(3)).
func processorTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED of the kernel's posix-timers_types.h
	var at unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|sched), &at)
	return time.Duration(at.Nano()), err
}

// threadTime returns the processor time of a stopped thread; 0 if the kernel does not tell.
func threadTime(pid, tid int) (t time.Duration) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, tid))
	var nanoseconds int64
	_, _ = fmt.Sscan(string(data), &nanoseconds)
	return time.Duration(nanoseconds)
}

// peakMemory returns the largest resident memory of a process until now; 0 if the kernel does not tell.
func peakMemory(pid int) (bytes int64) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(data), "VmHWM:")
	_, _ = fmt.Sscan(after, &bytes)
	return bytes << 10
}
