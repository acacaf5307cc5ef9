package fault

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Touch is an object that a call depends on, or changes.
type Touch struct {
	// Kind is the kind of object: "link", "route", "file", …. In is the network namespace that it is in; empty for
	// files and other objects of the node.
	Kind string `json:"kind"`
	In   string `json:"in,omitempty"`
	// Name is the object's name; All stands for every object of the kind.
	Name  string `json:"name"`
	Write bool   `json:"write,omitempty"`
}

// All is the name of a Touch that means every object of its kind.
const All = "*"

// String returns the object without its namespace.
func (t Touch) String() string {
	if t.Name == All {
		return "all of " + t.Kind
	}
	return t.Kind + " " + t.Name
}

// Same reports whether both may be the same object.
func (t Touch) Same(u Touch) bool {
	return t.Kind == u.Kind && t.In == u.In && (t.Name == u.Name || t.Name == All || u.Name == All)
}

// Conflict returns an object that both calls touch and at least one of them changes; false if there is none. The order
// of two calls without a conflict does not matter.
func Conflict(p, q Point) (Touch, bool) {
	for _, t := range p.Touches {
		for _, u := range q.Touches {
			if (t.Write || u.Write) && t.Same(u) {
				return t, true
			}
		}
	}
	return Touch{}, false
}

// touches returns the objects of a call that is a point.
func (c *sysCall) touches() (list []Touch) {
	switch c.spec.name {
	case "sendto", "sendmsg", "sendmmsg", "connect":
		return c.socketTouches(c.args[0])
	case "ioctl":
		return []Touch{{Kind: "link", In: c.threadNamespace(), Name: All, Write: true}}
	case "setsockopt", "getsockopt":
		return []Touch{{
			Kind: "legacy table", In: c.threadNamespace(), Name: c.text(uintptr(c.args[3])),
			Write: c.spec.name == "setsockopt",
		}}
	case "kill", "pidfd_send_signal":
		return []Touch{{Kind: "process", Name: All, Write: true}}
	case "flock", "fcntl", "close":
		return []Touch{{Kind: "lock", Name: c.link(c.args[0]), Write: true}}
	case "getdents64":
		return []Touch{{Kind: "directory", Name: c.link(c.args[0])}}
	case "open", "openat", "openat2":
		path := c.path(0, 1)
		if c.spec.name == "open" {
			path = c.path(none, 0)
		}
		creates := strings.HasPrefix(c.point.What, "create") && !c.exists(path)
		empties := c.openFlags()&unix.O_TRUNC != 0
		list = append(c.fileTouches(path, creates || empties), Touch{Kind: "directory", Name: path})
		if creates {
			list = append(list, Touch{Kind: "directory", Name: filepath.Dir(path), Write: true})
		}
		return list
	}
	if args := pathArguments()[c.spec.name]; args != nil {
		for i := 0; i < len(args); i += 2 {
			path := c.path(args[i], args[i+1])
			list = append(list, c.fileTouches(path, true)...)
			list = append(list, Touch{Kind: "directory", Name: filepath.Dir(path), Write: true})
			if strings.HasPrefix(c.point.What, "rmdir") {
				list = append(list, Touch{Kind: "directory", Name: path, Write: true})
			}
		}
		return list
	}
	return c.otherTouches()
}

// openFlags returns the flags of an open.
func (c *sysCall) openFlags() uint64 {
	switch c.spec.name {
	case "open":
		return c.args[1]
	case "openat2":
		return c.word(c.args[2])
	}
	return c.args[2]
}

// exists reports whether the program has a file of a name.
func (c *sysCall) exists(path string) bool {
	_, err := os.Lstat(c.proc("root%s", path))
	return err == nil
}

// otherTouches returns the objects of a call that looks at a path, or uses an open file.
func (c *sysCall) otherTouches() []Touch {
	switch c.spec.name {
	case "newfstatat", "statx", "faccessat", "faccessat2", "readlinkat":
		return c.fileTouches(c.path(0, 1), false)
	case "read", "pread64":
		return c.fileTouches(c.link(c.args[0]), false)
	case "execve", "execveat":
		return nil
	}
	link := c.link(c.args[0])
	switch {
	case strings.HasPrefix(link, "socket:"):
		return c.socketTouches(c.args[0])
	case c.point.What == "write the answer", !outside(link):
		return nil
	}
	return c.fileTouches(link, true)
}

// pathArguments returns for the calls that change directories which arguments are the directory and the path, in pairs.
func pathArguments() map[string][]int {
	return map[string][]int{
		"rename": {none, 0, none, 1}, "renameat": {0, 1, 2, 3}, "renameat2": {0, 1, 2, 3},
		"unlink": {none, 0}, "unlinkat": {0, 1}, "rmdir": {none, 0},
		"mkdir": {none, 0}, "mkdirat": {0, 1}, "mknod": {none, 0}, "mknodat": {0, 1},
		"link": {none, 0, none, 1}, "linkat": {0, 1, 2, 3}, "symlink": {none, 1}, "symlinkat": {1, 2},
		"truncate": {none, 0}, "creat": {none, 0},
		"chmod": {none, 0}, "fchmodat": {0, 1}, "fchmodat2": {0, 1}, "chown": {none, 0}, "fchownat": {0, 1},
		"setxattr": {none, 0}, "mount": {none, 1}, "umount2": {none, 0}, "move_mount": {0, 1, 2, 3},
		"mount_setattr": {0, 1}, "pivot_root": {none, 0, none, 1},
	}
}

// fileTouches returns the touches of a path: the file, and the directory that must be there.
func (c *sysCall) fileTouches(path string, write bool) []Touch {
	in := ""
	if strings.HasPrefix(path, "/proc/sys/net/") {
		in = c.threadNamespace()
	}
	list := []Touch{{Kind: "file", In: in, Name: path, Write: write}}
	if in == "" {
		list = append(list, Touch{Kind: "file", Name: filepath.Dir(path)})
	}
	return list
}

// threadNamespace returns the network namespace of the thread that makes the call.
func (c *sysCall) threadNamespace() string { return namespaceOf(c.proc("ns/net")) }

// socketTouches returns the objects of what is sent on a socket, or of a connection.
func (c *sysCall) socketTouches(fd uint64) (list []Touch) {
	s, ok := c.socket(fd)
	if !ok {
		return nil
	}
	defer s.close()
	switch {
	case s.domain == unix.AF_NETLINK:
		in := s.namespace()
		for _, m := range messages(c.gather(c.buffers(), maxMessage)) {
			if m.header.Type >= unix.NLMSG_MIN_TYPE {
				list = append(list, c.netlinkTouches(s, in, m)...)
			}
		}
		return list
	case s.domain == unix.AF_PACKET, s.kind == unix.SOCK_RAW:
		return nil
	}
	// The daemon may change anything.
	_, name, _ := strings.Cut(c.point.What, " to ")
	return []Touch{{Kind: "daemon", Name: name, Write: true}}
}

// netlinkTouches returns the objects of a message.
func (c *sysCall) netlinkTouches(s socket, in string, m nlMessage) []Touch {
	write := m.changes(s.protocol)
	kind := m.header.Type
	switch {
	case s.protocol == unix.NETLINK_ROUTE:
		return c.routeTouches(s, in, m, write)
	case s.protocol == unix.NETLINK_NETFILTER && kind>>8 == unix.NFNL_SUBSYS_NFTABLES:
		return []Touch{{Kind: "nftables", In: in, Name: All, Write: write}}
	case s.protocol == unix.NETLINK_NETFILTER && kind>>8 == unix.NFNL_SUBSYS_NONE:
		return nil
	}
	return []Touch{{Kind: fmt.Sprintf("netlink %d %d", s.protocol, kind>>8), In: in, Name: All, Write: write}}
}

// routeTouches returns the objects of a message of rtnetlink.
func (c *sysCall) routeTouches(s socket, in string, m nlMessage, write bool) []Touch {
	object, size, describe := routeObject(m.header.Type)
	if object == "NSID" {
		return nil
	}
	own := Touch{Kind: strings.ToLower(object), In: in, Name: All, Write: write}
	if m.dumps() || describe == nil || len(m.body) < size {
		return []Touch{own}
	}
	attributes := attributesOf(m.body[size:])
	if object == "LINK" {
		return c.linkTouches(s, own, m, attributes)
	}
	list := []Touch{own}
	link := linkOfAttribute(attributes[unix.RTA_OIF], s.link)
	switch object {
	case "ROUTE":
		list[0].Name = "in table " + routeTable(m.body, attributes)
		if !write {
			// A lookup obeys all rules.
			return []Touch{
				{Kind: "route", In: in, Name: All}, {Kind: "rule", In: in, Name: All}, {Kind: "addr", In: in, Name: All},
			}
		}
	case "RULE":
		list[0].Name = describe(m.body, attributes, s.link)
		link = ""
	default: // those that begin with the family and have the link in the second word
		link = s.link(binary.NativeEndian.Uint32(m.body[4:]))
		list[0].Name = describe(m.body, attributes, s.link)
	}
	if link != "" {
		list = append(list, Touch{Kind: "link", In: in, Name: link})
	}
	return list
}

func routeTable(body []byte, attributes map[uint16][]byte) string {
	if table := numberOf(attributes[unix.RTA_TABLE]); table != "" {
		return table
	}
	return fmt.Sprint(body[4])
}

// linkTouches returns the objects of a message about a link: the link under its names and in its namespaces, what
// belongs to it, and the links that it is made on.
func (c *sysCall) linkTouches(s socket, own Touch, m nlMessage, a map[uint16][]byte) []Touch {
	in := own.In
	var names []string
	if index := binary.NativeEndian.Uint32(m.body[4:]); index != 0 {
		names = append(names, s.link(index))
	}
	for _, attribute := range []uint16{unix.IFLA_IFNAME, unix.IFLA_ALT_IFNAME} {
		if name := textOf(a[attribute]); name != "" {
			names = append(names, name)
		}
	}
	namespaces := []string{in, c.namespaceIn(a)}
	info := attributesOf(a[unix.IFLA_LINKINFO])
	if far := attributesOf(info[unix.IFLA_INFO_DATA])[nl.VETH_INFO_PEER]; len(far) > unix.SizeofIfInfomsg {
		peer := attributesOf(far[unix.SizeofIfInfomsg:])
		names = append(names, textOf(peer[unix.IFLA_IFNAME]))
		namespaces = append(namespaces, c.namespaceIn(peer))
	}
	var list []Touch
	for _, namespace := range slices.Compact(slices.DeleteFunc(namespaces, func(n string) bool { return n == "" })) {
		for _, name := range names {
			list = append(list, Touch{Kind: "link", In: namespace, Name: name, Write: own.Write})
		}
	}
	for _, attribute := range []uint16{unix.IFLA_LINK, unix.IFLA_MASTER} {
		if name := linkOfAttribute(a[attribute], s.link); name != "" {
			list = append(list, Touch{Kind: "link", In: in, Name: name})
		}
	}
	order := binary.NativeEndian
	down := order.Uint32(m.body[12:])&unix.IFF_UP != 0 && order.Uint32(m.body[8:])&unix.IFF_UP == 0
	if own.Write && (down || m.header.Type == unix.RTM_DELLINK) {
		for _, kind := range []string{"route", "addr", "neigh", "qdisc"} {
			list = append(list, Touch{Kind: kind, In: in, Name: All, Write: true})
		}
	}
	return list
}

// namespaceIn returns the namespace that attributes of a link name by an open file or a process; empty if they do not.
func (c *sysCall) namespaceIn(a map[uint16][]byte) string {
	if fd := a[unix.IFLA_NET_NS_FD]; len(fd) == 4 {
		return namespaceOf(c.proc("fd/%d", binary.NativeEndian.Uint32(fd)))
	}
	if pid := a[unix.IFLA_NET_NS_PID]; len(pid) == 4 {
		return namespaceOf(fmt.Sprintf("/proc/%d/ns/net", binary.NativeEndian.Uint32(pid)))
	}
	return ""
}
