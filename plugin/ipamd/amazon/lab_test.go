package amazon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/imdstest"
)

// socket is the path that amazon's plugin dials, and introspection is where this ipamd shows its state. Both are in the
// lab's own /run.
const (
	socket        = "/var/run/aws-node/ipamd.sock"
	introspection = "/var/run/introspection.sock"
)

// lab is a node with two ENIs, in namespaces of the test's thread. All of it ends with the test.
type lab struct {
	t         *testing.T
	node, vpc netns.NsHandle
	plugin    string
	log       *bytes.Buffer
	run       string // the directory of /var/run
}

// newLab turns the calling thread into the node.
func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network and mount namespaces")
	}
	bin := t.TempDir()
	build(t, bin, ".", "github.com/aws/amazon-vpc-cni-k8s/cmd/routed-eni-cni-plugin")
	build(t, bin, "../../..", "./plugin/ipamd")
	runtime.LockOSThread() // never unlocked: the thread ends with the test

	l := &lab{t: t, plugin: filepath.Join(bin, "routed-eni-cni-plugin"), log: &bytes.Buffer{}}
	l.ok(unix.Unshare(unix.CLONE_NEWNS))
	l.ok(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	run, err := filepath.EvalSymlinks("/var/run")
	l.ok(err)
	l.ok(unix.Mount("tmpfs", run, "tmpfs", 0, ""))
	l.run = run
	l.vpc, l.node = l.namespace(), l.namespace()
	l.ok(netns.Set(l.node))
	l.buildNode()
	l.startIPAMD(filepath.Join(bin, "ipamd"))
	return l
}

func build(t *testing.T, bin, dir, pkg string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/", pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// namespace makes a network namespace and returns to the previous one.
func (l *lab) namespace() netns.NsHandle {
	l.t.Helper()
	before, err := netns.Get()
	l.ok(err)
	defer before.Close()
	fresh, err := netns.New()
	l.ok(err)
	l.t.Cleanup(func() { fresh.Close() })
	l.ok(errors.Join(up("lo"), netns.Set(before)))
	return fresh
}

// in calls do in another namespace.
func (l *lab) in(ns netns.NsHandle, do func() error) error {
	return errors.Join(netns.Set(ns), do(), netns.Set(l.node))
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func address(name, prefix string) error {
	link, linkErr := netlink.LinkByName(name)
	addr, addrErr := netlink.ParseAddr(prefix)
	if err := errors.Join(linkErr, addrErr); err != nil {
		return err
	}
	return netlink.AddrAdd(link, addr)
}

// buildNode makes the ENIs. Their other ends are the VPC's router, which drops packets that an ENI sends with the
// address of another one.
func (l *lab) buildNode() {
	l.ok(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	for device := range 2 {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = fmt.Sprintf("eth%d", device), mac(device)
		router := fmt.Sprintf("r%d", device)
		l.ok(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: router, PeerNamespace: netlink.NsFd(int(l.vpc)),
		}))
		l.ok(l.in(l.vpc, func() error {
			strict := os.WriteFile("/proc/sys/net/ipv4/conf/"+router+"/rp_filter", []byte("1"), 0o644)
			if err := errors.Join(up(router), address(router, fmt.Sprintf("10.0.%d.1/24", device)),
				strict); err != nil {
				return err
			}
			link, err := netlink.LinkByName(router)
			if err != nil {
				return err
			}
			for _, ip := range addresses(device) { // the VPC routes each address to its ENI
				err = errors.Join(err, netlink.NeighAdd(&netlink.Neigh{
					LinkIndex: link.Attrs().Index, IP: ip.AsSlice(),
					HardwareAddr: mac(device), State: netlink.NUD_PERMANENT,
				}))
			}
			return err
		}))
	}
	l.ok(errors.Join(up("eth0"), address("eth0", "10.0.0.10/24"), netlink.RouteAdd(&netlink.Route{
		Gw: net.IPv4(10, 0, 0, 1),
	})))
}

func mac(device int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(0x10 + device)} }

// addresses returns the addresses of an ENI for pods.
func addresses(device int) []netip.Addr {
	first := netip.AddrFrom4([4]byte{10, 0, byte(device), 20})
	return []netip.Addr{first, first.Next()}
}

func (l *lab) startIPAMD(program string) {
	service := &imdstest.Service{}
	inv := cloud.Inventory{
		InstanceID: "i-1", Region: "eu-central-1", VPC: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
	}
	for device := range 2 {
		inv.ENIs = append(inv.ENIs, cloud.ENI{
			ID: fmt.Sprintf("eni-%d", device), MAC: mac(device).String(), Device: device, Secondary: addresses(device),
			Subnet:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(device), 0}), 24),
			Address: netip.AddrFrom4([4]byte{10, 0, byte(device), 10}),
		})
	}
	service.Set(inv)
	server := httptest.NewServer(service) // listens in the node's namespace, where the metadata service is expected
	l.t.Cleanup(server.Close)
	cmd := exec.Command(program, "--metadata-endpoint", server.URL, "--socket", socket, "--introspection",
		introspection, "--state", "/var/run/state.json", "--cooling", "0s")
	cmd.Stdout, cmd.Stderr = l.log, l.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l.ok(cmd.Start())
	// Other threads of the test see the node's files there; a symbolic link would lead them to their own files.
	l.run = fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, l.run)
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if l.t.Failed() {
			l.t.Logf("ipamd:\n%s", l.log)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatal(err)
		}
	}
}

// pod is a namespace with a path, as a runtime makes it.
type pod struct {
	netns.NsHandle
	name, path string
	result     []byte
}

func (l *lab) newPod(name string) *pod {
	l.t.Helper()
	p := &pod{NsHandle: l.namespace(), name: name, path: "/var/run/netns-" + name}
	l.ok(os.WriteFile(p.path, nil, 0o600))
	l.ok(l.in(p.NsHandle, func() error { return unix.Mount("/proc/thread-self/ns/net", p.path, "", unix.MS_BIND, "") }))
	return p
}

// call calls amazon's plugin and returns what it printed.
func (l *lab) call(verb string, p *pod) ([]byte, error) {
	conf := map[string]any{
		"cniVersion": "1.0.0", "name": "aws-cni", "type": "routed-eni-cni-plugin", "mtu": "1500",
		"vethPrefix": "eni", "pluginLogFile": "stderr", "pluginLogLevel": "DEBUG",
	}
	if p.result != nil {
		conf["prevResult"] = json.RawMessage(p.result)
	}
	raw, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(l.plugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(raw), &stdout, &stderr
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.name, "CNI_NETNS=" + p.path, "CNI_IFNAME=eth0", "CNI_PATH=" +
			filepath.Dir(l.plugin),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=" + p.name + ";K8S_POD_INFRA_CONTAINER_ID=" +
			p.name,
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s\n%s", verb, p.name, err, &stdout, &stderr)
	}
	return stdout.Bytes(), nil
}

// add attaches a pod and returns its address.
func (l *lab) add(p *pod) netip.Addr {
	l.t.Helper()
	raw, err := l.call("ADD", p)
	l.ok(err)
	var result current.Result
	l.ok(json.Unmarshal(raw, &result))
	if len(result.IPs) != 1 {
		l.t.Fatalf("got %s, want one address", raw)
	}
	p.result = raw
	ip, _ := netip.AddrFromSlice(result.IPs[0].Address.IP)
	return ip.Unmap()
}

// podRules returns the node's rules for pods as ip prints them.
func (l *lab) podRules() string {
	rules, err := netlinksafe.RuleList(netlink.FAMILY_V4)
	l.ok(err)
	var all []string
	for _, r := range rules {
		switch r.Priority {
		case 512:
			all = append(all, fmt.Sprintf("512: from all to %s lookup %d", r.Dst.IP, r.Table))
		case 1536:
			all = append(all, fmt.Sprintf("1536: from %s lookup %d", r.Src.IP, r.Table))
		}
	}
	return strings.Join(all, "\n")
}

// status returns the answer of ipamd's introspection for a path.
func (l *lab) status(path string) string {
	l.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string,
		string,
	) (net.Conn, error) {
		return net.Dial("unix", l.run+strings.TrimPrefix(introspection, "/var/run"))
	}}}
	response, err := client.Get("http://ipamd" + path)
	l.ok(err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	l.ok(err)
	return strings.Join(strings.Fields(string(raw)), "")
}

// seen opens a connection from a namespace, sends 64 KiB each way and returns the client's address as the server saw
// it.
func (l *lab) seen(client, server netns.NsHandle, to string) string {
	l.t.Helper()
	var listener net.Listener
	l.ok(l.in(server, func() (err error) {
		listener, err = net.Listen("tcp4", to)
		return err
	}))
	defer listener.Close()
	deadline := time.Now().Add(5 * time.Second)
	peer := make(chan string, 1)
	go func() {
		defer close(peer)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(deadline)
		if _, err := io.Copy(conn, io.LimitReader(conn, 1<<16)); err == nil {
			peer <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
		}
	}()
	err := l.in(client, func() error {
		conn, err := net.DialTimeout("tcp4", to, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(deadline)
		go conn.Write(make([]byte, 1<<16))
		_, err = io.ReadFull(conn, make([]byte, 1<<16))
		return err
	})
	if err != nil {
		l.t.Errorf("to %s: %v", to, err)
		return ""
	}
	return <-peer
}
