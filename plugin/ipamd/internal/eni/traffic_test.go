package eni

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	podIP    = "10.0.1.20" // an address of ENI 1
	outside  = "192.0.2.1" // an address behind the VPC's router
	nodeIP   = "10.0.0.10"
	nodePort = 30080
)

// TestTraffic sends packets through a node whose VPC, like a real cloud, drops packets that an ENI sends with another
// ENI's address.
func TestTraffic(t *testing.T) {
	for _, rpFilter := range []string{"0", "1", "2"} {
		t.Run("rp_filter "+rpFilter, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.ok(l.sysctl("ip_forward", "1"))
				l.ok(l.sysctl("conf/all/rp_filter", rpFilter))
				pod := l.pod()
				defer pod.Close()
				l.cloudChecks()
				l.ok(translateNodePort())
				if t.Failed() {
					return
				}
				l.ensure(l.options())

				// Within the VPC, peers see the pod's own address, and its packets use its own ENI.
				l.reach(pod, l.vpc, "10.0.1.1:80", podIP)
				l.reach(pod, l.vpc, "10.0.2.1:80", podIP)
				// Outside, peers see the node's address.
				l.reach(pod, l.vpc, outside+":80", nodeIP)
				// A node port works from inside and outside, and the pod sees the client's address.
				l.reachVia(l.vpc, pod, fmt.Sprintf("%s:%d", nodeIP, nodePort), podIP+":8080", "10.0.0.1")
			})
		})
	}
}

// The VPC's ranges decide which addresses are outside. The setting ExternalSNAT decides whether outside hosts see the
// node or the pod.
func TestTraffic_outside(t *testing.T) {
	for name, tt := range map[string]struct {
		ranges   []string
		external bool
		want     string
	}{
		"one range":            {[]string{"10.0.0.0/16"}, false, nodeIP},
		"several ranges":       {[]string{"10.0.0.0/16", "100.64.0.0/10"}, false, nodeIP},
		"in the second range":  {[]string{"10.0.0.0/16", "192.0.2.0/24"}, false, podIP},
		"external translation": {[]string{"10.0.0.0/16"}, true, podIP},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.ok(l.sysctl("ip_forward", "1"))
				pod := l.pod()
				defer pod.Close()
				l.cloudChecks()
				opts, inv := l.options(), inventory()
				opts.ExternalSNAT, inv.VPC = tt.external, nil
				for _, prefix := range tt.ranges {
					inv.VPC = append(inv.VPC, netip.MustParsePrefix(prefix))
				}
				if _, err := New(opts).Ensure(inv); err != nil {
					t.Error(err)
				}
				l.reach(pod, l.vpc, outside+":80", tt.want)
				l.reach(pod, l.vpc, "10.0.2.1:80", podIP)
			})
		})
	}
}

// This shows that the test of node ports can fail: without ipamd's part the replies leave by the wrong ENI and the VPC
// drops them.
func TestTraffic_withoutNodePorts(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ok(l.sysctl("ip_forward", "1"))
		pod := l.pod()
		defer pod.Close()
		l.cloudChecks()
		l.ok(translateNodePort())
		opts := l.options()
		opts.NodePorts = false
		l.ensure(opts)
		_, err := exchange(l.vpc, pod, fmt.Sprintf("%s:%d", nodeIP, nodePort), podIP+":8080", 500*time.Millisecond)
		if err == nil {
			t.Error("got a connection, want none")
		}
	})
}

// podLink is the node's end of the link of a pod.
const podLink = "eni0123456789a"

// podLink makes a namespace and a link from the node to it.
func (l *lab) podLink() ns.NetNS {
	pod, err := newNamespace()
	if err != nil {
		l.t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = podLink
	l.ok(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(pod.Fd()))}))
	return pod
}

// pod makes a pod on ENI 1, as the plugin does.
func (l *lab) pod() ns.NetNS {
	pod := l.podLink()
	l.ok(l.up(podLink))
	host, err := netlink.LinkByName(podLink)
	l.ok(err)
	address := &net.IPNet{IP: net.ParseIP(podIP), Mask: net.CIDRMask(32, 32)}
	l.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: host.Attrs().Index, Dst: address, Scope: netlink.SCOPE_LINK}))
	to, from := netlink.NewRule(), netlink.NewRule()
	to.Priority, to.Dst, to.Table = 512, address, unix.RT_TABLE_MAIN
	from.Priority, from.Src, from.Table = 1536, address, 2
	l.ok(netlink.RuleAdd(to))
	l.ok(netlink.RuleAdd(from))
	l.ok(pod.Do(func(ns.NetNS) error {
		l.ok(l.up("lo"))
		l.ok(l.up("eth0"))
		l.ok(l.address("eth0", podIP+"/32"))
		eth0, err := netlink.LinkByName("eth0")
		l.ok(err)
		index, gateway := eth0.Attrs().Index, net.IPv4(169, 254, 1, 1)
		l.ok(netlink.RouteAdd(&netlink.Route{
			LinkIndex: index, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}, Scope: netlink.SCOPE_LINK,
		}))
		l.ok(netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway}))
		return netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: index, IP: gateway, HardwareAddr: host.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT,
		})
	}))
	return pod
}

// cloudChecks makes the VPC deliver the pod's address to its ENI, and drop packets that an ENI sends with the address
// of another one.
func (l *lab) cloudChecks() {
	l.inVPC(func() error {
		l.ok(l.address("lo", outside+"/32"))
		for device := range 3 {
			l.ok(l.sysctl(fmt.Sprintf("conf/r%d/rp_filter", device), "1"))
		}
		r1, err := netlink.LinkByName("r1")
		l.ok(err)
		return netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: r1.Attrs().Index, IP: net.ParseIP(podIP),
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x11}, State: netlink.NUD_PERMANENT,
		})
	})
}

// translateNodePort adds the rule of a service proxy on the node.
func translateNodePort() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "proxy", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{
		Name: "pre", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		load(expr.MetaKeyL4PROTO), equals([]byte{unix.IPPROTO_TCP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equals([]byte{nodePort >> 8, nodePort & 0xff}),
		&expr.Immediate{Register: 1, Data: net.ParseIP(podIP).To4()}, &expr.Immediate{Register: 2, Data: []byte{8080 >> 8, 8080 & 0xff}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: 2, RegProtoMax: 2},
	}})
	return conn.Flush()
}

// reach opens a connection and checks that the server sees source as the client's address.
func (l *lab) reach(client, server ns.NetNS, address, source string) {
	l.t.Helper()
	l.reachVia(client, server, address, address, source)
}

func (l *lab) reachVia(client, server ns.NetNS, address, listen, source string) {
	l.t.Helper()
	got, err := exchange(client, server, address, listen, 2*time.Minute)
	if err != nil || got != source {
		l.t.Errorf("%s: got %q as the source and %v, want %q", address, got, err, source)
	}
}

// exchange sends 64 KiB each way on one connection, and returns the client's address as the server saw it.
func exchange(client, server ns.NetNS, address, listen string, within time.Duration) (string, error) {
	deadline := time.Now().Add(within)
	var listener net.Listener
	err := server.Do(func(ns.NetNS) (err error) {
		listener, err = net.Listen("tcp4", listen)
		return err
	})
	if err != nil {
		return "", err
	}
	defer listener.Close()
	peer := make(chan string, 1)
	go func() {
		defer close(peer)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(deadline)
		if n, err := io.Copy(conn, io.LimitReader(conn, 1<<16)); n == 1<<16 && err == nil {
			peer <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
		}
	}()
	err = client.Do(func(ns.NetNS) error {
		conn, err := net.DialTimeout("tcp4", address, within)
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
		return "", err
	}
	source, ok := <-peer
	if !ok {
		return "", os.ErrDeadlineExceeded
	}
	return source, nil
}
