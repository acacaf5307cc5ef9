package fault

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where the fields of struct seccomp_data lie (include/uapi/linux/seccomp.h); of an argument the low half on a
// little-endian machine.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// condition is what an argument must be for a call to matter. The zero condition always holds.
type condition struct {
	arg int
	// any are bits of which one must be set, least the smallest value that counts, values those that count; the first
	// that is not zero is asked.
	any    uint32
	least  uint32
	values []uint32
}

// flagsIn asks for one of the flags.
func flagsIn(arg int, flags uint32) condition { return condition{arg: arg, any: flags} }

// filter returns the program that stops a thread at the calls of the table and lets all others pass; nil means at all
// calls.
func filter(table map[int]callSpec) ([]bpf.RawInstruction, error) {
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
		bpf.LoadAbsolute{Off: dataNumber, Size: 4},
	}
	if table == nil {
		return bpf.Assemble(append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_TRACE}))
	}
	var numbers []int
	for number := range table {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		block := table[number].where.block()
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipFalse: uint8(len(block))})
		program = append(program, block...)
	}
	return bpf.Assemble(append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}))
}

// block answers for one call.
func (c condition) block() []bpf.Instruction {
	stop, pass := bpf.RetConstant{Val: unix.SECCOMP_RET_TRACE}, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	load := bpf.LoadAbsolute{Off: uint32(dataArgs + 8*c.arg), Size: 4}
	switch {
	case c.any != 0:
		return []bpf.Instruction{load, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: c.any, SkipTrue: 1}, pass, stop}
	case c.least != 0:
		return []bpf.Instruction{load, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: c.least, SkipTrue: 1}, pass, stop}
	case len(c.values) > 0:
		block := []bpf.Instruction{load}
		for i, v := range c.values {
			block = append(block, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(c.values) - i)})
		}
		return append(block, pass, stop)
	}
	return []bpf.Instruction{stop}
}
