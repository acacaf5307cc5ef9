package fault

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// scheduling returns the table of the calls at which a run can be stopped for another one: all that may be points, and
// those that look at what others may change.
func scheduling() map[int]callSpec {
	table := calls(false)
	for _, number := range []int{unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG} {
		spec := table[number]
		spec.describe = sendsOrAsks
		table[number] = spec
	}
	for number, spec := range map[int]callSpec{
		unix.SYS_OPENAT:     {name: "openat", describe: opensOrLooks(opens(0, 1, 2))},
		unix.SYS_OPENAT2:    {name: "openat2", describe: opensOrLooks(opens2)},
		unix.SYS_NEWFSTATAT: {name: "newfstatat", describe: looks(LookStat, "stat", 0, 1)},
		unix.SYS_STATX:      {name: "statx", describe: looks(LookStat, "stat", 0, 1)},
		unix.SYS_FACCESSAT:  {name: "faccessat", describe: looks(LookStat, "access", 0, 1)},
		unix.SYS_FACCESSAT2: {name: "faccessat2", describe: looks(LookStat, "access", 0, 1)},
		unix.SYS_READLINKAT: {name: "readlinkat", describe: looks(LookStat, "readlink", 0, 1)},
		unix.SYS_GETDENTS64: {name: "getdents64", describe: reads(LookList)},
		// Not of standard input.
		unix.SYS_READ:    {name: "read", describe: reads(LookRead), where: condition{arg: 0, least: 3}},
		unix.SYS_PREAD64: {name: "pread64", describe: reads(LookRead)},
		unix.SYS_CLOSE:   {name: "close", describe: closesLock},
		unix.SYS_FLOCK:   {name: "flock", describe: locks},
		unix.SYS_FCNTL: {name: "fcntl", describe: locks, where: condition{arg: 1, values: []uint32{
			unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_SETLK, unix.F_OFD_SETLKW,
		}}},
		// The tables of iptables-legacy.
		unix.SYS_GETSOCKOPT: {name: "getsockopt", describe: readsTable, where: condition{arg: 2, least: 64}},
	} {
		table[number] = spec
	}
	return table
}

// reading returns the table of the calls at which a look can get a bad answer: those of scheduling, with the calls that
// receive what the kernel answers.
func reading() map[int]callSpec {
	table := scheduling()
	for number, spec := range calls(true) {
		if spec.receives {
			spec.describe = table[number].describe
			table[number] = spec
		}
	}
	table[unix.SYS_SOCKET] = callSpec{name: "socket", describe: sockets}
	return table
}

// looking returns a point at which a program only looks.
func looking(look Look, what ...string) (Point, bool) {
	return Point{What: words(what...), Look: look}, true
}

// sockets describes a socket of netlink or for a daemon.
func sockets(c *sysCall) (Point, bool) {
	switch c.args[0] {
	case unix.AF_NETLINK:
		return looking(LookSocket, "netlink socket")
	case unix.AF_UNIX:
		return looking(LookSocket, "unix socket")
	}
	return Point{}, false
}

func looks(look Look, verb string, dir, arg int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		if c.text(uintptr(c.args[arg])) == "" {
			return Point{}, false // the open file itself
		}
		path := c.path(dir, arg)
		if !visible(path) {
			return Point{}, false
		}
		return looking(look, verb, path)
	}
}

// visible is like outside, and leaves out what only says how a machine is equipped. Go's runtime reads that now and
// then, which would change the numbers of points.
func visible(path string) bool {
	return outside(path) && !slices.ContainsFunc([]string{
		"/sys/kernel/", "/sys/devices/system/", "/sys/fs/cgroup/",
	}, func(dir string) bool { return strings.HasPrefix(path, dir) })
}

func opensOrLooks(changes func(*sysCall) (Point, bool)) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		if p, ok := changes(c); ok {
			return p, true
		}
		return looks(LookOpen, "open", 0, 1)(c)
	}
}

func reads(look Look) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		path := c.link(c.args[0])
		if !visible(path) {
			return Point{}, false
		}
		return looking(look, string(look), path)
	}
}

// locks describes flock(2) and fcntl(2). Giving a lock back is a point, too.
func locks(c *sysCall) (Point, bool) {
	path := c.link(c.args[0])
	if !filepath.IsAbs(path) {
		return Point{}, false
	}
	if c.spec.name == "fcntl" {
		kind := c.memory(span{uintptr(c.args[2]), 2}) // struct flock begins with l_type
		if len(kind) == 2 && kind[0] == unix.F_UNLCK {
			return looking("", "unlock", path)
		}
		c.tracer.locked[c.fileKey()] = true
		look := LookLock
		if c.args[1] == unix.F_SETLK || c.args[1] == unix.F_OFD_SETLK {
			look = LookTryLock
		}
		return looking(look, "lock", path)
	}
	c.tracer.locked[c.fileKey()] = true
	look := LookLock
	if c.args[1]&unix.LOCK_NB != 0 {
		look = LookTryLock
	}
	switch operation := c.args[1]; {
	case operation&unix.LOCK_UN != 0:
		return looking("", "unlock", path)
	case operation&unix.LOCK_SH != 0:
		return looking(look, "lock shared", path)
	}
	return looking(look, "lock", path)
}

// closesLock describes a close that may give a lock back.
func closesLock(c *sysCall) (Point, bool) {
	if !c.tracer.locked[c.fileKey()] {
		return Point{}, false
	}
	delete(c.tracer.locked, c.fileKey())
	return looking("", "unlock", c.link(c.args[0]))
}

// fileKey identifies the open file of a call that has it as its first argument.
func (c *sysCall) fileKey() string {
	return fmt.Sprintf("%d:%d", c.thread.process.pid, int32(c.args[0]))
}

// takesLock reports whether a call of a point may wait for a lock.
func (c *sysCall) takesLock() bool {
	return (c.spec.name == "flock" || c.spec.name == "fcntl") && strings.HasPrefix(c.point.What, "lock")
}

func readsTable(c *sysCall) (Point, bool) {
	level, option := c.args[1], c.args[2]
	if level == unix.SOL_IP && option <= 66 || level == unix.SOL_IPV6 && option <= 67 {
		return looking(LookRequest, "read the legacy table", c.text(uintptr(c.args[3])))
	}
	return Point{}, false
}

// sendsOrAsks describes a send that changes something, or a netlink request that asks for something.
func sendsOrAsks(c *sysCall) (Point, bool) {
	if p, ok := sends(c); ok {
		return p, true
	}
	s, ok := c.socket(c.args[0])
	if !ok {
		return Point{}, false
	}
	defer s.close()
	if s.domain != unix.AF_NETLINK {
		return Point{}, false
	}
	var parts []string
	look := LookRequest
	for _, m := range messages(c.gather(c.buffers(), maxMessage)) {
		if m.header.Type < unix.NLMSG_MIN_TYPE {
			continue
		}
		part := m.describe(s.protocol, s.link)
		if m.dumps() {
			part += " (all)"
			look = LookDump
		}
		parts = append(parts, part)
	}
	return Point{What: strings.Join(parts, "; "), Look: look}, len(parts) > 0
}

// dumps reports whether a message asks for all objects of its kind.
func (m nlMessage) dumps() bool { return m.header.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP }

// namespaceOf returns the network namespace of an open file or a link in /proc: "net:[4026531840]"; empty if there is
// none.
func namespaceOf(path string) string {
	var stat unix.Stat_t
	if path == "" || unix.Stat(path, &stat) != nil {
		return ""
	}
	return fmt.Sprintf("net:[%d]", stat.Ino)
}

// namespace returns the network namespace of a socket.
func (s socket) namespace() string {
	const siocGSKNS = 0x894C // SIOCGSKNS of include/uapi/linux/sockios.h, not in package unix
	fd, err := unix.IoctlRetInt(s.fd, siocGSKNS)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	return namespaceOf(fmt.Sprintf("/proc/self/fd/%d", fd))
}
