package fault

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets of the fields of struct seccomp_data (include/uapi/linux/seccomp.h); for an argument that of its low half on
// a little-endian machine.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// condition selects calls by an argument. The zero condition selects all.
type condition struct {
	arg int
	// any contains bits of which one must be set, least is the smallest value that counts, values are those that count.
	// The first of them that is not zero is used.
	any    uint32
	least  uint32
	values []uint32
}

// flagsIn returns the condition that one of the flags is set.
func flagsIn(arg int, flags uint32) condition { return condition{arg: arg, any: flags} }

// filter returns a program that stops a thread at the calls of the table and lets all others pass. With a nil table it
// stops at every call.
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

// block returns the instructions for one call.
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
