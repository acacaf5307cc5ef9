package probe

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lan is a bridge in a namespace, with hosts connected to it. Host number i has 10.9.0.i/24 and fd09::i/64 on eth0.
// Nothing of it is on the machine, and everything ends with the test.
type lan struct {
	fabric *host
	hosts  []*host
}

// host is a namespace that only an open file keeps alive.
type host struct {
	ns   ns.NetNS
	path string
	mac  string
}

func newHost(t *testing.T) *host {
	t.Helper()
	n, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	h := &host{ns: n, path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd())}
	h.do(t, func() error { return setUp("lo") })
	return h
}

// do runs fn on a thread in the host.
func (h *host) do(t *testing.T, fn func() error) {
	t.Helper()
	if err := h.ns.Do(func(ns.NetNS) error { return fn() }); err != nil {
		t.Fatal(err)
	}
}

// newLAN makes a LAN. It skips the test if the user may not make one.
func newLAN(t *testing.T, hosts int) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	l := &lan{fabric: newHost(t)}
	l.fabric.do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		return setUp("br0")
	})
	for i := 1; i <= hosts; i++ {
		h := newHost(t)
		l.hosts = append(l.hosts, h)
		h.mac = fmt.Sprintf("02:09:00:00:00:%02x", i)
		l.fabric.do(t, func() error { return plug(h, i) })
		h.do(t, func() error {
			// Duplicate address detection takes up to two seconds, and these tests do not need it. The kernel requires
			// both settings (addrconf_dad_begin in net/ipv6/addrconf.c).
			for _, scope := range []string{"all", "eth0"} {
				if err := sysctl("ipv6/conf/"+scope+"/accept_dad", "0"); err != nil {
					return err
				}
			}
			if err := setUp("eth0"); err != nil {
				return err
			}
			if err := addAddress("eth0", fmt.Sprintf("10.9.0.%d/24", i)); err != nil {
				return err
			}
			return addAddress("eth0", fmt.Sprintf("fd09::%d/64", i))
		})
	}
	for _, h := range l.hosts {
		h.waitForAddresses(t)
	}
	return l
}

// plug makes the veth of host i. It is called in the fabric's namespace.
func plug(h *host, i int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("port%d", i)
	mac, err := net.ParseMAC(h.mac)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(h.ns.Fd())),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(veth, bridge); err != nil {
		return err
	}
	return setUp(attrs.Name)
}

func setUp(ifname string) error {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func setDown(ifname string) error {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(link)
}

// addAddress adds an address that can be used at once.
func addAddress(ifname, cidr string) error {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(link, addr)
}

// waitForAddresses waits until no address of eth0 is tentative, in particular not the link-local one.
func (h *host) waitForAddresses(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		return h.ns.Do(func(ns.NetNS) error {
			_, err := usableLinkLocal("eth0")
			return err
		})
	})
}

// usableLinkLocal returns the link-local address of ifname in the calling thread's namespace.
func usableLinkLocal(ifname string) (net.IP, error) {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		if addr.IP.IsLinkLocalUnicast() && addr.Flags&unix.IFA_F_TENTATIVE == 0 {
			return addr.IP, nil
		}
	}
	return nil, fmt.Errorf("no usable link-local address on %s", ifname)
}

// sysctl writes a setting of the calling thread's namespace. /proc/sys/net follows the reading thread.
func sysctl(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
}

// eventually calls check until it succeeds.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after %s: %v", patience, err)
		case <-tick.C:
		}
	}
}

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute
