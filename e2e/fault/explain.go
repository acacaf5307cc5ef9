package fault

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Refusal is a call of a program that the kernel answered with an error.
type Refusal struct {
	// Program is the base name of the binary that made the call.
	Program string `json:"program"`
	// What describes the call for people: "RTM_NEWLINK vlan eth0 link eno1", "open /proc/sys/net/…". For netlink it
	// describes the refused message.
	What  string        `json:"what"`
	Errno syscall.Errno `json:"errno"`
	// Words is the text that the kernel added to the error; empty if there was none.
	Words string `json:"words,omitempty"`
	// Features are features of which one may be missing in a kernel that returns this error; none if the error has
	// other causes only.
	Features []Feature `json:"features,omitempty"`
}

// String returns the refusal on one line: "RTM_NEWLINK vlan eth0 link eno1: EOPNOTSUPP (Unknown device type)".
func (r Refusal) String() string {
	text := fmt.Sprintf("%s: %s", r.What, errnoName(r.Errno))
	if r.Words != "" {
		text += " (" + r.Words + ")"
	}
	return text
}

// Explain runs a plugin and lists the calls of it and of programs that it starts which the kernel refused
// (Trace.Refusals), including calls that change nothing, such as the search for a link or a file. It lists no points.
// In all other respects it is like Observe.
func Explain(ctx context.Context, command Command) (Trace, error) {
	return run(ctx, command, task{explain: true})
}

// shown limits the number of refusals that EndedBy returns.
const shown = 3

// EndedBy returns the refusals that made a failed call fail, in their order: those whose error is part of the plugin's
// answer, or if there are none the last ones. In the first case it leaves out refusals that the program tolerates.
// named reports whether it is the first case.
func (t Trace) EndedBy() (refusals []Refusal, named bool) {
	answer := strings.ToLower(t.Call.Stdout + " " + t.Call.Stderr)
	refusals = slices.DeleteFunc(slices.Clone(t.Refusals), func(r Refusal) bool {
		words := r.Errno.Error()
		if r.Errno == unix.ENODEV && strings.Contains(answer, "link not found") {
			return false // the text of netlink itself
		}
		if program := r.program(); program != "" && noProgram(answer, program) {
			return false
		}
		if r.Errno == unix.ENOENT && strings.Contains(answer, "executable file not found") {
			return !strings.HasPrefix(r.What, "stat ") // package os/exec makes it for the last directory of PATH
		}
		return !strings.Contains(answer, words)
	})
	if named = len(refusals) > 0; !named {
		refusals = t.Refusals
	}
	return refusals[max(0, len(refusals)-shown):], named
}

// program returns the name of the program for which the call looked in a directory of programs; empty if it did not.
func (r Refusal) program() string {
	for _, f := range r.Features {
		if f.Kind == ProgramFeature {
			return f.Name
		}
	}
	return ""
}

// noProgram reports whether an answer, in lower case, says that there is no program of that name: with the words of
// package os/exec, of a shell, or of the kernel.
func noProgram(answer, program string) bool {
	if !strings.Contains(answer, strings.ToLower(program)) {
		return false
	}
	return slices.ContainsFunc(
		[]string{"executable file not found", "not found", unix.ENOENT.Error()},
		func(words string) bool { return strings.Contains(answer, words) },
	)
}

// askedFor identifies a netlink message that waits for its answer.
type askedFor struct {
	socket   string
	sequence uint32
}

// question is the content of such a message.
type question struct {
	what     string
	protocol int
	message  nlMessage
}

// explaining returns the table of Explain: the one of calls, with all calls that open files or make sockets.
func explaining() map[int]callSpec {
	table := calls(true)
	table[unix.SYS_OPENAT] = callSpec{name: "openat", describe: asks("open", 0, 1)}
	table[unix.SYS_OPENAT2] = callSpec{name: "openat2", describe: asks("open", 0, 1)}
	table[unix.SYS_NEWFSTATAT] = callSpec{name: "newfstatat", describe: asks("stat", 0, 1)}
	table[unix.SYS_SOCKET] = callSpec{name: "socket", describe: makesSocket}
	return table
}

// asks describes a call on a path that is expected to succeed, whatever it changes. Files in which a process reads
// about itself say nothing about the plugin.
func asks(verb string, dir, arg int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		path := c.path(dir, arg)
		if strings.HasPrefix(path, "/proc/") && !strings.HasPrefix(path, "/proc/sys/") ||
			strings.HasPrefix(path, "/sys/kernel/mm/") {
			return Point{}, false
		}
		return Point{What: words(verb, path)}, true
	}
}

func makesSocket(c *sysCall) (Point, bool) {
	return Point{What: fmt.Sprintf("socket of family %d, type %d, protocol %d", c.args[0], c.args[1]&0xff, c.args[2])},
		true
}

// listen lets a call proceed and records its answer.
func (t *tracer) listen(c *sysCall) error {
	how := unix.PtraceCont
	if c.spec.receives {
		if c.isNetlink() {
			c.thread.call, how = c, unix.PtraceSyscall
		}
		return resume(how, c.thread.tid, 0)
	}
	t.note(c)
	if point, ok := c.describes(); ok {
		point.Program, point.Call = c.thread.process.program, c.spec.name
		c.point = &point
		c.thread.call, how = c, unix.PtraceSyscall
	}
	return resume(how, c.thread.tid, 0)
}

func (c *sysCall) describes() (Point, bool) {
	if c.spec.describe == nil {
		return Point{}, false
	}
	return c.spec.describe(c)
}

// note records a netlink request until its answer arrives.
func (t *tracer) note(c *sysCall) {
	if c.spec.data == noData {
		return
	}
	s, ok := c.socket(c.args[0])
	if !ok {
		return
	}
	defer s.close()
	if s.domain != unix.AF_NETLINK {
		return
	}
	link := c.link(c.args[0])
	for _, m := range messages(c.gather(c.buffers(), maxMessage)) {
		if m.header.Type >= unix.NLMSG_MIN_TYPE && m.header.Flags&unix.NLM_F_REQUEST != 0 {
			t.questions[askedFor{link, m.header.Seq}] = question{m.describe(s.protocol, s.link), s.protocol, m}
		}
	}
}

// heard records the errors in what a program has just read.
func (t *tracer) heard(c *sysCall, result int64) {
	if result <= 0 {
		return
	}
	link := c.link(c.args[0])
	for _, m := range messages(c.gather(c.buffers(), int(min(result, maxMessage)))) {
		if m.header.Type != unix.NLMSG_ERROR && m.header.Type != unix.NLMSG_DONE || len(m.body) < 4 {
			continue
		}
		errno := -int32(binary.NativeEndian.Uint32(m.body))
		key := askedFor{link, m.header.Seq}
		asked, known := t.questions[key]
		if errno <= 0 || !known {
			continue
		}
		// Keep it if the program only peeks at the answer.
		delete(t.questions, key)
		r := Refusal{
			Program: c.thread.process.program,
			What:    asked.what,
			Errno:   syscall.Errno(errno),
			Words:   m.explanation(),
		}
		r.Features = asked.features(r.Errno)
		t.trace.Refusals = append(t.trace.Refusals, r)
	}
}

// explanation returns the kernel's text beside an error (NLMSGERR_ATTR_MSG of include/uapi/linux/netlink.h).
func (m nlMessage) explanation() string {
	const message = 1
	if m.header.Flags&unix.NLM_F_ACK_TLVS == 0 || m.header.Type != unix.NLMSG_ERROR ||
		len(m.body) < unix.SizeofNlMsgerr {
		return ""
	}
	at := unix.SizeofNlMsgerr
	if m.header.Flags&unix.NLM_F_CAPPED == 0 {
		// The complete request precedes it; its length is in the repeated header.
		at = 4 + int(binary.NativeEndian.Uint32(m.body[4:])+3)&^3
	}
	if at > len(m.body) {
		return ""
	}
	return textOf(attributesOf(m.body[at:])[message])
}

// refused records a call that the kernel itself refused.
func (t *tracer) refused(c *sysCall, errno syscall.Errno) {
	switch errno {
	case unix.EAGAIN, unix.EINPROGRESS, unix.EINTR:
		return
	}
	r := Refusal{Program: c.thread.process.program, What: c.point.What, Errno: errno}
	if feature := featureOfCall(c, errno); feature != nil {
		r.Features = []Feature{*feature}
	}
	t.trace.Refusals = append(t.trace.Refusals, r)
}

// programDirs are the directories in which a service manager lets its services look for programs (systemd.exec(5)).
var programDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// featureOfCall returns the feature that a kernel lacks if it refuses a call other than a netlink message.
func featureOfCall(c *sysCall, errno syscall.Errno) *Feature {
	switch {
	case c.spec.name == "socket" && (errno == unix.EPROTONOSUPPORT || errno == unix.EAFNOSUPPORT):
		return socketFeature(int(c.args[0]), int(c.args[2]))
	case strings.HasPrefix(c.spec.name, "openat") && errno == unix.ENOENT:
		path := c.path(0, 1)
		if name, ok := strings.CutPrefix(path, "/proc/sys/"); ok {
			return sysctlFeature(name)
		}
		if filepath.Clean(path) == "/dev/net/tun" {
			return &Feature{Kind: DeviceFeature, Name: path, Config: "CONFIG_TUN"}
		}
	case c.spec.name == "newfstatat" && errno == unix.ENOENT:
		// Who looks for a program asks for it in each directory of PATH.
		if path := c.path(0, 1); slices.Contains(programDirs, filepath.Dir(path)) {
			return &Feature{Kind: ProgramFeature, Name: filepath.Base(path)}
		}
	}
	return nil
}
