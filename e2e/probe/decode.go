package probe

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// decoded is a packet with everything that a Match compares.
type decoded struct {
	Packet
	hosts []netip.Addr
	ports []uint16
}

// decode reads as many headers as it knows. For an unknown one, the protocol is the name of the header.
func decode(raw []byte, from *unix.SockaddrLinklayer) decoded {
	var d decoded
	for _, layer := range gopacket.NewPacket(raw, firstLayer(from), gopacket.NoCopy).Layers() {
		switch l := layer.(type) {
		case *layers.Ethernet:
			d.SourceMAC, d.DestinationMAC = l.SrcMAC.String(), l.DstMAC.String()
			d.Protocol = l.EthernetType.String()
			d.Info = d.Protocol
		case *layers.ARP:
			d.arp(l)
		case *layers.IPv4:
			d.ip(l.SrcIP, l.DstIP, l.Protocol)
			if l.FragOffset > 0 || l.Flags&layers.IPv4MoreFragments != 0 {
				d.Info = fmt.Sprintf("%s fragment at %d", d.Protocol, int(l.FragOffset)*8)
			}
		case *layers.IPv6:
			d.ip(l.SrcIP, l.DstIP, l.NextHeader)
		case *layers.IPv6Fragment:
			d.ip(nil, nil, l.NextHeader)
			d.Info = fmt.Sprintf("%s fragment at %d", d.Protocol, int(l.FragmentOffset)*8)
		case *layers.IPv6HopByHop:
			d.ip(nil, nil, l.NextHeader)
		case *layers.TCP:
			d.ports = []uint16{uint16(l.SrcPort), uint16(l.DstPort)}
			d.Info = fmt.Sprintf("TCP %d > %d %s", l.SrcPort, l.DstPort, flags(l))
			return d
		case *layers.UDP:
			d.ports = []uint16{uint16(l.SrcPort), uint16(l.DstPort)}
			d.Info = fmt.Sprintf("UDP %d > %d length %d", l.SrcPort, l.DstPort, int(l.Length)-udpHeader)
			// The content of a tunnel appears as a packet on the tunnel's interface.
			return d
		default:
			d.icmp(layer)
		}
	}
	return d
}

// firstLayer returns the type of the first layer of a frame on this interface: tunnels have no link layer header.
func firstLayer(from *unix.SockaddrLinklayer) gopacket.Decoder {
	if from.Hatype == unix.ARPHRD_ETHER || from.Hatype == unix.ARPHRD_LOOPBACK {
		return layers.LayerTypeEthernet
	}
	if from.Protocol == networkOrder(unix.ETH_P_IPV6) {
		return layers.LayerTypeIPv6
	}
	return layers.LayerTypeIPv4
}

func (d *decoded) arp(l *layers.ARP) {
	sender, target := addrOf(l.SourceProtAddress), addrOf(l.DstProtAddress)
	d.hosts = append(d.hosts, sender, target)
	d.Protocol, d.Source, d.Destination = "ARP", sender.String(), target.String()
	d.Info = fmt.Sprintf("ARP who has %s tell %s", target, sender)
	if l.Operation == layers.ARPReply {
		d.Info = fmt.Sprintf("ARP %s is at %s", sender, net.HardwareAddr(l.SourceHwAddress))
	}
}

// ip records an IP header; extension headers have no addresses.
func (d *decoded) ip(source, destination net.IP, next layers.IPProtocol) {
	if source != nil {
		from, to := addrOf(source), addrOf(destination)
		d.hosts = append(d.hosts, from, to)
		d.Source, d.Destination = from.String(), to.String()
	}
	d.Protocol = next.String()
	if next == layers.IPProtocolICMPv4 {
		d.Protocol = "ICMP"
	}
	d.Info = d.Protocol
}

// icmp records an ICMP header. Neighbour messages are described by their target, like ARP. It does not read the packets
// that errors quote.
func (d *decoded) icmp(layer gopacket.Layer) {
	switch l := layer.(type) {
	case *layers.ICMPv4:
		switch l.TypeCode.Type() {
		case layers.ICMPv4TypeEchoRequest:
			d.Info = fmt.Sprintf("ICMP echo request seq %d", l.Seq)
		case layers.ICMPv4TypeEchoReply:
			d.Info = fmt.Sprintf("ICMP echo reply seq %d", l.Seq)
		default:
			d.Info = "ICMP " + l.TypeCode.String()
		}
	case *layers.ICMPv6:
		switch l.TypeCode.Type() {
		case layers.ICMPv6TypeEchoRequest:
			d.Info = "ICMPv6 echo request"
		case layers.ICMPv6TypeEchoReply:
			d.Info = "ICMPv6 echo reply"
		default:
			d.Info = "ICMPv6 " + l.TypeCode.String()
		}
	case *layers.ICMPv6Echo:
		d.Info = fmt.Sprintf("%s seq %d", d.Info, l.SeqNumber)
	case *layers.ICMPv6NeighborSolicitation:
		target := addrOf(l.TargetAddress)
		d.hosts = append(d.hosts, target)
		d.Info = fmt.Sprintf("NS who has %s", target)
	case *layers.ICMPv6NeighborAdvertisement:
		target := addrOf(l.TargetAddress)
		d.hosts = append(d.hosts, target)
		d.Info = fmt.Sprintf("NA %s is at %s", target, d.advertised(l))
	case *layers.ICMPv6RouterSolicitation:
		d.Info = "RS"
	case *layers.ICMPv6RouterAdvertisement:
		d.Info = fmt.Sprintf("RA lifetime %ds", l.RouterLifetime)
	}
}

// advertised returns the link layer address in a neighbour advertisement. An answer to a unicast solicitation may omit
// it (RFC 4861, 4.4); then it is the sender's address.
func (d *decoded) advertised(l *layers.ICMPv6NeighborAdvertisement) string {
	for _, option := range l.Options {
		if option.Type == layers.ICMPv6OptTargetAddress {
			return net.HardwareAddr(option.Data).String()
		}
	}
	return d.SourceMAC
}

func flags(l *layers.TCP) string {
	var set []string
	for _, flag := range []struct {
		on   bool
		name string
	}{{l.SYN, "SYN"}, {l.FIN, "FIN"}, {l.RST, "RST"}, {l.PSH, "PSH"}, {l.ACK, "ACK"}} {
		if flag.on {
			set = append(set, flag.name)
		}
	}
	return strings.Join(set, " ")
}

// networkOrder returns a number in the byte order that the kernel expects for the bytes of a header.
func networkOrder(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}
