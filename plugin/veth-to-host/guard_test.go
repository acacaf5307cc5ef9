package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/plugin/internal/kernel"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

const guardPort = 9

// inbox receives UDP packets on the node, and returns their sources until one says "last". What comes from those that
// the node asked is a reply.
func inbox(t *testing.T, n ns.NetNS, asked ...string) func() []string {
	t.Helper()
	var conn net.PacketConn
	in(t, n, func() (err error) {
		if conn, err = net.ListenPacket("udp", fmt.Sprintf("[::]:%d", guardPort)); err != nil {
			return err
		}
		for _, ip := range asked {
			if _, err := conn.WriteTo(nil, &net.UDPAddr{IP: net.ParseIP(ip), Port: guardPort}); err != nil {
				return err
			}
		}
		return nil
	})
	t.Cleanup(func() { conn.Close() })
	return func() []string {
		t.Helper()
		var sources []string
		buffer := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				t.Fatal(err)
			}
			if string(buffer[:size]) == "last" {
				slices.Sort(sources)
				return sources
			}
			sources = append(sources, strings.TrimPrefix(from.(*net.UDPAddr).IP.String(), "::ffff:"))
		}
	}
}

// frame returns an Ethernet frame with a UDP packet.
func frame(t *testing.T, link *netlink.LinkAttrs, to, from, dst, text string) []byte {
	t.Helper()
	mac, err := net.ParseMAC(to)
	if err != nil {
		t.Fatal(err)
	}
	source, destination := netip.MustParseAddr(from), netip.MustParseAddr(dst)
	udp := &layers.UDP{SrcPort: guardPort, DstPort: guardPort}
	eth := &layers.Ethernet{SrcMAC: link.HardwareAddr, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: source.AsSlice(), DstIP: destination.AsSlice(),
	}
	if destination.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: source.AsSlice(),
			DstIP: destination.AsSlice(),
		}
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, eth, ip, udp, gopacket.Payload(text)); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// sendRaw sends packets over a veth of the pod, as root in it can: each from a source to a destination.
func (p *pod) sendRaw(t *testing.T, name, to string, packets ...[3]string) {
	t.Helper()
	in(t, p.ns, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, packet := range packets {
			raw := frame(t, link.Attrs(), to, packet[0], packet[1], packet[2])
			on := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6}
			if err := unix.Sendto(fd, raw, 0, on); err != nil {
				return err
			}
		}
		return nil
	})
}

// openNode makes the kernel of the node accept whatever it can.
func openNode(t *testing.T, n *labNode, links ...string) {
	t.Helper()
	n.in(t, func() error {
		for _, link := range append(links, "all") {
			for key, value := range map[string]string{"rp_filter": "0", "route_localnet": "1"} {
				if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+link+"/"+key, []byte(value), 0); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// K07, K08: over the veth a pod reaches its node with its own addresses only, and not the node's loopback. Without the
// plugin's chain everything arrives.
func TestGuard(t *testing.T) {
	l := newLab(t)
	p, other := l.pod(l.node1, "p1", 50, bridgeMode), l.pod(l.node1, "p1b", 51, bridgeMode)
	l.node1.mustAdd(t, p)
	l.node1.mustAdd(t, other)
	id := identity{p.attachment(), 0}
	openNode(t, l.node1, id.name())
	received := inbox(t, l.node1.ns)
	send := func() {
		p.sendRaw(t, "veth0", id.mac("host").String(),
			[3]string{"10.10.20.50", "10.10.20.152", ""},
			[3]string{"10.10.20.51", "10.10.20.152", ""},  // another pod's
			[3]string{"10.10.20.200", "10.10.20.152", ""}, // of a host on the LAN, such as one for which the pod forwards
			[3]string{"10.10.20.50", "127.0.0.1", ""},
			[3]string{"fd00:20::50", "fd00:20::152", ""},
			[3]string{"fd00:20::51", "fd00:20::152", ""},
			[3]string{"fd00:20::152", "fd00:20::152", ""}, // the node's own
			[3]string{"10.10.20.50", "10.10.20.152", "last"},
		)
	}
	send()
	if diff := cmp.Diff([]string{"10.10.20.50", "fd00:20::50"}, received()); diff != "" {
		t.Errorf("with the chain (-want +got):\n%s", diff)
	}
	l.node1.in(t, flushChains(guardRaw, guardChain, guardReplies))
	send()
	all := []string{
		"10.10.20.200", "10.10.20.50", "10.10.20.50", "10.10.20.51", "fd00:20::152", "fd00:20::50", "fd00:20::51",
	}
	if diff := cmp.Diff(all, received()); diff != "" {
		t.Errorf("without the chain (-want +got):\n%s", diff)
	}
}

func flushChains(names ...string) func() error {
	return editTable(func(c *nftables.Conn, t *nodeTable) {
		for _, name := range names {
			c.FlushChain(&nftables.Chain{Name: name, Table: t.Table})
		}
	})
}

// A pod cannot answer what its node asked somebody else. Without the plugin's second chain it can. That answers to what
// the pod itself asked arrive is a matter of TestPaths.
func TestGuard_of_replies(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	l.node1.mustAdd(t, p)
	id := identity{p.attachment(), 0}
	openNode(t, l.node1, id.name())
	received := inbox(t, l.node1.ns, "10.10.20.200", "fd00:20::200")
	send := func() {
		p.sendRaw(t, "veth0", id.mac("host").String(),
			[3]string{"10.10.20.200", "10.10.20.152", ""}, [3]string{"fd00:20::200", "fd00:20::152", ""},
			[3]string{"10.10.20.201", "10.10.20.152", ""}, [3]string{"fd00:20::201", "fd00:20::152", ""},
			[3]string{"10.10.20.50", "10.10.20.152", "last"})
	}
	send()
	if got := received(); len(got) != 0 {
		t.Errorf("with the chain: got packets from %s, want none", got)
	}
	l.node1.in(t, flushChains(guardReplies))
	send()
	if diff := cmp.Diff([]string{"10.10.20.200", "fd00:20::200"}, received()); diff != "" {
		t.Errorf("without the chain (-want +got):\n%s", diff)
	}
}

// A pod answers its node over the veth with the address that it has on another network, but not with one that it took
// from another pod before it got this one.
func TestGuard_of_a_pod_on_several_networks(t *testing.T) {
	l := newLab(t)
	p, other := l.pod(l.node1, "p1", 50, bridgeMode), l.pod(l.node1, "p1b", 51, bridgeMode)
	l.node1.mustAdd(t, other)
	in(t, p.ns, func() error {
		if err := addVeth("first", "first-peer"); err != nil {
			return err
		}
		return plugintest.Configure("first", "10.244.0.9/24", "10.10.20.51/32")
	})
	l.node1.mustAdd(t, p)
	l.macvlan(l.node1, p, "eth1", uplink, bridgeMode, "10.10.20.60/24")
	second := p.call("ADD", map[string]any{"containerInterface": "veth1", "prevResult": p.prevOf("eth1", "10.10.20.60/24")})
	second.IfName = "eth1"
	if _, err := l.node1.run(t, second); err != nil {
		t.Fatal(err)
	}
	id := identity{p.attachment(), 0}
	openNode(t, l.node1, id.name())
	received := inbox(t, l.node1.ns)
	send := func(want ...string) {
		t.Helper()
		p.sendRaw(t, "veth0", id.mac("host").String(),
			[3]string{"10.244.0.9", "10.10.20.152", ""}, [3]string{"10.10.20.51", "10.10.20.152", ""},
			[3]string{"10.10.20.60", "10.10.20.152", ""}, [3]string{"10.10.20.50", "10.10.20.152", "last"})
		if diff := cmp.Diff(want, received()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	send("10.10.20.60", "10.244.0.9")
	second.Command = "DEL"
	l.node1.mustDel(t, second)
	send("10.244.0.9")
}

// If an ADD is repeated after the pod got another address, the pod may not send with the one before, which only the old
// veth had: another pod may get it.
func TestGuard_of_a_pod_that_was_added_again(t *testing.T) {
	l := newLab(t)
	p := l.pod(l.node1, "p1", 50, bridgeMode)
	l.node1.mustAdd(t, p)
	in(t, p.ns, func() error {
		return errors.Join(deleteAddress("eth0", "10.10.20.50/24"), plugintest.Configure("eth0", "10.10.20.60/24"))
	})
	p.ips[0] = "10.10.20.60/24"
	l.node1.mustAdd(t, p)
	id := identity{p.attachment(), 0}
	openNode(t, l.node1, id.name())
	received := inbox(t, l.node1.ns)
	p.sendRaw(t, "veth0", id.mac("host").String(),
		[3]string{"10.10.20.50", "10.10.20.152", ""}, [3]string{"10.10.20.60", "10.10.20.152", "last"})
	if got := received(); len(got) > 0 {
		t.Errorf("got packets from %s, want none from the address that the pod had before", got)
	}
}

// Nothing is dropped of what the pod of an earlier version's record sends, and CHECK of it succeeds.
func TestGuard_of_an_earlier_record(t *testing.T) {
	old := []entry{{State: attachment{Veth: kernel.Veth{Host: "vethold"}}}}
	if got := newNodeTable(old); got.guarded != nil {
		t.Errorf("a record without sources: got sets %v, want none that guard", got.sets)
	}
	if got := old[0].State.hostSysctls(); slices.Contains(got, quiet()) {
		t.Errorf("a record without sources: got %v, want no arp_ignore", got)
	}
	fresh := entry{State: attachment{Veth: kernel.Veth{Host: "vethnew"}, Sources: []netip.Addr{nowhere(false)}}}
	table := newNodeTable(append(old, fresh))
	if got := len(table.elements["guarded"]); got != 1 {
		t.Errorf("got %d guarded links, want 1", got)
	}
}
