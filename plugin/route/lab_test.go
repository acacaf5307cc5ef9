package main

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

const (
	masterMAC = "02:00:00:00:00:05"
	childMAC  = "2a:90:52:59:0a:43" // of eno1.host on masterMAC
	childLL   = "fe80::2890:52ff:fe59:a43"
)

// lab is a node with a master eno1, and a host on the LAN behind it.
type lab struct {
	t         *testing.T
	node, lan ns.NetNS
}

type pod struct {
	ns  ns.NetNS
	id  string
	ips []string
}

func newLab(t *testing.T, nodeAddrs ...string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if err := os.RemoveAll("/run/cni"); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, node: newNamespace(t), lan: newNamespace(t)}
	l.inNode(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eno1"
		attrs.HardwareAddr, _ = net.ParseMAC(masterMAC)
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(int(l.lan.Fd())),
		})
	})
	if nodeAddrs == nil {
		nodeAddrs = []string{"192.168.0.5/16", "fd00:20::5/64"}
	}
	l.inNode(func() error { return plugintest.Configure("eno1", nodeAddrs...) })
	l.in(l.lan, func() error { return plugintest.Configure("up0", "192.168.0.1/16", "fd00:20::1/64") })
	return l
}

func newNamespace(t *testing.T) ns.NetNS {
	t.Helper()
	return plugintest.NewNamespace(t, map[string]string{"ipv4/ip_forward": "1"})
}

func (l *lab) in(n ns.NetNS, do func() error) {
	l.t.Helper()
	plugintest.In(l.t, n, do)
}

func (l *lab) inNode(do func() error) {
	l.t.Helper()
	l.in(l.node, do)
}

// nic adds a second NIC to the node.
func (l *lab) nic(name string, addrs ...string) {
	l.t.Helper()
	l.inNode(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "p-" + name, PeerNamespace: netlink.NsFd(int(l.lan.Fd())),
		}); err != nil {
			return err
		}
		return plugintest.Configure(name, addrs...)
	})
	l.in(l.lan, func() error { return plugintest.Configure("p-" + name) })
}

// pod makes a pod as macvlan does: a namespace with eth0 on eno1 in mode bridge.
func (l *lab) pod(id string, ips ...string) *pod {
	l.t.Helper()
	p := &pod{ns: newNamespace(l.t), id: id, ips: ips}
	l.macvlan(p, "eth0", "eno1", netlink.MACVLAN_MODE_BRIDGE, ips...)
	return p
}

func (l *lab) macvlan(p *pod, name, master string, mode netlink.MacvlanMode, ips ...string) {
	l.t.Helper()
	link := plugintest.Macvlan{Name: name, Master: master, Mode: mode, MAC: podMAC(p.id, name), Addresses: ips}
	link.Add(l.t, l.node, p.ns)
}

func podMAC(id, link string) net.HardwareAddr {
	var hash uint32
	for _, b := range []byte(id + link[len(link)-1:]) {
		hash = hash*31 + uint32(b)
	}
	return net.HardwareAddr{2, 0, byte(hash >> 16), byte(hash >> 8), 1, byte(hash)}
}

// prev returns a prevResult of macvlan for the pod.
func (p *pod) prev() map[string]any {
	var ips []any
	for _, ip := range p.ips {
		ips = append(ips, map[string]any{"address": ip, "interface": 0})
	}
	return map[string]any{
		"cniVersion": "1.1.0",
		"interfaces": []any{map[string]any{"name": "eth0", "mac": podMAC(p.id, "eth0").String(), "sandbox": p.ns.Path()}},
		"ips":        ips,
	}
}

// conf returns a configuration of the plugin with changes; a nil value leaves a key out.
func conf(changes map[string]any) string {
	c := map[string]any{
		"cniVersion": "1.1.0", "name": "default", "type": "route", "master": "eno1", "bridge": "eno1.host",
	}
	for key, value := range changes {
		if c[key] = value; value == nil {
			delete(c, key)
		}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err.Error() // a mistake in a test's table, which no plugin accepts
	}
	return string(raw)
}

type (
	call     = plugintest.Call
	cniError = plugintest.Error
)

// run executes the plugin on the node.
func (l *lab) run(c call) (string, *cniError) {
	l.t.Helper()
	return c.Run(l.t, pluginName, func(cmd *exec.Cmd) error {
		return l.node.Do(func(ns.NetNS) error { return cmd.Start() })
	})
}

func (l *lab) add(p *pod, changes map[string]any) *cniError {
	l.t.Helper()
	_, err := l.run(call{
		Command: "ADD", ID: p.id, Netns: p.ns.Path(), Stdin: conf(with(changes, "prevResult", p.prev())),
	})
	return err
}

func (l *lab) mustAdd(p *pod) {
	l.t.Helper()
	if err := l.add(p, nil); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) mustDel(id string, changes map[string]any) {
	l.t.Helper()
	if out, err := l.run(call{Command: "DEL", ID: id, Stdin: conf(changes)}); err != nil || out != "" {
		l.t.Fatalf("DEL %s: %s%v", id, out, err)
	}
}

func (l *lab) gc(valid ...*pod) *cniError {
	l.t.Helper()
	attachments := []any{}
	for _, p := range valid {
		attachments = append(attachments, map[string]any{"containerID": p.id, "ifname": "eth0"})
	}
	out, err := l.run(call{Command: "GC", Stdin: conf(map[string]any{"cni.dev/valid-attachments": attachments})})
	if err == nil && out != "" {
		l.t.Fatalf("GC: want no output, got %s", out)
	}
	return err
}

func with(changes map[string]any, key string, value any) map[string]any {
	all := map[string]any{key: value}
	for k, v := range changes {
		all[k] = v
	}
	return all
}

// exchange sends a line each way over one TCP connection, and returns the address that the server saw.
func (l *lab) exchange(from ns.NetNS, to ns.NetNS, ip string) (netip.Addr, error) {
	l.t.Helper()
	var listener net.Listener
	l.in(to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(ip, "0"))
		return err
	})
	defer listener.Close()
	peer := make(chan netip.Addr, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		line := make([]byte, 5)
		if _, err := conn.Read(line); err != nil {
			return
		}
		conn.Write(line)
		seen, _ := netipx.FromStdIP(conn.RemoteAddr().(*net.TCPAddr).IP)
		peer <- seen
	}()
	var failed error
	l.in(from, func() error {
		failed = dial(listener.Addr().String())
		return nil
	})
	if failed != nil {
		return netip.Addr{}, failed
	}
	return <-peer, nil
}

func dial(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 5))
	return err
}

// mustReach fails the test unless a connection works and the server sees the client's address.
func (l *lab) mustReach(from, to ns.NetNS, ip, client string) {
	l.t.Helper()
	seen, err := l.exchange(from, to, ip)
	if err != nil {
		l.t.Errorf("connect to %s: %v", ip, err)
	} else if seen != netip.MustParseAddr(client) {
		l.t.Errorf("connect to %s: got client address %s, want %s", ip, seen, client)
	}
}

// check runs CHECK with the result that ADD would print.
func (l *lab) check(p *pod, changes map[string]any) *cniError {
	l.t.Helper()
	out, err := l.run(call{
		Command: "CHECK", ID: p.id, Netns: p.ns.Path(), Stdin: conf(with(changes, "prevResult", p.prev())),
	})
	if err == nil && out != "" {
		l.t.Fatalf("CHECK: want no output, got %s", out)
	}
	return err
}
