package fault

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const auditArch = unix.AUDIT_ARCH_AARCH64

// trap is the instruction that makes a system call: svc #0.
var trap = [...]byte{0x01, 0x00, 0x00, 0xd4}

const (
	// generalRegisters is NT_PRSTATUS and systemCall NT_ARM_SYSTEM_CALL (include/uapi/linux/elf.h).
	generalRegisters = 1
	systemCall       = 0x404
)

// registers are the registers of a stopped thread.
type registers struct{ unix.PtraceRegsArm64 }

func readRegisters(tid int) (r registers, err error) {
	err = unix.PtraceGetRegSetArm64(tid, generalRegisters, &r.PtraceRegsArm64)
	return r, err
}

func (r *registers) write(tid int) error {
	return unix.PtraceSetRegSetArm64(tid, generalRegisters, &r.PtraceRegsArm64)
}

// call returns the system call that is being entered.
func (r *registers) call() (number int, args [6]uint64) {
	return int(r.Regs[8]), [6]uint64(r.Regs[:6])
}

// result returns the return value of a call; errors are negative.
func (r *registers) result() int64 { return int64(r.Regs[0]) }

// answer changes the return value of a call, limit the length of a read that is being entered: its third argument.
func (r *registers) answer(value int64) { r.Regs[0] = uint64(value) }
func (r *registers) limit(value uint64) { r.Regs[2] = value }

func (r *registers) pc() uintptr { return uintptr(r.Pc) }
func (r *registers) sp() uintptr { return uintptr(r.Sp) }

// request prepares a call that the instruction at the program counter makes.
func (r *registers) request(number int, args [3]uint64) {
	r.Regs[8] = uint64(number)
	copy(r.Regs[:3], args[:])
}

// refuse prevents the call that is being entered and sets its answer to an error: a call without a number is skipped,
// and the register of the answer keeps its value (arch/arm64/kernel/syscall.c: el0_svc_common).
func (r *registers) refuse(tid int, errno unix.Errno) error {
	number := int32(-1)
	vector := unix.Iovec{Base: (*byte)(unsafe.Pointer(&number)), Len: uint64(unsafe.Sizeof(number))}
	if _, _, err := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), systemCall,
		uintptr(unsafe.Pointer(&vector)), 0, 0); err != 0 {
		return err
	}
	r.Regs[0] = -uint64(errno)
	return r.write(tid)
}

// oldCalls returns the system calls that newer architectures do not have.
func oldCalls() map[int]callSpec { return nil }
