package fault

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets of the fields that are changed: the type and flags in struct nlmsghdr, the error in struct nlmsgerr, and the
// type and sequence number of the header that it repeats (include/uapi/linux/netlink.h).
const (
	headerType    = 4
	headerFlags   = 6
	errorNumber   = unix.SizeofNlMsghdr
	errorType     = errorNumber + 4 + headerType
	errorSequence = errorNumber + 4 + 8
)

// forgery is an answer that must be corrected when a program reads it.
type forgery struct {
	// socket is the link of the socket, "socket:[N]".
	socket   string
	sequence uint32
	// sent is the type that the kernel saw, meant the one that the program sent.
	sent, meant uint16
	errno       unix.Errno
}

// spoil gives the messages of a send types for which the kernel has no handler: it does nothing and answers with an
// error. In a batch the first message suffices, since the kernel applies nothing of a batch with an error
// (net/netfilter/nfnetlink.c: nfnetlink_rcv_batch).
func (t *tracer) spoil(c *sysCall) error {
	s, ok := c.socket(c.args[0])
	if !ok {
		return nil // another thread closed it: the send fails by itself
	}
	s.close()
	spans := c.buffers()
	for _, m := range messages(c.gather(spans, maxMessage)) {
		if !m.changes(s.protocol) && (c.point.Look == "" || m.header.Type < unix.NLMSG_MIN_TYPE) {
			continue
		}
		f := forgery{
			socket: c.link(c.args[0]), sequence: m.header.Seq, sent: unknownType(s.protocol, m.header.Type),
			meant: m.header.Type, errno: t.injection.Errno,
		}
		edits, err := c.scatter(spans, m.offset+headerType, binary.NativeEndian.AppendUint16(nil, f.sent))
		c.edits = append(c.edits, edits...)
		if err != nil {
			return err
		}
		t.forged = append(t.forged, f)
		if m.batched {
			break
		}
	}
	return nil
}

// unknownType returns a type higher than all that a protocol's handlers know. For netfilter it keeps the subsystem,
// since the kernel would load a module for an unknown one.
func unknownType(protocol int, meant uint16) uint16 {
	if protocol == unix.NETLINK_NETFILTER {
		return meant | 0xff
	}
	return 0xffff
}

// forge corrects the answers that a program has just read.
func (t *tracer) forge(c *sysCall, regs registers, result int64) error {
	if result > 0 && len(t.dumps) > 0 {
		return t.incomplete(c, regs, result)
	}
	if result <= 0 || len(t.forged) == 0 {
		return nil
	}
	spans, link := c.buffers(), c.link(c.args[0])
	for _, m := range messages(c.gather(spans, int(min(result, maxMessage)))) {
		if m.header.Type != unix.NLMSG_ERROR || len(m.body) < unix.SizeofNlMsgerr {
			continue
		}
		for _, f := range t.forged {
			if f.socket != link || f.sequence != m.uint32(errorSequence) || f.sent != uint16(m.uint32(errorType)) {
				continue
			}
			errno := -int32(f.errno)
			_, err := c.scatter(spans, m.offset+errorNumber, unsafe.Slice((*byte)(unsafe.Pointer(&errno)), 4))
			if err == nil {
				_, err = c.scatter(spans, m.offset+errorType, binary.NativeEndian.AppendUint16(nil, f.meant))
			}
			if err != nil {
				return err
			}
			t.trace.Told = true
		}
	}
	return nil
}
