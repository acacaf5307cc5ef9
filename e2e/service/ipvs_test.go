package service

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
	"github.com/cnitest/cnitest/e2e/probe"
)

// pluginsEnv names the directory with the binaries of ipvlan, host-local and veth-to-host.
const pluginsEnv = "CNITEST_TEST_PLUGINS"

// TestIPVS makes what kube-proxy's mode ipvs makes, and pods on ipvlan with a veth to their node. There a service's
// address belongs to the node; IPVS takes connections where they are delivered, and sends their packets like the node's
// own. Replies of endpoints elsewhere return by way of the node even though kube-proxy does not arrange that: the
// plugin recognises the packets by the veth on which they arrived.
func TestIPVS(t *testing.T) {
	plugins := os.Getenv(pluginsEnv)
	if plugins == "" {
		t.Skip("needs plugins; make test-vm runs this with them")
	}
	if _, err := netlink.GenlFamilyGet("IPVS"); errors.Is(err, unix.ENOENT) {
		kerneltest.Lacks(t, "ipvs")
	}
	n := newIPVSNode(t, plugins)
	for _, tt := range []struct {
		name       string
		masquerade bool // kube-proxy --masquerade-all
		from       *machine
		to         string
		port       uint16
		want       probe.Answer
		wantErr    string
	}{
		{"pod to service with endpoint on its node", false, n.one, "10.96.0.10", 80, probe.Answer{Server: "two", PeerSeen: "192.168.1.2"}, ""},
		{"node to service", true, n.node, "10.96.0.10", 80, probe.Answer{Server: "two", PeerSeen: "192.168.0.2"}, ""},
		{"pod to service with endpoint elsewhere", false, n.one, "10.96.0.20", 80, probe.Answer{Server: "lan", PeerSeen: "192.168.0.2"}, ""},
		{"pod to service without virtual server", false, n.one, "10.96.0.30", 80, probe.Answer{}, "connect: connection refused"},
		{"pod to service with endpoint on its node, masqueraded", true, n.one, "10.96.0.10", 80, probe.Answer{Server: "two", PeerSeen: "192.168.0.2"}, ""},
		{"pod to service with endpoint elsewhere, masqueraded", true, n.one, "10.96.0.20", 80, probe.Answer{Server: "lan", PeerSeen: "192.168.0.2"}, ""},
		{"pod to itself by service, masqueraded", true, n.two, "10.96.0.10", 80, probe.Answer{Server: "two", PeerSeen: "192.168.0.2"}, ""},
		{"node port, masqueraded", true, n.lan, "192.168.0.2", 30080, probe.Answer{Server: "two", PeerSeen: "192.168.0.2"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n.masquerade(t, tt.masquerade)
			spec := probe.Spec{Protocol: probe.TCP, To: tt.to, Port: tt.port}
			if tt.wantErr != "" {
				spec.Attempts, spec.Within = 1, time.Second
			}
			r, err := probe.Run(t.Context(), tt.from.path, spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r.Error, tt.wantErr); diff != "" {
				t.Fatalf("error (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(probe.Answer{Server: r.Server, PeerSeen: r.PeerSeen}, tt.want); diff != "" {
				t.Errorf("who answered, and whom it saw (-got +want):\n%s", diff)
			}
		})
	}
}

// ipvsNode is a node with two pods, and the other host of its LAN:
//
//	lan 192.168.0.1 ── eno1 192.168.0.2 node ── pods one 192.168.1.2 and two 192.168.1.3
type ipvsNode struct {
	lan, node, one, two *machine
}

func newIPVSNode(t *testing.T, plugins string) *ipvsNode {
	t.Helper()
	n := &ipvsNode{lan: newHost(t), node: newHost(t), one: newHost(t), two: newHost(t)}
	n.node.do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eno1"
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(n.lan.ns.Fd())),
			}),
		)
	})
	n.lan.do(t, func() error { return address("eth0", "192.168.0.1/16", "fd00::1/64") })
	n.node.do(t, func() error {
		if err := address("eno1", "192.168.0.2/16", "fd00::2/64"); err != nil {
			return err
		}
		return defaultRoutes("192.168.0.1")
	})
	n.attach(t, plugins)
	for name, h := range map[string]*machine{"lan": n.lan, "two": n.two} {
		(&lab{}).listen(t, h, name)
	}
	n.node.do(t, n.balance)
	return n
}

// attach runs the plugins on a thread of the node; their files are not on a disk.
func (n *ipvsNode) attach(t *testing.T, plugins string) {
	t.Helper()
	list, err := libcni.ConfListFromFile("testdata/ipvlan.conflist")
	if err != nil {
		t.Fatal(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{plugins}, t.TempDir(), nil)
	add := func() error {
		err := errors.Join(n.node.ns.Set(), unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "",
			unix.MS_REC|unix.MS_PRIVATE, ""))
		for _, dir := range []string{"/run", "/var/lib"} {
			err = errors.Join(err, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
		}
		if err != nil {
			return err
		}
		for _, pod := range []struct {
			id string
			in *machine
		}{{"one", n.one}, {"two", n.two}} {
			if _, err := cni.AddNetworkList(t.Context(), list, &libcni.RuntimeConf{
				ContainerID: pod.id, NetNS: pod.in.path, IfName: "eth0",
			}); err != nil {
				return err
			}
		}
		return nil
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, with everything changed in it, ends
		done <- add()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// balance makes the services: their addresses belong to a dummy, and each service has one endpoint.
func (n *ipvsNode) balance() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "kube-ipvs0"
	// Without it connections pass POSTROUTING with their endpoint's address, and are not masqueraded
	// (netfilter/ipvs/ip_vs_nfct.c).
	err := errors.Join(os.WriteFile("/proc/sys/net/ipv4/vs/conntrack", []byte("1"), 0),
		netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}))
	if err != nil {
		return err
	}
	h, err := ipvs.New("")
	if err != nil {
		return err
	}
	defer h.Close()
	for _, s := range []struct {
		to       string
		port     uint16
		endpoint string
	}{
		{"10.96.0.10", 80, "192.168.1.3"},
		{"10.96.0.20", 80, "192.168.0.1"},
		{"192.168.0.2", 30080, "192.168.1.3"},
		{"10.96.0.30", 0, ""},
	} {
		link, err := netlink.LinkByName(attrs.Name)
		if err != nil {
			return err
		}
		ip := net.ParseIP(s.to)
		if s.to != "192.168.0.2" {
			if err := netlink.AddrAdd(link, &netlink.Addr{
				IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)},
			}); err != nil {
				return err
			}
		}
		if s.endpoint == "" {
			continue
		}
		virtual := &ipvs.Service{
			Address: ip, Protocol: unix.IPPROTO_TCP, Port: s.port, AddressFamily: unix.AF_INET,
			SchedName: ipvs.RoundRobin, Netmask: 0xffffffff,
		}
		if err := h.NewService(virtual); err != nil {
			return err
		}
		if err := h.NewDestination(virtual, &ipvs.Destination{
			Address: net.ParseIP(s.endpoint), Port: 8080, Weight: 1, AddressFamily: unix.AF_INET,
			ConnectionFlags: ipvs.ConnectionFlagMasq,
		}); err != nil {
			return err
		}
	}
	return nil
}

// masquerade makes packets that IPVS sends on have the node's address as source, or ends that.
func (n *ipvsNode) masquerade(t *testing.T, on bool) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.node.ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "kube-proxy", Family: nftables.TableFamilyIPv4})
	conn.FlushTable(table)
	if on {
		chain := conn.AddChain(&nftables.Chain{
			Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
			Priority: nftables.ChainPriorityNATSource,
		})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Masq{}}})
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}
