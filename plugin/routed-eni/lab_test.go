package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// lab is a node with two ENIs in a VPC whose router drops packets from an ENI that does not have their source address.
// The second ENI has the addresses of the seed.
//
//	node  eth0 10.0.0.10, pods 10.0.0.30 and .31 ────── up0 10.0.0.1
//	      eth1 10.0.97.10, pods 10.0.97.30 and .31 ──── up1 10.0.97.1   vpc
type lab struct {
	t         *testing.T
	node, vpc ns.NetNS
	dir       string
	metadata  *metadata
	kill      func() // kills ipamd at once
}

// eni is a network interface of the node.
type eni struct {
	link, mac        string
	subnet, own, via netip.Addr // the subnet's length is 24
	pods             []string
	prefix6          string
}

func enis() []eni {
	at := netip.MustParseAddr
	return []eni{
		{link: "eth0", mac: "02:00:00:00:00:10", subnet: at("10.0.0.0"), own: at("10.0.0.10"), via: at("10.0.0.1"), pods: []string{"10.0.0.30", "10.0.0.31"}},
		{
			link: "eth1", mac: "02:00:00:00:00:11", subnet: at("10.0.97.0"), own: at("10.0.97.10"),
			via:  at("10.0.97.1"),
			pods: []string{"10.0.97.30", "10.0.97.31"},
		},
	}
}

// newLab makes a lab. The daemon is not started.
func newLab(t *testing.T, interfaces ...eni) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if err := os.RemoveAll("/run/cni"); err != nil {
		t.Fatal(err)
	}
	if interfaces == nil {
		interfaces = enis()
	}
	strict := map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "1",
		"ipv4/conf/default/rp_filter": "1",
	}
	l := &lab{
		t: t, node: plugintest.NewNamespace(t, strict), vpc: plugintest.NewNamespace(t, strict), dir: t.TempDir(),
		metadata: &metadata{},
	}
	for i, e := range interfaces {
		l.plug(e, fmt.Sprintf("up%d", i))
	}
	l.in(l.node, func() error {
		return errors.Join(
			netlink.RouteAdd(&netlink.Route{Gw: interfaces[0].via.AsSlice()}),
			netlink.RouteAdd(&netlink.Route{
				Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gw: net.ParseIP("fd00::1"),
			}))
	})
	l.metadata.set(interfaces)
	return l
}

// plug connects an ENI. The router knows by itself which MAC has which address, as the cloud does.
func (l *lab) plug(e eni, peer string) {
	l.t.Helper()
	mac, err := net.ParseMAC(e.mac)
	if err != nil {
		l.t.Fatal(err)
	}
	l.in(l.node, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = e.link, mac
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(int(l.vpc.Fd())),
		}); err != nil {
			return err
		}
		addrs := []string{e.own.String() + "/24"}
		if e.link == "eth0" {
			addrs = append(addrs, "fd00::10/64")
		}
		return plugintest.Configure(e.link, addrs...)
	})
	l.in(l.vpc, func() error {
		addrs := []string{e.via.String() + "/24"}
		if e.link == "eth0" {
			addrs = append(addrs, "fd00::1/64")
		}
		if err := plugintest.Configure(peer, addrs...); err != nil {
			return err
		}
		link, err := netlink.LinkByName(peer)
		if err != nil {
			return err
		}
		for _, ip := range e.pods {
			err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, IP: net.ParseIP(ip), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
			})
			if err != nil {
				return err
			}
		}
		if e.prefix6 == "" {
			return nil
		}
		_, prefix, err := net.ParseCIDR(e.prefix6)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: prefix, Gw: net.ParseIP("fd00::10"), LinkIndex: link.Attrs().Index})
	})
}

func (l *lab) in(n ns.NetNS, do func() error) {
	l.t.Helper()
	plugintest.In(l.t, n, do)
}

func (l *lab) socket() string { return filepath.Join(l.dir, "ipamd.sock") }

// start starts ipamd on the node and waits until it answers.
func (l *lab) start(more ...string) {
	l.t.Helper()
	var url string
	l.in(l.node, func() (err error) {
		url, err = l.metadata.serve(l.t)
		return err
	})
	args := append([]string{
		"--metadata-endpoint", url, "--socket", l.socket(), "--state", filepath.Join(l.dir, "state.json"),
		"--introspection", filepath.Join(l.dir, "introspection.sock"), "--node-ports=false", "--cooling", "0s",
		"--log-level", "error",
	}, more...)
	ipamd := exec.Command(filepath.Join(plugintest.BinDir(), "ipamd"), args...)
	ipamd.Stderr = os.Stderr
	ipamd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	l.launch(ipamd)
	l.eventually("ipamd answers", func() bool { return l.status() == nil })
}

// launch starts a process that ends with the test. Its thread lives as long as the process: for the kernel, a process's
// parent is the thread that started it (PR_SET_PDEATHSIG).
func (l *lab) launch(cmd *exec.Cmd) {
	l.t.Helper()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.node.Do(func(ns.NetNS) error {
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait()
			}
			return nil
		})
	}()
	if err := <-started; err != nil {
		l.t.Fatal(err)
	}
	l.kill = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	l.t.Cleanup(l.kill)
}

// assigned returns how many addresses ipamd has given out.
func (l *lab) assigned() int {
	l.t.Helper()
	var all []any
	if err := json.Unmarshal([]byte(l.shown("/v1/assignments")), &all); err != nil {
		l.t.Fatal(err)
	}
	return len(all)
}

// shown returns an answer of ipamd's introspection.
func (l *lab) shown(path string) string {
	l.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string,
		string,
	) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(l.dir, "introspection.sock"))
	}}}
	response, err := client.Get("http://ipamd" + path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		l.t.Fatalf("%s: %s, %v", path, response.Status, err)
	}
	return string(body)
}

// patience bounds how long a test waits for an event that never comes. No verdict depends on it.
const patience = 2 * time.Minute

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("want that %s", what)
		}
	}
}

// pod is a namespace, empty at first, and the answer of the last ADD.
type pod struct {
	ns     ns.NetNS
	id     string
	result string
}

func (l *lab) pod(id string) *pod {
	l.t.Helper()
	return &pod{ns: plugintest.NewNamespace(l.t, nil), id: id}
}

// conf returns a configuration of the plugin with changes; a nil value leaves a key out.
func (l *lab) conf(changes map[string]any) string {
	c := map[string]any{"cniVersion": "1.1.0", "name": "net", "type": pluginName, "socket": l.socket()}
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
	return c.Run(l.t, pluginName, l.starter())
}

func (l *lab) starter() func(*exec.Cmd) error {
	return func(cmd *exec.Cmd) error {
		return l.node.Do(func(ns.NetNS) error { return cmd.Start() })
	}
}

func (l *lab) addCall(p *pod, changes map[string]any) call {
	return call{Command: "ADD", ID: p.id, Netns: p.ns.Path(), Stdin: l.conf(changes)}
}

func (l *lab) add(p *pod, changes map[string]any) *cniError {
	l.t.Helper()
	out, err := l.run(l.addCall(p, changes))
	if err == nil {
		p.result = out
	}
	return err
}

func (l *lab) mustAdd(p *pod) {
	l.t.Helper()
	if err := l.add(p, nil); err != nil {
		l.t.Fatal(err)
	}
}

func (p *pod) prev() map[string]any { return map[string]any{"prevResult": json.RawMessage(p.result)} }

// silent runs a verb that prints nothing on success.
func (l *lab) silent(c call) *cniError {
	l.t.Helper()
	out, err := l.run(c)
	if err == nil && out != "" {
		l.t.Fatalf("%s: want no output, got %s", c.Command, out)
	}
	return err
}

func (l *lab) check(p *pod, changes map[string]any) *cniError {
	l.t.Helper()
	return l.silent(call{Command: "CHECK", ID: p.id, Netns: p.ns.Path(), Stdin: l.conf(with(p.prev(), changes))})
}

func (l *lab) mustDel(p *pod) {
	l.t.Helper()
	if err := l.silent(call{Command: "DEL", ID: p.id, Netns: p.ns.Path(), Stdin: l.conf(p.prev())}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) gc(valid ...*pod) *cniError {
	l.t.Helper()
	attachments := []any{}
	for _, p := range valid {
		attachments = append(attachments, map[string]any{"containerID": p.id, "ifname": "eth0"})
	}
	return l.silent(call{Command: "GC", Stdin: l.conf(map[string]any{"cni.dev/valid-attachments": attachments})})
}

func (l *lab) status() *cniError {
	l.t.Helper()
	return l.silent(call{Command: "STATUS", Stdin: l.conf(nil)})
}

func with(all, more map[string]any) map[string]any {
	merged := map[string]any{}
	for _, m := range []map[string]any{all, more} {
		for k, v := range m {
			merged[k] = v
		}
	}
	return merged
}

// wantError fails the test unless an error has the wanted text; "" means success.
func wantError(t *testing.T, err *cniError, want string) {
	t.Helper()
	got := err.String()
	if err == nil {
		got = ""
	}
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
