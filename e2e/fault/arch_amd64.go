package fault

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// trap is the instruction that makes a system call.
var trap = [...]byte{0x0f, 0x05}

// registers are the registers of a stopped thread.
type registers struct{ unix.PtraceRegs }

func readRegisters(tid int) (r registers, err error) {
	err = unix.PtraceGetRegs(tid, &r.PtraceRegs)
	return r, err
}

func (r *registers) write(tid int) error {
	return unix.PtraceSetRegs(tid, &r.PtraceRegs)
}

// call returns the system call that is being entered.
func (r *registers) call() (number int, args [6]uint64) {
	return int(r.Orig_rax), [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
}

// result returns the return value of a call; errors are negative.
func (r *registers) result() int64 { return int64(r.Rax) }

// answer changes the return value of a call, limit the length of a read that is being entered: its third argument.
func (r *registers) answer(value int64) { r.Rax = uint64(value) }
func (r *registers) limit(value uint64) { r.Rdx = value }

func (r *registers) pc() uintptr { return uintptr(r.Rip) }
func (r *registers) sp() uintptr { return uintptr(r.Rsp) }

// request prepares a call that the instruction at the program counter makes.
func (r *registers) request(number int, args [3]uint64) {
	r.Rax, r.Rdi, r.Rsi, r.Rdx = uint64(number), args[0], args[1], args[2]
}

// refuse prevents the call that is being entered and sets its answer to an error: a call without a number is skipped,
// and the register of the answer keeps its value (arch/x86/entry/common.c, kernel/seccomp.c: __seccomp_filter).
func (r *registers) refuse(tid int, errno unix.Errno) error {
	r.Orig_rax = ^uint64(0)
	r.Rax = -uint64(errno)
	return r.write(tid)
}

// oldCalls returns the system calls that newer architectures do not have.
func oldCalls() map[int]callSpec {
	return map[int]callSpec{
		unix.SYS_OPEN:    {name: "open", describe: opens(none, 0, 1), where: flagsIn(1, openFlags)},
		unix.SYS_CREAT:   {name: "creat", describe: onPath("create", none, 0)},
		unix.SYS_RENAME:  {name: "rename", describe: onPaths("rename", none, 0, none, 1)},
		unix.SYS_UNLINK:  {name: "unlink", describe: onPath("unlink", none, 0)},
		unix.SYS_RMDIR:   {name: "rmdir", describe: onPath("rmdir", none, 0)},
		unix.SYS_MKDIR:   {name: "mkdir", describe: onPath("mkdir", none, 0)},
		unix.SYS_LINK:    {name: "link", describe: onPaths("link", none, 0, none, 1)},
		unix.SYS_SYMLINK: {name: "symlink", describe: symlinks(0, none, 1)},
		unix.SYS_MKNOD:   {name: "mknod", describe: onPath("mknod", none, 0)},
		unix.SYS_CHMOD:   {name: "chmod", describe: onPath("chmod", none, 0)},
		unix.SYS_CHOWN:   {name: "chown", describe: onPath("chown", none, 0)},
		unix.SYS_LCHOWN:  {name: "lchown", describe: onPath("chown", none, 0)},
	}
}
