// Plugin does a little of all that a plugin does to the world, each thing once, so that a test knows what its points
// are. CNI_ARGS names what to do, one word or more; it works in DIR and starts itself as its delegate.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sleep" {
		time.Sleep(time.Hour)
	}
	for _, word := range strings.Fields(os.Getenv("CNI_ARGS")) {
		act := actions()[word]
		for _, more := range []map[string]func(string) error{turns(), looks()} {
			if act == nil {
				act = more[word]
			}
		}
		if act == nil {
			act = func(string) error { return errors.New("not known") }
		}
		if err := act(os.Getenv("DIR")); err != nil {
			fmt.Printf("%s: %v\n", word, err)
			os.Exit(1)
		}
	}
	input, _ := io.ReadAll(os.Stdin)
	fmt.Printf("done %s\n", input)
}

func actions() map[string]func(dir string) error {
	return map[string]func(dir string) error{
		"read": func(string) error {
			_, err := io.ReadAll(os.Stdin)
			return err
		},
		"lock":      lock,
		"sleep":     func(string) error { time.Sleep(150 * time.Millisecond); return nil },
		"spin":      spin,
		"dump":      func(string) error { _, err := netlink.LinkList(); return err },
		"link":      link,
		"unacked":   unacked,
		"nft":       nft,
		"conntrack": func(string) error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) },
		"files":     files,
		"sysctl":    func(string) error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) },
		"unix":      daemon,
		"mount":     func(dir string) error { return unix.Mount("none", dir, "tmpfs", 0, "") },
		"umount":    func(dir string) error { return unix.Unmount(dir, 0) },
		"ioctl":     ioctl,
		"threads":   threads,
		"delegate":  delegate,
		"replace":   replace,
		"leave":     leave,
		"disturbed": disturbed,
		"hang":      func(string) error { time.Sleep(time.Hour); return nil },
		"hangs":     func(string) error { return exec.Command(os.Args[0], "sleep").Run() },
		"signal":    signalled,
		"die":       func(string) error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) },
	}
}

func link(string) error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one", MTU: 1400}, PeerName: "other"}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	one, err := netlink.LinkByName("one")
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr("10.1.2.3/24")
	if err != nil {
		return err
	}
	_, to, _ := net.ParseCIDR("10.9.0.0/16")
	rule := netlink.NewRule()
	rule.Table, rule.Priority, rule.Src = 100, 77, to
	steps := []func() error{
		func() error { return netlink.AddrAdd(one, address) },
		func() error { return netlink.LinkSetUp(one) },
		func() error {
			return netlink.RouteAdd(&netlink.Route{
				LinkIndex: one.Attrs().Index, Dst: to, Gw: net.IPv4(10, 1, 2, 4), Src: address.IP, Table: 100,
			})
		},
		func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: one.Attrs().Index, IP: net.IPv4(10, 1, 2, 9),
				State: unix.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		},
		func() error { return netlink.RuleAdd(rule) },
		func() error { return netlink.RuleDel(rule) },
		func() error { return netlink.LinkDel(one) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// unacked sends a request that asks for no answer, and looks for one: a kernel answers errors all the same, before the
// send returns.
func unacked(string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	// RTM_NEWLINK, the loopback up.
	message := make([]byte, 32)
	message[0], message[4], message[6], message[8] = 32, unix.RTM_NEWLINK, unix.NLM_F_REQUEST, 7
	message[20], message[24], message[28] = 1, unix.IFF_UP, unix.IFF_UP
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 128)
	_, _, err = unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("answer type %d seq %d error %d about type %d, sent type %d", answer[4], answer[8],
		int8(answer[16]), answer[24], message[4])
}

func nft(string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "one", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{Name: "first", Table: table})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain})
	if err := conn.Flush(); err != nil {
		return err
	}
	conn.DelTable(table)
	return conn.Flush()
}

func files(dir string) error {
	path := filepath.Join(dir, "a")
	file, err := os.CreateTemp(dir, "a-")
	if err != nil {
		return err
	}
	_, err = file.WriteString("text")
	return errors.Join(err, file.Sync(), file.Truncate(2), file.Chmod(0o600), file.Close(),
		os.Rename(file.Name(), path), os.Link(path, path+"b"), os.Symlink("a", path+"c"), os.Mkdir(path+"d", 0o700),
		os.Remove(path+"d"), os.Remove(path+"c"), os.Remove(path+"b"), os.Remove(path))
}

func daemon(dir string) error {
	conn, err := net.Dial("unix", filepath.Join(dir, "daemon.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	return err
}

func ioctl(string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// threads makes many threads write at once.
func threads(dir string) error {
	done := make(chan error)
	for i := range 40 {
		go func() { done <- os.WriteFile(filepath.Join(dir, fmt.Sprint("t", i)), nil, 0o600) }()
	}
	var errs []error
	for range 40 {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

func delegate(string) error {
	cmd := exec.Command(filepath.Join(filepath.Dir(os.Args[0]), "delegate"))
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CNI_ARGS=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "CNI_ARGS=files")
	out, err := cmd.Output()
	if err == nil && string(out) != "done \n" {
		err = fmt.Errorf("the delegate says %q", out)
	}
	return err
}

// replace makes this process another program, on a thread that is not its first: that one is the main goroutine's own.
func replace(string) error {
	failed := make(chan error)
	go func() { failed <- become() }()
	return <-failed
}

func become() error {
	path := filepath.Join(filepath.Dir(os.Args[0]), "delegate")
	return syscall.Exec(path, []string{path}, []string{"CNI_COMMAND=DEL", "CNI_ARGS=files", "DIR=" + os.Getenv("DIR")})
}

func leave(string) error {
	cmd := exec.Command(os.Args[0], "sleep")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

func signalled(string) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		return err
	}
	<-c
	return nil
}

// disturbed makes one call that signals interrupt again and again, and that the kernel makes once more each time.
func disturbed(dir string) error {
	path := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	thread, opened := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		// It waits for somebody who reads.
		_, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0)
		opened <- err
	}()
	tid := <-thread
	for range 20 {
		time.Sleep(time.Millisecond)
		if err := unix.Tgkill(os.Getpid(), tid, syscall.SIGUSR1); err != nil {
			return err
		}
		<-c
	}
	_, err := os.Open(path)
	return errors.Join(err, <-opened)
}

// lock takes and gives back the lock of a file.
func lock(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX)
}

// spin takes 150 ms of a processor's time.
func spin(string) error {
	for {
		var used unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil || used.Nano() > 150e6 {
			return err
		}
	}
}
