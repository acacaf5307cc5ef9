// Package fault runs a CNI plugin under a tracer, which can kill it or make a call fail at any call by which the
// plugin, or a program that it starts, changes something. Such a call is called a point. Observe lists the points of an
// undisturbed run, Inject kills or fails at one of them. Record logs what programs do with files, for package disk.
//
// The package does not judge: the caller knows what must hold after a kill, and which errors a plugin may meet. It sees
// calls of its table (table.go) by programs of the machine's own architecture. It does not see io_uring, bpf(2), memory
// that is mapped from a file, or the work of a daemon for a plugin (only the request is a point). Programs that read
// netlink by recvmmsg(2) are not told of injected errors (Trace.Told).
//
// # Points
//
// Points are netlink messages that change something (one send is one point, however many messages it contains), ioctls
// on links, tables of iptables-legacy (setsockopt), changes of files and directories, of /proc/sys and /sys, mounts,
// the start of a program, signals, packets, and communication with daemons: connections to Unix sockets and by TCP, and
// data sent there. No points are reads and locks (but of ObserveReads and Interleave), pipes, entering or making
// namespaces, /dev, a process's own /proc, and
// sending datagrams (they are DNS requests). Opening a file with O_CREAT is a point even if the file exists, so that
// the number of points does not depend on that. fsync changes nothing that another process can see: it can only fail.
// Writing the answer is a point only for kills: the work is done and nobody knows of it yet. Writing a delegate's
// answer is not a point, since nothing lies between it and the previous point.
//
// # How
//
// The tracer uses ptrace(2) with a seccomp filter that stops only at the calls of the table (SECCOMP_RET_TRACE).
// Seccomp's own notifications do not suffice: they do not show the exit of a call, so that neither a kill after it nor
// a changed answer is possible, and they do not show a process that is killed in between. The plugin itself installs
// the filter; its first instructions are borrowed for that. So no helper program is needed, and the plugin's
// environment, input and process are its own.
//
// An ordinary call that must fail is not made. A netlink message that must fail reaches the kernel with a type that has
// no handler, so that nothing is done, and the error arrives in the right order with the right sequence number. When
// the program reads the answer, the tracer corrects its error and type. In a batch of nf_tables the first message
// fails, and thereby the whole batch. A dump that must look interrupted is made as ever; when the program receives it,
// the tracer sets NLM_F_DUMP_INTR and removes objects. Of a read only the length is changed, before it is made.
//
// Each run occupies one thread of this process. It waits only for its own tracees (__WCLONE and __WNOTHREAD: of
// ordinary children only those that this thread traces), so that package os and code that reaps orphans can run in the
// same process. The tracees end with this process.
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

// Command is one execution of a plugin, as by cni.Exec.
type Command struct {
	Path string `json:"path"`
	// Args are the arguments after the program's name; plugins have none.
	Args []string `json:"args,omitempty"`
	// Env is the complete environment; nil means an empty one.
	Env   []string `json:"env"`
	Stdin []byte   `json:"stdin"`
	// Timeout limits the run, after which the plugin is killed; 0 means cni.DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Point is a call that changes something.
type Point struct {
	// Number counts from 1, in the order in which the calls were entered.
	Number int `json:"number"`
	// Program is the base name of the binary that made the call: the plugin, a delegate, or a program that they
	// started.
	Program string `json:"program"`
	// Call is the name of the system call.
	Call string `json:"call"`
	// What describes the call for people: "RTM_NEWLINK macvlan eth0 link eno1", "rename /run/x.tmp → /run/x".
	What string `json:"what"`
	// Error is the error of the call itself, such as "EEXIST"; empty if it succeeded. For a netlink message it concerns
	// only the sending.
	Error string `json:"error,omitempty"`
	// Kill and Fail say which faults make sense at the point. Inject refuses others. A call that failed by itself
	// changed nothing, so that a kill there equals a kill at the point before.
	Kill bool `json:"kill"`
	Fail bool `json:"fail"`
	// Look is set if the call changes nothing; only ObserveReads and Interleave have such points.
	Look Look `json:"look,omitempty"`
	// Touches are the objects that the call depends on or changes; only Interleave fills it.
	Touches []Touch `json:"touches,omitempty"`
}

// String returns the point on one line.
func (p Point) String() string {
	text := fmt.Sprintf("%d %s %s: %s", p.Number, p.Program, p.Call, p.What)
	if p.Error != "" {
		text += " (" + p.Error + ")"
	}
	return text
}

// Like reports whether points of two runs are the same step: the same call of the same program on the same object.
// Words with a digit and long hexadecimal words count as equal, since addresses, container IDs and names of temporary
// files and links change from run to run.
func (p Point) Like(q Point) bool {
	return p.Program == q.Program && p.Call == q.Call && blur(p.What) == blur(q.What)
}

// changing matches words that change from run to run.
var changing = regexp.MustCompile(`[^\s/]*([0-9]|[0-9a-f]{8})[^\s/]*`)

func blur(what string) string { return changing.ReplaceAllString(what, "#") }

// When says what happens at a point.
type When string

// Before and After kill the plugin and all programs that it started at once by SIGKILL, as the end of its cgroup does:
// Before kills before the call is made, After when it was made and before the program continues. (A runtime that kills
// only the plugin lets a delegate run to its end; that is not tested.) Fail prevents the call and makes it return an
// error.
const (
	Before When = "before"
	After  When = "after"
	Fail   When = "fail"
)

// Injection is one fault.
type Injection struct {
	// Point is the point, as Observe returned it. Its number selects the call; the other fields show whether the run
	// made the same calls.
	Point Point `json:"point"`
	When  When  `json:"when"`
	// Errno is the error of Fail and Deaf.
	Errno syscall.Errno `json:"errno,omitempty"`
	// Times is how often Interrupted happens to the dump, while the program repeats it; 0 means once, a negative number
	// always.
	Times int `json:"times,omitempty"`
	// Nth selects the call in place of the point's number in a program that is watched: it is the one that is like the
	// point after as many others. 0 means the number.
	Nth int `json:"nth,omitempty"`
}

// String returns the fault in words.
func (i Injection) String() string {
	switch i.When {
	case Fail:
		return fmt.Sprintf("%s answered with %s", i.Point, errnoName(i.Errno))
	case Held:
		return fmt.Sprintf("stopped before %s", i.Point)
	case Before, After:
	default:
		return i.badDay()
	}
	return fmt.Sprintf("killed %s %s", i.When, i.Point)
}

// Code names the fault of a program that makes the same calls each time: the number of its point, and what happens, as
// 14:EMFILE or 14:interrupted-30.
func (i Injection) Code() string {
	what := string(i.When)
	switch {
	case i.When == Fail:
		what = errnoName(i.Errno)
	case i.When == Deaf:
		what += "-" + errnoName(i.Errno)
	case i.Times < 0:
		what += "-always"
	case i.Times > 1:
		what += fmt.Sprintf("-%d", i.Times)
	}
	return fmt.Sprintf("%d:%s", i.Point.Number, what)
}

// Trace is one run under the tracer.
type Trace struct {
	// Call is what cni.Exec would have returned. After a kill its failure names the point. Left contains the processes
	// that still held its output open.
	Call cni.Call `json:"call"`
	// Points are the points that were reached, including those after a failed one.
	Points []Point `json:"points"`
	// Refusals are the calls that the kernel refused, in their order; only Explain fills it.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Hit is the point at which the fault was injected; nil if there was none to inject, or if the plugin ended before
	// it.
	Hit *Point `json:"hit,omitempty"`
	// Diverged means that Hit is another step than Injection.Point: the plugin made different calls.
	Diverged bool `json:"diverged,omitempty"`
	// Told means that a program has read the injected error: at once for ordinary calls, and for netlink when it
	// received the answer.
	Told bool `json:"told,omitempty"`
	// Hung means that the plugin was killed because its time was over.
	Hung bool `json:"hung,omitempty"`
	// Left are the programs that still ran when the plugin had ended. They are killed, since the tracer cannot leave a
	// traced process running.
	Left []string `json:"left,omitempty"`
}

// Observe runs a plugin and lists its points. Mistakes of the plugin are in the trace; the error concerns the tracing.
// If tracing is forbidden, which Available would have told, the error says that the binary cannot be started. When ctx
// ends, all of the plugin's processes are killed. Calls may be made concurrently; each occupies a thread.
func Observe(ctx context.Context, command Command) (Trace, error) {
	return run(ctx, command, task{})
}

// Inject runs a plugin and kills it or fails a call at one point. It is no error if the plugin ends before the point:
// Trace.Hit is then nil. In all other respects it is like Observe.
func Inject(ctx context.Context, command Command, injection Injection) (Trace, error) {
	if err := injection.validate(); err != nil {
		return Trace{}, err
	}
	return run(ctx, command, task{injection: &injection, reads: injection.Point.Look != ""})
}

func (i Injection) validate() error {
	possible := i.Point.Kill
	switch {
	case i.Point.Look != "":
		return i.validateLook()
	case i.When == Fail:
		possible = i.Point.Fail
	}
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

// Available returns the reason why plugins cannot be traced here; nil if they can. It starts this process's own binary,
// but kills it before its first instruction.
func Available() error {
	return available()
}

// Summary returns the points as a list for people, one per line.
func Summary(points []Point) string {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}
