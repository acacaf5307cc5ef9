package snapshot

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isolate moves the test into its own network and mount namespaces. They end with the test's thread, which is never
// unlocked.
func isolate(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root to make namespaces")
	}
	runtime.LockOSThread()
	check(tb, unix.Unshare(unix.CLONE_NEWNET|unix.CLONE_NEWNS))
	check(tb, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	// Otherwise links get addresses only when duplicate address detection has ended, which may be after the test.
	write(tb, "/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1")
	check(tb, netlink.LinkSetUp(link(tb, "lo")))
}

// isolateNode calls isolate and makes a master eno1, up, with 192.168.0.1/16, whose other end is called wire.
func isolateNode(tb testing.TB) {
	tb.Helper()
	isolate(tb)
	addVeth(tb, "eno1", "02:00:00:00:00:01", "wire")
	check(tb, netlink.AddrAdd(link(tb, "eno1"), address(tb, "192.168.0.1/16")))
	check(tb, netlink.LinkSetUp(link(tb, "wire")))
	check(tb, netlink.LinkSetUp(link(tb, "eno1")))
	eventually(tb, "want eno1 to have its carrier", func() bool {
		return link(tb, "eno1").Attrs().OperState == netlink.OperUp
	})
}

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute

// eventually calls ok until it returns true.
func eventually(tb testing.TB, want string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s, got nothing of it in %s", want, patience)
		}
	}
}

// addVeth adds a pair of links, both down.
func addVeth(tb testing.TB, name, mac, peer string) {
	tb.Helper()
	check(tb, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attributes(tb, name, mac), PeerName: peer, PeerHardwareAddr: parseMAC(tb, "02:00:00:00:00:ff"),
	}))
}

func addMacvlan(tb testing.TB, name, mac, parent string) {
	tb.Helper()
	a := attributes(tb, name, mac)
	a.ParentIndex = link(tb, parent).Attrs().Index
	check(tb, netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}))
}

func attributes(tb testing.TB, name, mac string) netlink.LinkAttrs {
	tb.Helper()
	a := netlink.NewLinkAttrs()
	a.Name, a.HardwareAddr = name, parseMAC(tb, mac)
	return a
}

func parseMAC(tb testing.TB, mac string) net.HardwareAddr {
	tb.Helper()
	parsed, err := net.ParseMAC(mac)
	check(tb, err)
	return parsed
}

func link(tb testing.TB, name string) netlink.Link {
	tb.Helper()
	l, err := netlink.LinkByName(name)
	check(tb, err)
	return l
}

func address(tb testing.TB, cidr string) *netlink.Addr {
	tb.Helper()
	a, err := netlink.ParseAddr(cidr)
	check(tb, err)
	return a
}

func prefix(tb testing.TB, cidr string) *net.IPNet {
	tb.Helper()
	p, err := netlink.ParseIPNet(cidr)
	check(tb, err)
	return p
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func write(tb testing.TB, path, content string) {
	tb.Helper()
	check(tb, os.WriteFile(path, []byte(content), 0o644))
}

// take calls Take and fails the test on an error.
func take(tb testing.TB, opts Options) State {
	tb.Helper()
	state, err := Take(context.Background(), opts)
	check(tb, err)
	return state
}

// lines returns changes as text.
func lines(changes []Change) []string {
	var s []string
	for _, c := range changes {
		s = append(s, c.String())
	}
	return s
}

// texts returns items as text.
func texts(items []Item) []string {
	var s []string
	for _, i := range items {
		s = append(s, fmt.Sprintf("%s %s", i.Kind, line(i.Name, i.Text)))
	}
	return s
}

// pod is another network namespace, kept alive by a thread.
type pod struct {
	// path leads to it until end is called.
	path string
	work chan func()
	done chan struct{}
}

func startPod(tb testing.TB) *pod {
	tb.Helper()
	p := &pod{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range p.work {
			f()
			p.done <- struct{}{}
		}
	}()
	check(tb, <-ready)
	p.do(func() { p.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()) })
	return p
}

// do runs f in the pod.
func (p *pod) do(f func()) {
	p.work <- f
	<-p.done
}

// end ends the thread and thereby, some moments later, the namespace.
func (p *pod) end() {
	close(p.work)
}
