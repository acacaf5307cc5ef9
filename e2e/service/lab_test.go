package service

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/probe"
)

// lab is a node that forwards between a client and two pods, each on its own veth:
//
//	client 10.1.0.2 ── 10.1.0.1 node 10.2.1.1 ── 10.2.1.2 pod one
//	                                10.2.2.1 ── 10.2.2.2 pod two
//
// and the same with fd00:1::2 and so on. Pod two stands for a pod on another node: its replies pass this node as well.
// All default routes lead to the client, so that cluster IPs have a route.
type lab struct {
	client, node, one, two *machine
}

// machine is a namespace that only an open file keeps alive.
type machine struct {
	ns   ns.NetNS
	path string
}

func newHost(t *testing.T) *machine {
	t.Helper()
	n, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	h := &machine{ns: n, path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd())}
	h.do(t, func() error {
		// A redirect uses up the tokens that the kernel needs for the port unreachable of a REJECT to the same host
		// (ip_rt_send_redirect in net/ipv4/route.c), and a client to which its node's default route leads gets
		// redirects.
		for _, name := range []string{
			"ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad", "ipv4/conf/all/rp_filter",
			"ipv4/conf/default/rp_filter",
			"ipv4/conf/all/send_redirects", "ipv4/conf/default/send_redirects",
		} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte("0"), 0o644); err != nil {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return h
}

// do runs fn on a thread in the host.
func (h *machine) do(t *testing.T, fn func() error) {
	t.Helper()
	if err := h.ns.Do(func(ns.NetNS) error { return fn() }); err != nil {
		t.Fatal(err)
	}
}

// newLab makes a lab. It skips the test if the user may not make one.
func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	l := &lab{client: newHost(t), node: newHost(t), one: newHost(t), two: newHost(t)}
	for _, plug := range []struct {
		host *machine
		link string
		net  string // 10.NET and fd00:NET
	}{{l.client, "uplink", "1.0"}, {l.one, "pod1", "2.1"}, {l.two, "pod2", "2.2"}} {
		net6 := map[string]string{"1.0": "1", "2.1": "21", "2.2": "22"}[plug.net]
		l.node.do(t, func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = plug.link
			return netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(plug.host.ns.Fd())),
			})
		})
		l.node.do(t, func() error { return address(plug.link, "10."+plug.net+".1/24", "fd00:"+net6+"::1/64") })
		plug.host.do(t, func() error {
			if err := address("eth0", "10."+plug.net+".2/24", "fd00:"+net6+"::2/64"); err != nil {
				return err
			}
			return defaultRoutes("10."+plug.net+".1", "fd00:"+net6+"::1")
		})
	}
	l.node.do(t, func() error {
		for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return defaultRoutes("10.1.0.2", "fd00:1::2")
	})
	l.listen(t, l.one, "one")
	l.listen(t, l.two, "two")
	return l
}

// listen starts the servers of a pod.
func (l *lab) listen(t *testing.T, h *machine, name string) (stop func()) {
	t.Helper()
	var listeners []*probe.Listener
	for _, s := range []probe.ListenSpec{
		{Protocol: probe.TCP, Port: 8080, Name: name}, {Protocol: probe.UDP, Port: 8053, Name: name},
	} {
		listener, err := probe.Listen(h.path, s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		listeners = append(listeners, listener)
	}
	return func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
	}
}

// address adds addresses to link and brings it up, so that it can be used at once.
func address(link, ipv4, ipv6 string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	for _, cidr := range []string{ipv4, ipv6} {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if cidr == ipv6 {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

func defaultRoutes(gateways ...string) error {
	for _, gateway := range gateways {
		if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}); err != nil {
			return fmt.Errorf("default route via %s: %w", gateway, err)
		}
	}
	return nil
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

// labServices returns the services of testdata/kube-proxy-*. Each name says what is special about the service.
func labServices() []Service {
	one, two := []Endpoint{}, []Endpoint{}
	for _, a := range []string{"10.2.1.2", "fd00:21::2"} {
		one = append(one, Endpoint{Address: netip.MustParseAddr(a), Local: true})
	}
	for _, a := range []string{"10.2.2.2", "fd00:22::2"} {
		two = append(two, Endpoint{Address: netip.MustParseAddr(a)})
	}
	var services []Service
	add := func(name string, last byte, nodePort uint16, localOnly bool, endpoints ...Endpoint) {
		ips := []netip.Addr{
			netip.AddrFrom4([4]byte{10, 96, 0, last}), netip.MustParseAddr(fmt.Sprintf("fd96::%d", last)),
		}
		for i, s := range []Service{
			{Name: "lab/" + name + ":http", Protocol: TCP, Port: 80, NodePort: nodePort},
			{Name: "lab/" + name + ":dns", Protocol: UDP, Port: 53, NodePort: nodePort + 1},
		} {
			s.ClusterIPs, s.LocalOnly = ips, localOnly
			if nodePort == 0 {
				s.NodePort = 0
			}
			for _, e := range endpoints {
				e.Port = []uint16{8080, 8053}[i]
				s.Endpoints = append(s.Endpoints, e)
			}
			services = append(services, s)
		}
	}
	add("web", 10, 30010, false, append(append([]Endpoint{}, one...), two...)...)
	add("local", 20, 30020, true, append(append([]Endpoint{}, one...), two...)...)
	add("elsewhere", 30, 30030, true, two...)
	add("empty", 40, 30040, false)
	add("alone", 50, 0, false, one...)
	return services
}
