package probe

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// attackMark begins the payload of each packet of an attack.
const attackMark = "cnitest hostile frame"

// frames returns the frames of the attack for a link with this MAC.
func (a Attack) frames(mac net.HardwareAddr) ([][]byte, error) {
	b := &frameBuilder{mac: mac}
	for _, text := range a.MACs {
		to, err := net.ParseMAC(text)
		if err != nil {
			return nil, err
		}
		known := func(m net.HardwareAddr) bool { return bytes.Equal(m, to) }
		if !slices.ContainsFunc(b.to, known) && !known(mac) {
			b.to = append(b.to, to)
		}
	}
	switch a.Kind {
	case AttackSpoof, AttackConnect:
		b.packets(a.As, a.To)
	case AttackLoopback:
		b.packets(append([]netip.Addr{loopback()}, a.Own...), []netip.Addr{loopback()})
	case AttackMAC:
		as, err := net.ParseMAC(a.AsMAC)
		if err != nil {
			return nil, err
		}
		b.mac = as
		b.packets(a.Own, a.To)
	case AttackTag:
		b.vlan = attackVLAN
		b.packets(a.Own, a.To)
	case AttackDHCP:
		b.offers(a.Own, a.To)
	case AttackClaim:
		b.claims(a.As)
	case AttackFlood:
		b.flood(a.To)
	case AttackRouter:
		return b.frames, errorsOf(b.err, b.router())
	default:
		return nil, fmt.Errorf("unknown attack %q", a.Kind)
	}
	return b.frames, b.err
}

// frameBuilder makes frames that leave a link with a MAC. After the first error it makes none.
type frameBuilder struct {
	mac    net.HardwareAddr
	to     []net.HardwareAddr
	vlan   uint16 // 0 means no tag
	frames [][]byte
	err    error
}

func errorsOf(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// packets makes UDP packets from each source to each destination of the same family, in a frame to each MAC.
func (b *frameBuilder) packets(from, to []netip.Addr) {
	for _, source := range from {
		for _, destination := range to {
			if source.Is4() != destination.Is4() {
				continue
			}
			for _, mac := range b.to {
				b.udp(mac, source, destination, AttackPort, []byte(attackMark))
			}
		}
	}
}

// udp makes one UDP packet.
func (b *frameBuilder) udp(mac net.HardwareAddr, from, to netip.Addr, port uint16, payload []byte) {
	udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: layers.UDPPort(port)}
	if to.Is4() {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice(),
		}
		b.add(mac, layers.EthernetTypeIPv4, udp.SetNetworkLayerForChecksum(ip), ip, udp, gopacket.Payload(payload))
		return
	}
	ip := &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice(),
	}
	b.add(mac, layers.EthernetTypeIPv6, udp.SetNetworkLayerForChecksum(ip), ip, udp, gopacket.Payload(payload))
}

// add makes one frame.
func (b *frameBuilder) add(mac net.HardwareAddr, kind layers.EthernetType, err error,
	inner ...gopacket.SerializableLayer,
) {
	if b.err = errorsOf(b.err, err); b.err != nil {
		return
	}
	ethernet := &layers.Ethernet{SrcMAC: b.mac, DstMAC: mac, EthernetType: kind}
	outer := []gopacket.SerializableLayer{ethernet}
	if b.vlan != 0 {
		ethernet.EthernetType = layers.EthernetTypeDot1Q
		outer = append(outer, &layers.Dot1Q{VLANIdentifier: b.vlan, Type: kind})
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if b.err = gopacket.SerializeLayers(buffer, options, append(outer, inner...)...); b.err == nil {
		b.frames = append(b.frames, slices.Clone(buffer.Bytes()))
	}
}

// offers makes DHCP offers to everybody (RFC 2131), of the victim's address.
func (b *frameBuilder) offers(own, to []netip.Addr) {
	for _, server := range own {
		for _, client := range to {
			if !server.Is4() || !client.Is4() {
				continue
			}
			offer := &layers.DHCPv4{
				Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
				YourClientIP: client.AsSlice(), NextServerIP: server.AsSlice(), ClientHWAddr: b.mac,
				ServerName: []byte(attackMark), Options: layers.DHCPOptions{
					layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(layers.DHCPMsgTypeOffer)}),
					layers.NewDHCPOption(layers.DHCPOptServerID, server.AsSlice()),
					layers.NewDHCPOption(layers.DHCPOptRouter, server.AsSlice()),
				},
			}
			ip := &layers.IPv4{
				Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: server.AsSlice(),
				DstIP: net.IPv4bcast.To4(),
			}
			udp := &layers.UDP{SrcPort: 67, DstPort: 68}
			b.add(layers.EthernetBroadcast, layers.EthernetTypeIPv4, udp.SetNetworkLayerForChecksum(ip), ip, udp, offer)
		}
	}
}

// claims says that addresses are at the link's MAC: by gratuitous ARP, as a request and as a reply (RFC 5227), and by
// unsolicited neighbour advertisements that override (RFC 4861, 7.2.6).
func (b *frameBuilder) claims(as []netip.Addr) {
	for _, addr := range as {
		if addr.Is4() {
			for _, operation := range []uint16{layers.ARPRequest, layers.ARPReply} {
				b.arp(operation, b.mac, addr, addr)
			}
			continue
		}
		b.neighbour(layers.ICMPv6TypeNeighborAdvertisement, addr, netip.IPv6LinkLocalAllNodes(),
			&layers.ICMPv6NeighborAdvertisement{
				Flags: 0x20, TargetAddress: addr.AsSlice(),
				Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: b.mac}},
			})
	}
}

// arp makes an ARP packet to everybody.
func (b *frameBuilder) arp(operation uint16, sender net.HardwareAddr, from, of netip.Addr) {
	b.add(layers.EthernetBroadcast, layers.EthernetTypeARP, nil, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: operation, SourceHwAddress: sender, SourceProtAddress: from.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: of.AsSlice(),
	})
}

// neighbour makes a message of neighbour discovery, whose hop limit shows that no router forwarded it.
func (b *frameBuilder) neighbour(kind uint8, from, to netip.Addr, body gopacket.SerializableLayer) {
	head := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	ip := &layers.IPv6{
		Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: to.AsSlice(),
	}
	multicast := to.As16()
	b.add(net.HardwareAddr{0x33, 0x33, multicast[12], multicast[13], multicast[14], multicast[15]},
		layers.EthernetTypeIPv6, head.SetNetworkLayerForChecksum(ip), ip, head, body)
}

// flood asks for the victim's addresses, and for a router, in the names of machines that do not exist.
func (b *frameBuilder) flood(to []netip.Addr) {
	for _, mac := range b.to {
		to = append(slices.Clone(to), linkLocalOf(mac))
	}
	for i, from := range Invented() {
		invented := net.HardwareAddr{0x02, 0x66, 0, 0, 0, byte(i)}
		source := layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: invented}}
		for _, of := range to {
			switch {
			case of.Is4() != from.Is4():
			case of.Is4():
				b.arp(layers.ARPRequest, invented, from, of)
			default:
				b.neighbour(layers.ICMPv6TypeNeighborSolicitation, from, solicitedNode(of),
					&layers.ICMPv6NeighborSolicitation{TargetAddress: of.AsSlice(), Options: source})
			}
		}
		if from.Is6() {
			b.neighbour(layers.ICMPv6TypeRouterSolicitation, from, netip.IPv6LinkLocalAllRouters(),
				&layers.ICMPv6RouterSolicitation{Options: source})
		}
	}
}

// router makes an advertisement of a router that does not exist.
func (b *frameBuilder) router() error {
	body, err := Advertisement{Prefix: attackPrefix, RouterLifetime: 30 * time.Minute}.body()
	if err != nil {
		return err
	}
	b.neighbour(layers.ICMPv6TypeRouterAdvertisement, linkLocalOf(b.mac), netip.IPv6LinkLocalAllNodes(), body)
	return b.err
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// solicitedNode returns the group of an address (RFC 4291, 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

// linkLocalOf returns the address that a kernel makes from a MAC (RFC 4291, appendix A).
func linkLocalOf(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}
