package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// lab is the seed's network: two nodes, a host and a router on one LAN, and a host behind the router.
//
//	node1 .152   node2 .153   lan .200
//	   └───────────┴─── LAN ────┘        10.10.20.0/24, fd00:20::/64
//	                     │
//	                  router .254 ── ext 172.31.0.2, fd00:31::2
type lab struct {
	t                        *testing.T
	fabric, router, lan, ext ns.NetNS
	node1, node2             *labNode
	ports                    int
}

const (
	uplink   = "enp5s0f0"
	rpFilter = "1" // on nodes and pods: the strictest setting, with which everything has to work
)

// labNode is a namespace and a thread in it that has its own directories for records: nodes do not share them.
type labNode struct {
	ns   ns.NetNS
	name string
	work chan func()
}

// newLab makes a lab. before may give node1 further NICs before its uplink.
func newLab(t *testing.T, before ...func(*lab)) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	l := &lab{t: t}
	l.fabric = newNamespace(t, "0", "0")
	in(t, l.fabric, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "sw0"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		// The switch is not a router: no firewall sees its frames.
		for _, key := range []string{"iptables", "ip6tables"} {
			err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte("0"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return plugintest.Configure("sw0")
	})
	l.node1, l.node2 = newNode(t, "node1"), newNode(t, "node2")
	for _, f := range before {
		f(l)
	}
	l.plug(l.node1.ns, "10.10.20.152/24", "fd00:20::152/64")
	l.plug(l.node2.ns, "10.10.20.153/24", "fd00:20::153/64")
	l.lan, l.router, l.ext = newNamespace(t, "0", "0"), newNamespace(t, "0", "1"), newNamespace(t, "0", "0")
	l.plug(l.lan, "10.10.20.200/24", "fd00:20::200/64")
	l.plug(l.router, "10.10.20.254/24", "fd00:20::254/64")
	l.cable(l.router, l.ext, "out0", "enp1")
	in(t, l.router, func() error { return plugintest.Configure("out0", "172.31.0.1/24", "fd00:31::1/64") })
	in(t, l.ext, func() error { return plugintest.Configure("enp1", "172.31.0.2/24", "fd00:31::2/64") })
	for _, n := range []ns.NetNS{l.node1.ns, l.node2.ns, l.lan} {
		in(t, n, func() error { return addDefaults(uplink, "10.10.20.254", "fd00:20::254") })
	}
	in(t, l.ext, func() error { return addDefaults("enp1", "172.31.0.1", "fd00:31::1") })
	return l
}

func newNamespace(t *testing.T, filter, forwarding string) ns.NetNS {
	t.Helper()
	return plugintest.NewNamespace(t, map[string]string{
		"ipv4/conf/all/rp_filter": filter, "ipv4/conf/default/rp_filter": filter,
		"ipv4/ip_forward": forwarding, "ipv6/conf/all/forwarding": forwarding,
	})
}

func newNode(t *testing.T, name string) *labNode {
	t.Helper()
	n := &labNode{ns: newNamespace(t, rpFilter, "1"), name: name, work: make(chan func())}
	started := make(chan error)
	own := t.TempDir()
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the test
		started <- n.settle(own)
		for do := range n.work {
			do()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.work) })
	return n
}

// settle moves the calling thread into the node's namespace, with its own directories for records and reservations.
func (n *labNode) settle(own string) error {
	if err := n.ns.Set(); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil { // also sees later mounts
		return err
	}
	for _, dir := range []string{"/run/cni", "/var/lib/cni"} {
		from := filepath.Join(own, filepath.Base(filepath.Dir(dir)))
		for _, d := range []string{dir, from} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(from, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

// do runs a function on the node's thread.
func (n *labNode) do(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

func in(t *testing.T, n ns.NetNS, do func() error) {
	t.Helper()
	plugintest.In(t, n, do)
}

func (n *labNode) in(t *testing.T, do func() error) {
	t.Helper()
	if err := n.do(do); err != nil {
		t.Fatal(err)
	}
}

// cable connects two namespaces with a veth.
func (l *lab) cable(a, b ns.NetNS, nameA, nameB string) {
	l.t.Helper()
	in(l.t, a, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.Fd())),
		})
	})
}

// plug connects a namespace to the LAN.
func (l *lab) plug(n ns.NetNS, addrs ...string) {
	l.t.Helper()
	l.ports++
	port := fmt.Sprintf("port%d", l.ports)
	l.cable(n, l.fabric, uplink, port)
	in(l.t, l.fabric, func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("sw0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
	in(l.t, n, func() error { return plugintest.Configure(uplink, addrs...) })
}

func addDefaults(link string, gateways ...string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	for _, gateway := range gateways {
		ip := net.ParseIP(gateway)
		dst := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		if v4 := ip.To4(); v4 != nil {
			ip, dst = v4, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: ip}); err != nil {
			return fmt.Errorf("default route via %s: %w", gateway, err)
		}
	}
	return nil
}

// pod is a namespace as macvlan leaves it: with eth0 on the uplink, addresses and default routes.
type pod struct {
	ns  ns.NetNS
	id  string
	ips []string
}

// pod makes a pod with the addresses 10.10.20.N and fd00:20::N, or the given ones.
func (l *lab) pod(n *labNode, id string, number int, mode netlink.MacvlanMode) *pod {
	l.t.Helper()
	return l.podWith(n, id, mode, fmt.Sprintf("10.10.20.%d/24", number), fmt.Sprintf("fd00:20::%d/64", number))
}

func (l *lab) podWith(n *labNode, id string, mode netlink.MacvlanMode, ips ...string) *pod {
	l.t.Helper()
	p := &pod{ns: newNamespace(l.t, rpFilter, "0"), id: id, ips: ips}
	l.macvlan(n, p, "eth0", uplink, mode, ips...)
	for _, ip := range ips {
		gateway := "10.10.20.254"
		if strings.Contains(ip, ":") {
			gateway = "fd00:20::254"
		}
		in(l.t, p.ns, func() error {
			err := addDefaults("eth0", gateway)
			if errors.Is(err, os.ErrExist) {
				return nil
			}
			return err
		})
	}
	return p
}

func (l *lab) macvlan(n *labNode, p *pod, name, master string, mode netlink.MacvlanMode, ips ...string) {
	l.t.Helper()
	plugintest.Macvlan{Name: name, Master: master, Mode: mode, Addresses: ips}.Add(l.t, n.ns, p.ns)
}

// prev returns a prevResult of macvlan for the pod.
func (p *pod) prev() map[string]any { return p.prevOf("eth0", p.ips...) }

func (p *pod) prevOf(link string, ips ...string) map[string]any {
	var list []any
	for _, ip := range ips {
		list = append(list, map[string]any{"address": ip, "interface": 0})
	}
	return map[string]any{
		"cniVersion": "1.1.0", "interfaces": []any{map[string]any{"name": link, "sandbox": p.ns.Path()}}, "ips": list,
	}
}

const bridgeMode = netlink.MACVLAN_MODE_BRIDGE

func (p *pod) addr() netip.Addr { return netip.MustParsePrefix(p.ips[0]).Addr() }

func (p *pod) attachment() record.Attachment {
	return record.Attachment{Network: "cni0", ContainerID: p.id, IfName: "eth0"}
}
