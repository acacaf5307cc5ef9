package probe

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

const (
	// stampWait limits the wait for timestamps. A kernel takes some milliseconds, and more than 100 on a busy machine.
	stampWait = 10 * time.Second
	// stampDelay is the time between the arrival of a packet and its reading from the socket.
	stampDelay = time.Millisecond
)

// awaitTimestamps waits until the kernel stamps packets when they arrive. It begins to do so some time after the first
// socket of the machine requested it (net_enable_timestamp of net/core/dev.c leaves that to a work queue). Until then a
// packet gets the time at which it is read from the socket (__sock_recv_timestamp of net/socket.c), so that packets of
// several namespaces cannot be ordered. If lo is down this cannot be tested, and it returns at once.
func (n namespace) awaitTimestamps() {
	var conn *socket.Conn
	err := n.do(func() (err error) {
		conn, err = socket.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0, "timestamp", nil)
		return err
	})
	if err != nil {
		return
	}
	defer conn.Close()
	loopback := endpoint{addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if conn.Bind(loopback.sockaddr()) != nil || conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) != nil {
		return
	}
	own, err := conn.Getsockname()
	if err != nil {
		return
	}
	rc, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for deadline := time.Now().Add(stampWait); time.Now().Before(deadline); {
		early := false
		err := rc.Control(func(fd uintptr) { early, err = stampedEarly(int(fd), own) })
		if err != nil || early {
			return
		}
	}
}

// stampedEarly sends a packet to the socket itself, and reports whether its time is that of its arrival and not that of
// its reading.
func stampedEarly(fd int, own unix.Sockaddr) (bool, error) {
	if err := unix.Sendto(fd, []byte{0}, unix.MSG_DONTWAIT, own); err != nil {
		return true, err
	}
	time.Sleep(stampDelay)
	reading := time.Now()
	ancillary := make([]byte, 128)
	_, used, _, _, err := unix.Recvmsg(fd, make([]byte, 1), ancillary, unix.MSG_DONTWAIT)
	if err != nil {
		return true, err
	}
	return timestamp(ancillary[:used]).Before(reading), nil
}

// timestamp returns the time in the ancillary data, or now.
func timestamp(ancillary []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(ancillary)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds := binary.NativeEndian.Uint64(m.Data)
			nanoseconds := binary.NativeEndian.Uint64(m.Data[8:])
			return time.Unix(int64(seconds), int64(nanoseconds))
		}
	}
	return time.Now()
}
