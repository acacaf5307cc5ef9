package fault

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// socket is a copy of a program's open socket. It can be queried whatever network namespace it was made in.
type socket struct {
	fd                     int
	domain, kind, protocol int
}

// socket makes the copy; false if the file is not a socket. The caller closes it.
func (c *sysCall) socket(fd uint64) (s socket, ok bool) {
	if !strings.HasPrefix(c.link(fd), "socket:") {
		return s, false
	}
	p := c.thread.process
	var err error
	if p.pidfd < 0 {
		if p.pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil {
			p.pidfd = -1
			return s, false
		}
	}
	if s.fd, err = unix.PidfdGetfd(p.pidfd, int(int32(fd)), 0); err != nil {
		return s, false
	}
	for option, value := range map[int]*int{
		unix.SO_DOMAIN: &s.domain, unix.SO_TYPE: &s.kind, unix.SO_PROTOCOL: &s.protocol,
	} {
		if *value, err = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, option); err != nil {
			s.close()
			return s, false
		}
	}
	return s, true
}

func (s socket) close() { _ = unix.Close(s.fd) }

// link returns the name of a link in the socket's namespace.
func (s socket) link(index uint32) string {
	request, err := unix.NewIfreq("")
	if err == nil {
		request.SetUint32(index)
		err = unix.IoctlIfreq(s.fd, unix.SIOCGIFNAME, request)
	}
	if err != nil {
		return fmt.Sprintf("link#%d", index)
	}
	return request.Name()
}

// isNetlink reports whether the call's file is a netlink socket.
func (c *sysCall) isNetlink() bool {
	if c.spec.data == noData {
		return false
	}
	s, ok := c.socket(c.args[0])
	if !ok {
		return false
	}
	defer s.close()
	return s.domain == unix.AF_NETLINK
}

func sends(c *sysCall) (Point, bool) { return c.sendsOn(c.args[0]) }

// sendsOn returns the point of a call that sends on a socket.
func (c *sysCall) sendsOn(fd uint64) (Point, bool) {
	s, ok := c.socket(fd)
	if !ok {
		return Point{}, false
	}
	defer s.close()
	to := c.destination()
	switch {
	case s.domain == unix.AF_NETLINK:
		what, ok := describeNetlink(s.protocol, messages(c.gather(c.buffers(), maxMessage)), s.link)
		if !ok {
			return Point{}, false
		}
		return change(what)
	case s.domain == unix.AF_PACKET:
		if link, ok := to.(*unix.SockaddrLinklayer); ok {
			return change("send a packet on", s.link(uint32(link.Ifindex)))
		}
		return change("send a packet")
	case s.domain == unix.AF_UNIX, s.kind == unix.SOCK_STREAM:
		if to == nil {
			to, _ = unix.Getpeername(s.fd)
		}
		if name := addressName(to); name != "" {
			return change("send to", name)
		}
	case s.kind == unix.SOCK_RAW:
		return change("send a raw packet to", addressName(to))
	}
	return Point{}, false
}

// connects returns the point of a connection to a daemon. For datagrams connect(2) only sets an address, which is not a
// point.
func connects(c *sysCall) (Point, bool) {
	s, ok := c.socket(c.args[0])
	if !ok {
		return Point{}, false
	}
	defer s.close()
	name := addressName(c.address(c.args[1], c.args[2]))
	if name == "" || s.domain != unix.AF_UNIX && s.kind != unix.SOCK_STREAM {
		return Point{}, false
	}
	return change("connect to", name)
}

// destination returns the address that a send names; nil if it names none.
func (c *sysCall) destination() unix.Sockaddr {
	switch c.spec.name {
	case "sendto":
		return c.address(c.args[4], c.args[5])
	case "sendmsg":
		return c.address(c.word(c.args[1]), c.word(c.args[1]+8)&0xffffffff)
	}
	return nil
}

// address reads a struct sockaddr of the families that are distinguished here.
func (c *sysCall) address(pointer, length uint64) unix.Sockaddr {
	data := c.memory(span{uintptr(pointer), int(min(length, unix.SizeofSockaddrAny))})
	if pointer == 0 || len(data) < 2 {
		return nil
	}
	switch family := binary.NativeEndian.Uint16(data); {
	case family == unix.AF_UNIX && len(data) > 3:
		name := string(data[2:])
		if name[0] == 0 {
			return &unix.SockaddrUnix{Name: "@" + name[1:]}
		}
		name, _, _ = strings.Cut(name, "\x00")
		return &unix.SockaddrUnix{Name: name}
	case family == unix.AF_INET && len(data) >= unix.SizeofSockaddrInet4:
		return &unix.SockaddrInet4{Port: int(binary.BigEndian.Uint16(data[2:])), Addr: [4]byte(data[4:])}
	case family == unix.AF_INET6 && len(data) >= unix.SizeofSockaddrInet6:
		return &unix.SockaddrInet6{Port: int(binary.BigEndian.Uint16(data[2:])), Addr: [16]byte(data[8:])}
	case family == unix.AF_PACKET && len(data) >= 8:
		return &unix.SockaddrLinklayer{Ifindex: int(binary.NativeEndian.Uint32(data[4:]))}
	}
	return nil
}

// addressName returns the name of an address; empty if it has none, like the other end of a socketpair.
func addressName(address unix.Sockaddr) string {
	switch a := address.(type) {
	case *unix.SockaddrUnix:
		return a.Name
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	}
	return ""
}
