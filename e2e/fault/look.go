package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Look is the kind of a call by which a program only looks at something.
type Look string

// These are the kinds of looks.
const (
	// LookRequest asks the kernel for one object, LookDump for all of a kind.
	LookRequest Look = "request"
	LookDump    Look = "dump"
	LookSocket  Look = "socket"
	LookOpen    Look = "open"
	LookStat    Look = "stat"
	LookList    Look = "list"
	LookRead    Look = "read"
	LookLock    Look = "lock"
	// LookTryLock does not wait for a lock.
	LookTryLock Look = "try lock"
)

// These happen to a look, besides Fail.
const (
	// Interrupted is a dump during which something changed: what the program receives has the flag NLM_F_DUMP_INTR, and
	// of each part that it receives only the first object, since the kernel promises nothing about such a dump.
	Interrupted When = "interrupted"
	// Deaf means that the first receive after a request fails with an error; the answer is still there for the next.
	// EINTR happens only to one that may sleep.
	Deaf When = "deaf"
	// Short is a read of fewer bytes than there are. The next read gets the others.
	Short When = "short"
	// Torn is a file of which the second half is missing, Empty one without any content, as long as it stays open.
	Torn  When = "torn"
	Empty When = "empty"
)

// shortRead is the number of bytes of a short read.
const shortRead = 7

// kills reports whether the plugin is killed.
func (w When) kills() bool { return w == Before || w == After }

// answers is what happens to what a program reads.
type answers struct {
	forged []forgery
	// dumps are the requests whose answers must look interrupted; times counts them.
	dumps []forgery
	times int
	// deaf has the error of the next receive of a socket, torn are the open files without more content, locked those
	// that are locked (sysCall.fileKey).
	deaf         map[string]unix.Errno
	torn, locked map[string]bool
}

// ObserveReads is like Observe. Its points are also calls that only look at something: netlink requests, files that are
// opened, read, listed or examined, locks and sockets. Those have a Look, and only at those may Inject inject
// something.
func ObserveReads(ctx context.Context, command Command) (Trace, error) {
	return run(ctx, command, task{reads: true})
}

// Looks returns what may happen to a look: the kernel, or a file system, may answer so.
func (p Point) Looks() []When {
	switch p.Look {
	case LookDump:
		return []When{Interrupted, Fail, Deaf}
	case LookRequest:
		return []When{Fail, Deaf}
	case LookRead:
		return []When{Fail, Short, Torn, Empty}
	case LookSocket, LookOpen, LookStat, LookList, LookLock, LookTryLock:
		return []When{Fail}
	}
	return nil
}

func (i Injection) validateLook() error {
	if !slices.Contains(i.Point.Looks(), i.When) || i.Point.Number < 1 {
		return fmt.Errorf("fault: point %s is none for %q", i.Point, i.When)
	}
	if wants := i.When == Fail || i.When == Deaf; wants != (i.Errno > 0 && i.Errno <= 4095) {
		return fmt.Errorf("fault: %s: got the errno %d", i.When, int(i.Errno))
	}
	return nil
}

// badDay returns a fault of a look in words.
func (i Injection) badDay() string {
	switch {
	case i.When == Deaf:
		return fmt.Sprintf("%s, and %s on receive", i.Point, errnoName(i.Errno))
	case i.When == Interrupted && i.Times < 0:
		return fmt.Sprintf("%s interrupted each time", i.Point)
	case i.When == Interrupted && i.Times > 1:
		return fmt.Sprintf("%s interrupted %d times", i.Point, i.Times)
	case i.When == Interrupted:
		return fmt.Sprintf("%s interrupted once", i.Point)
	}
	return fmt.Sprintf("%s, which is %s", i.Point, i.When)
}

// look injects the fault at the entry of a call that looks.
func (t *tracer) look(c *sysCall, regs registers) error {
	switch t.injection.When {
	case Interrupted:
		t.interrupt(c)
	case Deaf:
		t.deaf[c.link(c.args[0])] = t.injection.Errno
	case Short:
		return t.shorten(c, regs, shortRead)
	case Torn, Empty:
		t.torn[c.fileKey()] = true
		half := uint64(0)
		var stat unix.Stat_t
		if t.injection.When == Torn && unix.Stat(c.proc("fd/%d", int32(c.args[0])), &stat) == nil {
			half = uint64(stat.Size) / 2
		}
		return t.shorten(c, regs, half)
	}
	return resume(unix.PtraceSyscall, c.thread.tid, 0)
}

// shorten limits the length of a read.
func (t *tracer) shorten(c *sysCall, regs registers, most uint64) error {
	t.trace.Told = true
	if most < c.args[2] {
		regs.limit(most)
		c.shortened = true
		if err := regs.write(c.thread.tid); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("registers: %w", err)
		}
	}
	return resume(unix.PtraceSyscall, c.thread.tid, 0)
}

// interrupt notes the dumps of a request.
func (t *tracer) interrupt(c *sysCall) {
	s, ok := c.socket(c.args[0])
	if !ok {
		return
	}
	s.close()
	t.times++
	for _, m := range messages(c.gather(c.buffers(), maxMessage)) {
		if m.header.Type >= unix.NLMSG_MIN_TYPE && m.dumps() && !m.changes(s.protocol) {
			t.dumps = append(t.dumps, forgery{socket: c.link(c.args[0]), sequence: m.header.Seq})
		}
	}
}

// repeats reports whether a call is the dump of the fault, asked for again.
func (t *tracer) repeats(c *sysCall) bool {
	return t.hit != nil && t.injection.When == Interrupted && c.point.Like(*t.hit) &&
		(t.injection.Times < 0 || t.times < t.injection.Times)
}

// hears handles a call that may receive an answer of the kernel, and reports whether it does.
func (t *tracer) hears(c *sysCall, regs registers) (bool, error) {
	if !c.isNetlink() {
		return false, nil
	}
	link := c.link(c.args[0])
	if errno, ok := t.deaf[link]; ok && (errno != unix.EINTR || c.sleeps()) {
		delete(t.deaf, link)
		t.trace.Told = true
		if err := regs.refuse(c.thread.tid, errno); err != nil && !errors.Is(err, unix.ESRCH) {
			return true, fmt.Errorf("registers: %w", err)
		}
		return true, resume(unix.PtraceCont, c.thread.tid, 0)
	}
	c.thread.call = c
	return true, resume(unix.PtraceSyscall, c.thread.tid, 0)
}

// incomplete makes what a program has just received of a dump look interrupted.
func (t *tracer) incomplete(c *sysCall, regs registers, result int64) error {
	spans, link := c.buffers(), c.link(c.args[0])
	data := c.gather(spans, int(min(result, maxMessage)))
	if int64(len(data)) < result || c.peeks() {
		return nil
	}
	var kept []byte
	found, objects := false, 0
	for _, m := range messages(data) {
		size := (int(m.header.Len) + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		text := data[m.offset:min(m.offset+size, len(data))]
		if m.header.Flags&unix.NLM_F_MULTI != 0 && slices.ContainsFunc(t.dumps, func(f forgery) bool {
			return f.socket == link && f.sequence == m.header.Seq
		}) {
			found = true
			text[headerFlags] |= unix.NLM_F_DUMP_INTR
			if m.header.Type != unix.NLMSG_DONE {
				if objects++; objects > 1 {
					continue
				}
			}
		}
		kept = append(kept, text...)
	}
	if !found {
		return nil
	}
	t.trace.Told = true
	if _, err := c.scatter(spans, 0, kept); err != nil {
		return err
	}
	regs.answer(int64(len(kept)))
	if err := regs.write(c.thread.tid); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("registers: %w", err)
	}
	return nil
}

// sleeps reports whether a receive waits for an answer: no other can be interrupted by a signal.
func (c *sysCall) sleeps() bool {
	s, ok := c.socket(c.args[0])
	if !ok {
		return false
	}
	defer s.close()
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK == 0 && c.flags()&unix.MSG_DONTWAIT == 0
}

// peeks reports whether a receive leaves what it gets.
func (c *sysCall) peeks() bool { return c.flags()&unix.MSG_PEEK != 0 }

// flags returns the flags of a receive.
func (c *sysCall) flags() uint64 {
	switch c.spec.name {
	case "recvfrom":
		return c.args[3]
	case "recvmsg":
		return c.args[2]
	}
	return 0
}
