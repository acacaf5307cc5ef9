package fault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysCall is one system call of the table from its entry to its exit.
type sysCall struct {
	tracer  *tracer
	thread  *thread
	spec    callSpec
	args    [6]uint64
	point   *Point
	program string // the program that an exec starts
	// hit is set if the fault is injected here. edits are restored at the call's exit.
	hit   bool
	edits []edit
	// paths are the files that a logged call concerns, existed says whether the first was there before it.
	paths   []string
	existed bool
	// shortened means that the length of a read was changed.
	shortened bool
}

// edit is the original content of an address of the program's memory.
type edit struct {
	address uintptr
	was     []byte
}

// span is a piece of a program's memory.
type span struct {
	address uintptr
	length  int
}

// maxMessage limits how much of one message is read; no plugin sends netlink messages of that size.
const maxMessage = 1 << 20

func (c *sysCall) proc(format string, args ...any) string {
	return fmt.Sprintf("/proc/%d/", c.thread.tid) + fmt.Sprintf(format, args...)
}

// link returns the target of an open file's link in /proc: a path, or "socket:[N]", "pipe:[N]".
func (c *sysCall) link(fd uint64) string {
	link, _ := os.Readlink(c.proc("fd/%d", int32(fd)))
	return link
}

// path returns the absolute form of a path among the arguments. dir is the number of the argument with the directory's
// file, or none.
func (c *sysCall) path(dir, arg int) string {
	path := c.text(uintptr(c.args[arg]))
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	base := ""
	if dir == none || int32(c.args[dir]) == unix.AT_FDCWD {
		base, _ = os.Readlink(c.proc("cwd"))
	} else {
		base = c.link(c.args[dir])
	}
	return filepath.Join(base, path)
}

// memory reads as much of a span as exists.
func (c *sysCall) memory(s span) []byte {
	data := make([]byte, s.length)
	read := 0
	page := os.Getpagesize()
	for read < len(data) {
		// Read only to the end of a page: the next page may not exist, and a vector is read as a whole or not at all
		// (process_vm_readv(2)).
		at := s.address + uintptr(read)
		length := min(len(data)-read, page-int(at)%page)
		n, err := unix.ProcessVMReadv(c.thread.tid, []unix.Iovec{{Base: &data[read], Len: uint64(length)}},
			[]unix.RemoteIovec{{Base: at, Len: length}}, 0)
		if err != nil || n <= 0 {
			break
		}
		read += n
	}
	return data[:read]
}

// text returns a string that ends with a zero.
func (c *sysCall) text(address uintptr) string {
	var text []byte
	for len(text) < unix.PathMax {
		part := c.memory(span{address + uintptr(len(text)), 64})
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(text, part[:end]...))
		}
		if len(part) == 0 {
			break
		}
		text = append(text, part...)
	}
	return string(text)
}

// texts returns the strings of an array of pointers.
func (c *sysCall) texts(address uint64) (texts []string) {
	for len(texts) < 1024 {
		pointer := c.word(address + uint64(8*len(texts)))
		if pointer == 0 {
			break
		}
		texts = append(texts, c.text(uintptr(pointer)))
	}
	return texts
}

// word returns a pointer or a number of 64 bits; 0 if it cannot be read.
func (c *sysCall) word(address uint64) uint64 {
	data := c.memory(span{uintptr(address), 8})
	if len(data) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(data)
}

// vector returns the spans of an array of struct iovec.
func (c *sysCall) vector(address, count uint64) (spans []span) {
	for i := range min(count, 1024) { // UIO_MAXIOV
		spans = append(spans, span{uintptr(c.word(address + 16*i)), int(min(c.word(address+16*i+8), maxMessage))})
	}
	return spans
}

// buffers returns the memory that contains the call's data.
func (c *sysCall) buffers() []span {
	switch c.spec.data {
	case dataFlat:
		return []span{{uintptr(c.args[1]), int(min(c.args[2], maxMessage))}}
	case dataVector:
		return c.vector(c.args[1], c.args[2])
	case dataMessage:
		// struct user_msghdr: the vector and its length come after the address and its length.
		return c.vector(c.word(c.args[1]+16), c.word(c.args[1]+24))
	case dataMany:
		var spans []span
		for i := range min(c.args[2], 1024) {
			header := c.args[1] + 64*i // struct msghdr and the number of bytes sent, aligned
			spans = append(spans, c.vector(c.word(header+16), c.word(header+24))...)
		}
		return spans
	}
	return nil
}

// gather reads the first bytes of the spans.
func (c *sysCall) gather(spans []span, length int) (data []byte) {
	for _, s := range spans {
		s.length = min(s.length, length-len(data), maxMessage-len(data))
		if s.length <= 0 {
			break
		}
		data = append(data, c.memory(s)...)
	}
	return data
}

// scatter overwrites the bytes at an offset of the spans, and returns the previous ones.
func (c *sysCall) scatter(spans []span, offset int, data []byte) (edits []edit, err error) {
	for _, s := range spans {
		if len(data) == 0 {
			break
		}
		if offset >= s.length {
			offset -= s.length
			continue
		}
		address, length := s.address+uintptr(offset), min(len(data), s.length-offset)
		was := c.memory(span{address, length})
		// process_vm_writev would not do: this also writes to memory that the program itself may not write.
		if _, err := unix.PtracePokeData(c.thread.tid, address, data[:length]); err != nil {
			return edits, fmt.Errorf("write into %s: %w", c.thread.process.program, err)
		}
		edits = append(edits, edit{address, was})
		data, offset = data[length:], 0
	}
	return edits, nil
}

// words joins the parts that are not empty.
func words(parts ...string) string {
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}
