package plugintest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NewNamespace makes a network namespace that ends with the test, with lo up. The argument sysctls holds settings below
// /proc/sys/net. Settings that a new namespace would inherit from the machine's first one get the kernel's defaults
// unless they are given, and IPv6 addresses can be used at once.
func NewNamespace(t *testing.T, sysctls map[string]string) ns.NetNS {
	t.Helper()
	n, err := testutils.NewNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.Close()
		_ = testutils.UnmountNS(n)
	})
	settings := map[string]string{
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		"ipv4/conf/all/arp_ignore": "0", "ipv4/conf/default/arp_ignore": "0",
		"ipv4/conf/all/src_valid_mark": "0", "ipv4/conf/default/src_valid_mark": "0",
		"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0",
	}
	for path, value := range sysctls {
		settings[path] = value
	}
	In(t, n, func() error {
		for path, value := range settings {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
				return err
			}
		}
		return Configure("lo")
	})
	return n
}

// In runs a function on a thread in a namespace. An error fails the test.
func In(t *testing.T, n ns.NetNS, do func() error) {
	t.Helper()
	if err := n.Do(func(ns.NetNS) error { return do() }); err != nil {
		t.Fatal(err)
	}
}

// Configure gives a link addresses and brings it up, in the namespace of the calling thread.
func Configure(name string, addrs ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, s := range addrs {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Macvlan describes the link that a chained plugin finds in a pod.
type Macvlan struct {
	Name, Master string
	Mode         netlink.MacvlanMode
	MAC          net.HardwareAddr // nil leaves it to the kernel
	Addresses    []string
}

// Add creates the link on a node and moves it into a pod.
func (m Macvlan) Add(t *testing.T, node, pod ns.NetNS) {
	t.Helper()
	In(t, node, func() error {
		parent, err := netlink.LinkByName(m.Master)
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = "tmp0", parent.Attrs().Index, m.MAC
		if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: m.Mode}); err != nil {
			return err
		}
		link, err := netlink.LinkByName("tmp0")
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(link, int(pod.Fd()))
	})
	In(t, pod, func() error {
		link, err := netlink.LinkByName("tmp0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetName(link, m.Name); err != nil {
			return err
		}
		return Configure(m.Name, m.Addresses...)
	})
}

// PlaceFile puts an empty file where a directory would be made, and makes the directories above it.
func PlaceFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}
