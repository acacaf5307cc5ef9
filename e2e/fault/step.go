package fault

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// enter handles the entry of a call of the table.
func (t *tracer) enter(th *thread) error {
	regs, err := readRegisters(th.tid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registers: %w", err)
	}
	number, args := regs.call()
	c := &sysCall{tracer: t, thread: th, spec: t.table[number], args: args}
	if t.meter != nil {
		if t.meter.count {
			c.spec = clocked()[number]
		}
		return t.meter.enter(c, number)
	}
	if t.questions != nil {
		return t.listen(c)
	}
	if t.log != nil {
		return t.log.enters(c)
	}
	if c.spec.receives {
		if heard, err := t.hears(c, regs); heard || err != nil {
			return err
		}
	}
	switch {
	case !t.torn[c.fileKey()]:
	case c.spec.name == "close":
		delete(t.torn, c.fileKey())
	case slices.Contains([]string{"read", "pread64", "readv"}, c.spec.name):
		th.call = c
		return t.shorten(c, regs, 0)
	}
	if th.again != nil && th.again.Call == c.spec.name {
		c.point = th.again
	} else if !t.count(c) {
		return resume(unix.PtraceCont, th.tid, 0)
	}
	if t.player != nil {
		t.takeTurn(c)
	}
	th.again = nil
	th.call = c
	if t.injection != nil && t.repeats(c) {
		t.interrupt(c)
	}
	if !t.due(c.point) {
		return resume(unix.PtraceSyscall, th.tid, 0)
	}
	return t.inject(c, regs)
}

// takeTurn waits until the run may make the call of a point.
func (t *tracer) takeTurn(c *sysCall) {
	if c.thread.again == nil {
		c.point.Touches = c.touches()
		t.player.pass(c.point, c.thread.process.pid)
	}
	if c.takesLock() {
		t.player.enters(c.thread.tid)
	}
}

// count makes a point of a call, and reports whether it is one.
func (t *tracer) count(c *sysCall) bool {
	if c.spec.describe == nil {
		return false
	}
	point, ok := c.spec.describe(c)
	if !ok {
		return false
	}
	point.Number = len(t.points) + 1
	point.Program, point.Call = c.thread.process.program, c.spec.name
	t.points = append(t.points, &point)
	c.point = &point
	return true
}

// inject injects the fault at the entry of its call.
func (t *tracer) inject(c *sysCall, regs registers) error {
	again := t.hit == c.point
	c.hit = true
	t.hit = c.point
	t.trace.Diverged = !c.point.Like(t.injection.Point)
	switch {
	case t.injection.When == Held && !again:
		t.hold(c)
		return nil
	case t.injection.When == Held:
	case t.injection.When == Before:
		t.kill()
		return nil
	case t.injection.When == Fail && c.isNetlink():
		if err := t.spoil(c); err != nil {
			return err
		}
	case t.injection.When == Fail:
		c.thread.call = nil
		c.point.Error = errnoName(t.injection.Errno)
		t.trace.Told = true
		if err := regs.refuse(c.thread.tid, t.injection.Errno); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("registers: %w", err)
		}
		return resume(unix.PtraceCont, c.thread.tid, 0)
	case slices.Contains(c.point.Looks(), t.injection.When):
		return t.look(c, regs)
	}
	return resume(unix.PtraceSyscall, c.thread.tid, 0)
}

// exit handles the exit of a call.
func (t *tracer) exit(th *thread) error {
	c := th.call
	th.call = nil
	regs, err := readRegisters(th.tid)
	if errors.Is(err, unix.ESRCH) || c == nil {
		return resume(unix.PtraceCont, th.tid, 0)
	}
	if err != nil {
		return fmt.Errorf("registers: %w", err)
	}
	result := regs.result()
	if t.meter != nil {
		return t.meter.exit(c, result)
	}
	for _, e := range c.edits {
		if _, err := unix.PtracePokeData(th.tid, e.address, e.was); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("write into %s: %w", th.process.program, err)
		}
	}
	if t.questions != nil {
		switch {
		case c.spec.receives:
			t.heard(c, result)
		case result < 0 && !interrupted(result):
			t.refused(c, unix.Errno(-result))
		}
		return resume(unix.PtraceCont, th.tid, 0)
	}
	if t.log != nil {
		t.log.leaves(c, result)
		return resume(unix.PtraceCont, th.tid, 0)
	}
	if c.shortened {
		regs.limit(c.args[2])
		if err := regs.write(th.tid); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("registers: %w", err)
		}
	}
	switch {
	case c.spec.receives && c.point == nil:
		if err := t.forge(c, regs, result); err != nil {
			return err
		}
	case interrupted(result):
		th.again = c.point
	case result < 0:
		errno := unix.Errno(-result)
		c.point.Error = errnoName(errno)
		// The kernel may still make the connection.
		c.point.Kill = c.point.Kill && errno == unix.EINPROGRESS
	}
	if t.player != nil && !interrupted(result) {
		t.player.leaves(th.tid, c.point)
	}
	return t.done(c, interrupted(result))
}

// executed handles the exit of a successful exec.
func (t *tracer) executed(th *thread) error {
	t.meter.executes(th.process.pid)
	c := th.call
	if c == nil {
		// Another thread of the process made the call, and took over the ID of this one (ptrace(2), execve(2) under
		// ptrace).
		for tid, other := range t.threads {
			if other.process == th.process && other.call != nil && other.call.program != "" {
				c = other.call
				delete(t.threads, tid)
			}
		}
	}
	th.call, th.greeted = nil, true
	if c == nil {
		return resume(unix.PtraceCont, th.tid, 0)
	}
	th.process.program = c.program
	c.thread = th
	return t.done(c, false)
}

// done lets a thread continue after a call, or kills all processes after it.
func (t *tracer) done(c *sysCall, again bool) error {
	if c.hit && t.injection != nil && t.injection.When == After && !again {
		t.kill()
		return nil
	}
	return resume(unix.PtraceCont, c.thread.tid, 0)
}

// interrupted reports whether an answer is one that programs do not see: the kernel restarts the call
// (include/linux/errno.h: ERESTARTSYS to ERESTART_RESTARTBLOCK).
func interrupted(result int64) bool {
	return result == -512 || result == -513 || result == -514 || result == -516
}

func errnoName(errno unix.Errno) string {
	if errno == unix.EOPNOTSUPP {
		return "EOPNOTSUPP" // ENOTSUP is the same number, and the kernel does not use that name
	}
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(errno))
}
