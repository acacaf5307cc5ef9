package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// These are the kinds of an Attack.
const (
	AttackSpoof    = "spoof"
	AttackConnect  = "connect"
	AttackClaim    = "claim"
	AttackMAC      = "mac"
	AttackTag      = "tag"
	AttackDHCP     = "dhcp"
	AttackLoopback = "loopback"
	AttackFlood    = "flood"
	AttackRouter   = "router"
)

// Attack describes frames that a hostile machine sends over each of its Ethernet links, as root of a namespace can. It
// knows everything that an attacker could find out by guessing.
type Attack struct {
	// Kind is what the frames are, one of the constants.
	Kind string `json:"kind"`
	// Own are the attacker's addresses, To those of the victim; As are those that the attacker pretends to have, and
	// AsMAC is the MAC.
	Own   []netip.Addr `json:"own,omitempty"`
	As    []netip.Addr `json:"as,omitempty"`
	AsMAC string       `json:"asMAC,omitempty"`
	To    []netip.Addr `json:"to"`
	// MACs are the link layer addresses that may lead to the victim; each frame goes to all of them.
	MACs []string `json:"macs"`
}

const (
	// AttackPort is the UDP port of the packets of an attack: one that nothing else uses (RFC 863, discard).
	AttackPort = 9
	// attackVLAN is the VLAN of tagged frames.
	attackVLAN = 66
	// attackers is how many machines that do not exist take part in a flood. All namespaces of a machine share the
	// kernel's table of neighbours, which must not overflow here.
	attackers = 8
	// attackRounds is how often the frames are sent.
	attackRounds = 2
)

// attackPrefix is the prefix that a hostile router advertises (RFC 3849).
const attackPrefix = "2001:db8:66::/64"

// Invented returns the addresses of machines that do not exist, in whose names an AttackFlood asks: IPv4 ones for
// benchmarks (RFC 2544), and IPv6 ones of the link.
func Invented() []netip.Addr {
	var all []netip.Addr
	for i := byte(1); i <= attackers; i++ {
		all = append(all, netip.AddrFrom4([4]byte{198, 18, 66, i}),
			netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 0xc1, 9: 0x11, 10: 0xe5, 11: 0x7e, 14: 0x66, 15: i}))
	}
	return all
}

// Send sends the frames from the namespace at path netns, and returns the names of the links that it used. Before, it
// sends them over a pair of links of its own that nothing filters. If they do no harm there, it returns an error: this
// machine cannot tell what a plugin prevents.
func (a Attack) Send(ctx context.Context, netns string) (links []string, err error) {
	if err := a.control(ctx); err != nil {
		return nil, fmt.Errorf("%s over a bare veth pair: %w", a.Kind, err)
	}
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	return a.send(n)
}

// attackLink is a link over which frames are sent.
type attackLink struct {
	name  string
	index int
	mac   net.HardwareAddr
}

// send sends the frames over each Ethernet link of a namespace that is up.
func (a Attack) send(n namespace) (names []string, err error) {
	links, err := ethernetLinks(n)
	if err != nil {
		return nil, err
	}
	var conn *socket.Conn
	err = n.do(func() (err error) {
		conn, err = socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	for range attackRounds {
		for _, link := range links {
			frames, err := a.frames(link.mac)
			if err != nil {
				return nil, err
			}
			for _, frame := range frames {
				if err := transmit(conn, link.index, frame); err != nil {
					return nil, fmt.Errorf("send on %s: %w", link.name, err)
				}
			}
		}
	}
	for _, link := range links {
		names = append(names, link.name)
	}
	return names, nil
}

// transmit sends one frame. A full queue and a link that went down lose frames, as on a wire.
func transmit(conn *socket.Conn, index int, frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: networkOrder(unix.ETH_P_ALL), Halen: 6}
	copy(to.Addr[:], frame[:6])
	err := conn.Sendto(context.Background(), frame, 0, to)
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EMSGSIZE) {
		return nil
	}
	return err
}

// ethernetLinks returns the links of a namespace that are up and have a MAC.
func ethernetLinks(n namespace) ([]attackLink, error) {
	handle, err := n.netlink()
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	list, err := handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var links []attackLink
	for _, l := range list {
		attrs := l.Attrs()
		if attrs.EncapType == "ether" && attrs.Flags&net.FlagUp != 0 && attrs.Flags&net.FlagLoopback == 0 {
			links = append(links, attackLink{attrs.Name, attrs.Index, attrs.HardwareAddr})
		}
	}
	return links, nil
}

// KnownNeighbours returns the addresses, of those given, for which a namespace keeps a neighbour entry on any link,
// each with the link's name.
func KnownNeighbours(netns string, of []netip.Addr) (known []string, err error) {
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	handle, err := n.netlink()
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	list, err := handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, link := range list {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			entries, err := neighbours(handle, link, family)
			if err != nil {
				return nil, err
			}
			for _, entry := range entries {
				if addr := addrOf(entry.IP); slices.Contains(of, addr) {
					known = append(known, fmt.Sprintf("%s on %s", addr, link.Attrs().Name))
				}
			}
		}
	}
	return known, nil
}

// AttackSettles is how long a frame may take to do harm where it can, in time that the machine gave: no event tells
// that one did not arrive.
const AttackSettles = 200 * time.Millisecond
