package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The lifetimes of an advertised prefix are longer than any test, and longer than 2 h, below which a host may ignore a
// change (RFC 4862, 5.5.3).
const (
	prefixValid     = 24 * time.Hour
	prefixPreferred = 4 * time.Hour
)

// Advertisement is a router advertisement.
type Advertisement struct {
	// Prefix is the /64 from which hosts must make their addresses; empty announces none.
	Prefix string `json:"prefix,omitempty"`
	// RouterLifetime is how long, in whole seconds up to 18h12m15s, the sender is a default router; 0 means that it is
	// not one.
	RouterLifetime time.Duration `json:"routerLifetime,omitempty"`
}

// Advertise sends one router advertisement (RFC 4861, 4.2) to all nodes on the link ifname, in the network namespace at
// path netns. It waits until ctx ends for the link-local address that must be its source.
func Advertise(ctx context.Context, netns, ifname string, a Advertisement) error {
	message, err := a.marshal()
	if err != nil {
		return fmt.Errorf("advertise on %s: %w", ifname, err)
	}
	n, err := openNamespace(netns)
	if err != nil {
		return err
	}
	defer n.close()
	var from endpoint
	err = onLink(netns, ifname, func(handle netlinksafe.Handle, link netlink.Link) (err error) {
		from, err = waitForLinkLocal(ctx, handle, link)
		return err
	})
	if err != nil {
		return fmt.Errorf("advertise on %s: %w", ifname, err)
	}
	s, err := n.packetSocket(packetOptions{family: unix.AF_INET6, icmp: true, from: from})
	if err != nil {
		return fmt.Errorf("advertise on %s: %w", ifname, err)
	}
	defer s.close()
	// Hosts ignore advertisements that a router could have forwarded (RFC 4861, 6.1.2).
	if err := s.conn.SetsockoptInt(unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return fmt.Errorf("advertise on %s: %w", ifname, err)
	}
	if err := s.send(message, endpoint{addr: netip.IPv6LinkLocalAllNodes(), link: from.link}, from.addr); err != nil {
		return fmt.Errorf("advertise on %s: %w", ifname, err)
	}
	return nil
}

func waitForLinkLocal(ctx context.Context, handle netlinksafe.Handle, link netlink.Link) (endpoint, error) {
	for {
		addr, err := linkLocal(handle, link)
		if err != nil {
			return endpoint{}, err
		}
		if addr.IsValid() {
			return endpoint{addr: addr, link: link.Attrs().Index}, nil
		}
		if !pause(ctx, 10*time.Millisecond) {
			return endpoint{}, fmt.Errorf("no usable link-local address: %w", ctx.Err())
		}
	}
}

// body returns the advertisement without the head of ICMPv6.
func (a Advertisement) body() (*layers.ICMPv6RouterAdvertisement, error) {
	seconds := a.RouterLifetime / time.Second
	if seconds < 0 || seconds > 0xffff {
		return nil, fmt.Errorf("want a router lifetime of 0s to 18h12m15s, got %s", a.RouterLifetime)
	}
	body := &layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: uint16(seconds)}
	if a.Prefix != "" {
		prefix, err := netip.ParsePrefix(a.Prefix)
		if err != nil || !prefix.Addr().Is6() {
			return nil, fmt.Errorf("%q is not an IPv6 prefix", a.Prefix)
		}
		body.Options = append(body.Options, prefixInformation(prefix))
	}
	return body, nil
}

func (a Advertisement) marshal() ([]byte, error) {
	body, err := a.body()
	if err != nil {
		return nil, err
	}
	buffer := gopacket.NewSerializeBuffer()
	// The kernel fills in the checksum (RFC 3542, 3.1).
	head := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{}, head, body); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return buffer.Bytes(), nil
}

// prefixInformation returns the option of RFC 4861, 4.6.2, without its type and length.
func prefixInformation(prefix netip.Prefix) layers.ICMPv6Option {
	const onLinkAndAutonomous = 0xc0
	b := []byte{byte(prefix.Bits()), onLinkAndAutonomous}
	b = binary.BigEndian.AppendUint32(b, uint32(prefixValid/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(prefixPreferred/time.Second))
	b = append(b, 0, 0, 0, 0)
	b = append(b, prefix.Masked().Addr().AsSlice()...)
	return layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: b}
}
