package witness_test

import (
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// isolate moves the test into its own network namespace, which ends with the test's thread. In it lo is up, and eno1,
// with 192.168.0.1/16 and fd00::1/64, is one end of a veth pair.
func isolate(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("want root, to make a network namespace")
	}
	runtime.LockOSThread()
	check(tb, unix.Unshare(unix.CLONE_NEWNET))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eno1"
	check(tb, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "wire"}))
	for _, name := range []string{"lo", "wire", "eno1"} {
		check(tb, netlink.LinkSetUp(link(tb, name)))
	}
	for _, address := range []string{"192.168.0.1/16", "fd00::1/64"} {
		addr, err := netlink.ParseAddr(address)
		check(tb, err)
		addr.Flags = unix.IFA_F_NODAD
		check(tb, netlink.AddrAdd(link(tb, "eno1"), addr))
	}
}

func link(tb testing.TB, name string) netlink.Link {
	tb.Helper()
	l, err := netlink.LinkByName(name)
	check(tb, err)
	return l
}

func prefix(tb testing.TB, text string) *net.IPNet {
	tb.Helper()
	_, p, err := net.ParseCIDR(text)
	check(tb, err)
	return p
}

func set(tb testing.TB, sysctl, value string) {
	tb.Helper()
	check(tb, os.WriteFile("/proc/sys/net/"+sysctl, []byte(value), 0o644))
}
