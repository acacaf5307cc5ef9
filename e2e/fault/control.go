package fault

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func execs(dir, path, argv, env int) func(*sysCall) (Point, bool) {
	return func(c *sysCall) (Point, bool) {
		c.program = filepath.Base(c.path(dir, path))
		args := c.texts(c.args[argv])
		if len(args) > 1 {
			return change("exec", c.program, strings.Join(args[1:], " "))
		}
		for _, e := range c.texts(c.args[env]) {
			if verb, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
				return change("exec", c.program, verb)
			}
		}
		return change("exec", c.program)
	}
}

func kills(c *sysCall) (Point, bool) {
	// The process is not named: its ID may belong to another namespace, and changes from run to run.
	return change("signal", unix.SignalName(unix.Signal(c.args[1])))
}

// replacesTable describes a call of iptables-legacy, arptables and ebtables (xt_replace: the table's name comes first).
func replacesTable(c *sysCall) (Point, bool) {
	level, option := c.args[1], c.args[2]
	switch {
	case level == unix.SOL_IP && (option == 64 || option == 96 || option == 128), level == unix.SOL_IPV6 &&
		option == 64:
		return change("replace the legacy table", c.text(uintptr(c.args[3])))
	}
	return Point{}, false
}

// ioctls returns the ioctls that change links, addresses, routes and bridges. The data of most begins with the name of
// a link (include/uapi/linux/sockios.h, if_tun.h).
func ioctls() map[uint32]string {
	return map[uint32]string{
		unix.SIOCADDRT: "SIOCADDRT", unix.SIOCDELRT: "SIOCDELRT", unix.SIOCSIFFLAGS: "SIOCSIFFLAGS",
		unix.SIOCSIFADDR:    "SIOCSIFADDR",
		unix.SIOCSIFNETMASK: "SIOCSIFNETMASK", unix.SIOCSIFBRDADDR: "SIOCSIFBRDADDR",
		unix.SIOCSIFDSTADDR: "SIOCSIFDSTADDR",
		unix.SIOCSIFMTU:     "SIOCSIFMTU", unix.SIOCSIFHWADDR: "SIOCSIFHWADDR", unix.SIOCSIFNAME: "SIOCSIFNAME",
		unix.SIOCDIFADDR: "SIOCDIFADDR",
		unix.SIOCSARP:    "SIOCSARP", unix.SIOCDARP: "SIOCDARP", unix.SIOCSIFTXQLEN: "SIOCSIFTXQLEN",
		unix.SIOCETHTOOL: "SIOCETHTOOL",
		unix.SIOCBRADDBR: "SIOCBRADDBR", unix.SIOCBRDELBR: "SIOCBRDELBR", unix.SIOCBRADDIF: "SIOCBRADDIF",
		unix.SIOCBRDELIF: "SIOCBRDELIF",
		unix.TUNSETIFF:   "TUNSETIFF", unix.TUNSETPERSIST: "TUNSETPERSIST",
	}
}

func ioctlNumbers() (numbers []uint32) {
	for number := range ioctls() {
		numbers = append(numbers, number)
	}
	return numbers
}

func controls(c *sysCall) (Point, bool) {
	request := uint32(c.args[1])
	name := ioctls()[request]
	switch request {
	case unix.TUNSETPERSIST, unix.SIOCADDRT, unix.SIOCDELRT, unix.SIOCSARP, unix.SIOCDARP:
		return change(name)
	case unix.SIOCETHTOOL:
		command := c.memory(span{uintptr(c.word(c.args[2] + unix.IFNAMSIZ)), 4})
		if len(command) < 4 || !ethtoolSets(binary.NativeEndian.Uint32(command)) {
			return Point{}, false
		}
		name = fmt.Sprintf("%s %#x", name, binary.NativeEndian.Uint32(command))
	}
	return change(name, c.text(uintptr(c.args[2])))
}

// ethtoolSets reports whether an ethtool command changes something (include/uapi/linux/ethtool.h, ETHTOOL_S…).
func ethtoolSets(command uint32) bool {
	switch command {
	case 0x02, 0x06, 0x08, 0x0f, 0x11, 0x13, 0x15, 0x17, 0x19, 0x1f, 0x22, 0x24, 0x26, 0x28, 0x2a, 0x2c, 0x3b, 0x3d,
		0x47, 0x4d:
		return true
	}
	return false
}
