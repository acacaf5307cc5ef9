// Package fault runs one CNI plugin under a tracer, to be killed or failed at any call by which it, or a program that
// it starts, changes the world. Such a call is a point. Observe lists the points of an undisturbed run, Inject kills or
// fails at one of them.
//
// It is no judge: what must hold after a kill, and which errors a plugin may meet, is for the caller. It sees what goes
// through the calls of its table (table.go) by a program of the machine's own architecture, and not io_uring, bpf(2),
// memory that is mapped from a file, nor what a daemon does on a plugin's behalf (that it was asked is a point).
// Programs that read netlink by recvmmsg(2) are not told of injected errors (Trace.Told).
//
// # Points
//
// Netlink messages that change something (one send is one point, however many messages it carries), ioctls on links,
// tables of iptables-legacy (setsockopt), files and directories, /proc/sys and /sys, mounts, the start of a program,
// signals, packets, and words with daemons: connections to Unix sockets and to TCP, and what is sent there. No points:
// reads, pipes, locks, namespaces entered or made, /dev, a process's own /proc, and the sending of datagrams (they ask
// for names). A file opened with O_CREAT counts although it may exist, so that the number of points does not depend on
// that. fsync changes nothing that another process can see: a point to fail only. The writing of the answer is a point
// to be killed at only: the work is done and nobody has heard of it. A write of a delegate's answer is none, since
// nothing lies between it and the point before.
//
// # How
//
// ptrace(2) with a seccomp filter that stops only at the calls of the table (SECCOMP_RET_TRACE). Seccomp's own
// notifications would not do: they know no exit of a call, so neither a kill after it nor an answer that is changed on
// its way, and they cannot see a process killed in between. The filter is installed by the plugin itself, whose first
// instructions are borrowed for it: no helper program stands between, and the environment, the input and the process
// are the plugin's own.
//
// An ordinary call that is to fail is not made. A netlink message that is to fail reaches the kernel with a type that
// none of its handlers knows, so that nothing is done and the answer is an error in the right order, with the right
// sequence number; when the program reads that answer, its error and its type are put right. Of a batch of nf_tables
// the first message fails, and with it the batch.
//
// Each run holds one thread of this process. It waits for its own tracees alone (__WCLONE and __WNOTHREAD: of ordinary
// children those that are traced by this thread), so that package os and whoever reaps orphans live beside it. The
// tracees end with this process.
//
// Run its tests: sudo go test ./e2e/fault
package fault

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
)

// Command is one execution of a plugin, as cni.Exec makes it.
type Command struct {
	Path string `json:"path"`
	// Env is the whole environment; nil means none.
	Env   []string `json:"env"`
	Stdin []byte   `json:"stdin"`
	// Timeout is how long it may take before it is killed; 0 means cni.DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Point is one call that changes the world.
type Point struct {
	// Number counts from 1, in the order in which the calls were entered.
	Number int `json:"number"`
	// Program is the base name of the binary that made the call: the plugin, a delegate, or what they started.
	Program string `json:"program"`
	// Call is the name of the system call.
	Call string `json:"call"`
	// What is the call for people: "RTM_NEWLINK macvlan eth0 link eno1", "rename /run/x.tmp → /run/x".
	What string `json:"what"`
	// Error is the answer of the call itself, as "EEXIST"; empty if it succeeded. Of a netlink message it is only about
	// the sending.
	Error string `json:"error,omitempty"`
	// Kill and Fail say for which faults the point is of use. Inject refuses others. A call that failed by itself
	// changed nothing: to be killed there is to be killed at its neighbour.
	Kill bool `json:"kill"`
	Fail bool `json:"fail"`
}

// String returns the point on one line.
func (p Point) String() string {
	text := fmt.Sprintf("%d %s %s: %s", p.Number, p.Program, p.Call, p.What)
	if p.Error != "" {
		text += " (" + p.Error + ")"
	}
	return text
}

// Like reports whether two points of two runs are the same step: the same call of the same program on the same thing.
// Words with a digit and long hexadecimal ones count as equal, since addresses, container ids and names of temporary
// files and links change from run to run.
func (p Point) Like(q Point) bool {
	return p.Program == q.Program && p.Call == q.Call && blur(p.What) == blur(q.What)
}

func blur(what string) string {
	return regexp.MustCompile(`[^\s/]*([0-9]|[0-9a-f]{8})[^\s/]*`).ReplaceAllString(what, "#")
}

// When says what happens at a point.
type When string

// Before and After kill the plugin and all that it started at once, by SIGKILL, as the end of its cgroup does: Before
// the call is made, or After it was made and before the program goes on. (A runtime that kills the plugin alone lets a
// delegate run to its end; that is not tried.) Fail makes the call not happen and its answer be an error.
const (
	Before When = "before"
	After  When = "after"
	Fail   When = "fail"
)

// Injection is one fault.
type Injection struct {
	// Point is the point, as Observe saw it. Its number counts; the rest shows whether the run made the same calls.
	Point Point `json:"point"`
	When  When  `json:"when"`
	// Errno is the error of Fail.
	Errno syscall.Errno `json:"errno,omitempty"`
}

// String returns the fault in words.
func (i Injection) String() string {
	if i.When == Fail {
		return fmt.Sprintf("%s answered with %s", i.Point, errnoName(i.Errno))
	}
	return fmt.Sprintf("killed %s %s", i.When, i.Point)
}

// Trace is one run under the tracer.
type Trace struct {
	// Call is what cni.Exec would have returned. After a kill its failure names the point. Left has the processes that
	// still held its output open.
	Call cni.Call `json:"call"`
	// Points are the points that were reached, including those after a failed one.
	Points []Point `json:"points"`
	// Refusals are the calls that the kernel refused, in their order; Explain alone lists them.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Hit is the point at which the fault was injected; nil when there was none to inject, or the plugin ended before
	// it.
	Hit *Point `json:"hit,omitempty"`
	// Diverged says that Hit is not the step that was meant: the plugin took another way.
	Diverged bool `json:"diverged,omitempty"`
	// Told says that a program has read the injected error: at once for ordinary calls, for netlink when the answer was
	// received.
	Told bool `json:"told,omitempty"`
	// Hung says that the plugin was killed because its time was over.
	Hung bool `json:"hung,omitempty"`
	// Left are the programs that still ran when the plugin had ended. They are killed: a traced process cannot be left
	// alone.
	Left []string `json:"left,omitempty"`
}

// Observe runs a plugin and lists its points. What the plugin does wrong stands in the trace; the error is about the
// tracing, as far as Available would not have told: where tracing is forbidden, a binary cannot be started. When ctx
// ends, all of the plugin's processes are killed. Calls may be made concurrently; each holds a thread.
func Observe(ctx context.Context, command Command) (Trace, error) {
	return run(ctx, command, task{})
}

// Inject runs a plugin and kills or fails it at one point. A plugin that ends before the point is no error: Trace.Hit
// is nil then. Otherwise it is as Observe.
func Inject(ctx context.Context, command Command, injection Injection) (Trace, error) {
	if err := injection.validate(); err != nil {
		return Trace{}, err
	}
	return run(ctx, command, task{injection: &injection})
}

func (i Injection) validate() error {
	possible := i.Point.Kill
	switch i.When {
	case Before, After:
		if i.Errno != 0 {
			return fmt.Errorf("fault: %s takes no errno, got %s", i.When, errnoName(i.Errno))
		}
	case Fail:
		// The kernel's errors end at MAX_ERRNO (include/linux/err.h).
		if i.Errno == 0 || i.Errno > 4095 {
			return fmt.Errorf("fault: want an errno from 1 to 4095, got %d", int(i.Errno))
		}
		possible = i.Point.Fail
	default:
		return fmt.Errorf("fault: want %q, %q or %q, got %q", Before, After, Fail, i.When)
	}
	if i.Point.Number < 1 {
		return fmt.Errorf("fault: want a point from 1 on, got %d", i.Point.Number)
	}
	if !possible {
		return fmt.Errorf("fault: point %s is none for %q", i.Point, i.When)
	}
	return nil
}

// Available reports why plugins cannot be traced here; nil when they can. It starts this process's own binary, which
// does not come to run an instruction of its own.
func Available() error {
	return available()
}

// Summary returns the points as a list for people, one a line.
func Summary(points []Point) string {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}
