package eni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// lab is a node with three ENIs, whose other ends are in a namespace that stands for the VPC.
type lab struct {
	t    *testing.T
	node *kernel.Namespace
	vpc  ns.NetNS
}

// inLab runs a test on the node, in a separate thread that ends with the test.
func inLab(t *testing.T, test func(l *lab)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread must not be used again
		l := &lab{t: t}
		vpc, vpcErr := newNamespace()
		pathErr := unix.Unshare(unix.CLONE_NEWNET)
		node, nodeErr := kernel.Current()
		if err := errors.Join(vpcErr, pathErr, nodeErr); err != nil {
			t.Error(err)
			return
		}
		defer vpc.Close()
		defer node.Close()
		l.vpc, l.node = vpc, node
		if l.build() {
			test(l)
		}
	}()
	<-done
}

// newNamespace makes a namespace without a name, which vanishes when it is closed.
func newNamespace() (ns.NetNS, error) {
	own, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	fresh, err := ns.GetNS(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()))
	return fresh, errors.Join(err, netns.Set(own))
}

// build makes the ENIs as on a booted machine: the primary one is configured, the others are not.
func (l *lab) build() bool {
	for device := range 3 {
		l.attach(device)
	}
	l.ok(l.up("lo"))
	l.ok(l.up("eth0"))
	l.ok(l.address("eth0", "10.0.0.10/24"))
	l.ok(netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 0, 0, 1)}))
	return !l.t.Failed()
}

// attach makes the ENI with a device number. Its other end is the VPC's router.
func (l *lab) attach(device int) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("eth%d", device)
	attrs.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, byte(0x10 + device)}
	router := fmt.Sprintf("r%d", device)
	l.ok(netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: router, PeerNamespace: netlink.NsFd(int(l.vpc.Fd())),
	}))
	l.inVPC(func() error {
		return errors.Join(l.up("lo"), l.up(router), l.address(router, fmt.Sprintf("10.0.%d.1/24", device)))
	})
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Error(err)
	}
}

func (l *lab) inVPC(do func() error) {
	l.t.Helper()
	l.ok(l.vpc.Do(func(ns.NetNS) error { return do() }))
}

func (l *lab) up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func (l *lab) address(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, addr)
}

func (l *lab) sysctl(path, value string) error {
	return os.WriteFile("/proc/sys/net/ipv4/"+path, []byte(value), 0o644)
}

// inventory returns the inventory that the metadata service would serve.
func inventory() cloud.Inventory {
	inv := cloud.Inventory{
		VPC: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("2001:db8::/56")},
	}
	for device := range 3 {
		inv.ENIs = append(inv.ENIs, cloud.ENI{
			ID: fmt.Sprintf("eni-%d", device), MAC: fmt.Sprintf("02:00:00:00:00:1%d", device), Device: device,
			Subnet:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(device), 0}), 24),
			Address: netip.AddrFrom4([4]byte{10, 0, byte(device), 10}),
		})
	}
	return inv
}

func (l *lab) options() Options {
	return Options{Namespace: l.node, NodePorts: true, CheckSources: true, Mark: 0x80, VethPrefix: "eni", MTU: 1400}
}

// rules returns the node's rules as ip prints them.
func (l *lab) rules() string {
	listed, err := l.node.Rules()
	l.ok(err)
	var all []string
	for _, r := range listed {
		if r.Family != netlink.FAMILY_V4 {
			continue
		}
		text := fmt.Sprintf("%d:", r.Priority)
		if r.Invert {
			text += " not"
		}
		text += " from " + prefixText(r.Src)
		if r.Dst != nil {
			text += " to " + prefixText(r.Dst)
		}
		if r.Mask != nil {
			text += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, *r.Mask)
		}
		switch {
		case r.Goto > 0:
			text += fmt.Sprintf(" goto %d", r.Goto)
		case r.Table == 0:
			text += " nop"
		default:
			text += " lookup " + tableText(r.Table)
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}

func prefixText(p *net.IPNet) string {
	if p == nil {
		return "all"
	}
	if ones, bits := p.Mask.Size(); ones == bits {
		return p.IP.String()
	}
	return p.String()
}

func tableText(table int) string {
	switch table {
	case unix.RT_TABLE_LOCAL:
		return "local"
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_DEFAULT:
		return "default"
	}
	return fmt.Sprint(table)
}

// routes returns the node's IPv4 routes in all tables but the local one.
func (l *lab) routes() string {
	listed, err := l.node.AllRoutes()
	l.ok(err)
	var all []string
	for _, r := range listed {
		if r.Table == unix.RT_TABLE_LOCAL || r.Family != netlink.FAMILY_V4 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		l.ok(err)
		text := "default"
		if r.Dst != nil && r.Dst.String() != "0.0.0.0/0" {
			text = prefixText(r.Dst)
		}
		if r.Gw != nil {
			text += " via " + r.Gw.String()
		}
		text += " dev " + link.Attrs().Name
		if r.Table != unix.RT_TABLE_MAIN {
			text += fmt.Sprintf(" table %d", r.Table)
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// addresses returns the IPv4 addresses of the ENIs, with their MTU.
func (l *lab) addresses() string {
	var all []string
	for device := range 3 {
		link, err := netlink.LinkByName(fmt.Sprintf("eth%d", device))
		if err != nil {
			continue
		}
		text := fmt.Sprintf("%s mtu %d", link.Attrs().Name, link.Attrs().MTU)
		addrs, err := netlinksafe.AddrList(link, netlink.FAMILY_V4)
		l.ok(err)
		for _, addr := range addrs {
			text += " " + addr.IPNet.String()
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}
