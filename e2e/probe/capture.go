package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	defaultLimit = 2000
	// snapLength is the number of bytes of a packet that are kept: all headers, and the options of a neighbour or
	// router message.
	snapLength = 256
	// captureBuffer is the number of bytes that the kernel may queue while the reader is not running.
	captureBuffer = 16 << 20
)

// Match says which packets a capture keeps. The empty Match keeps all.
type Match struct {
	// Hosts are addresses; a packet matches when one of them is its source or destination, the sender or target of an
	// ARP packet, or the target of a neighbour solicitation or advertisement.
	Hosts []string `json:"hosts,omitempty"`
	// Ports are TCP and UDP ports, of source or destination. Packets without ports (ARP, ICMP, later fragments) match.
	Ports []uint16 `json:"ports,omitempty"`
	// Limit is the number of packets that are kept, the first ones; 0 means 2000.
	Limit int `json:"limit,omitempty"`
	// Last is the number of packets beyond the limit that are kept, the last ones; 0 means none.
	Last int `json:"last,omitempty"`
}

// Packet is one packet as it passed an interface.
type Packet struct {
	// Time is when it passed, by the kernel's clock: packets of captures in several namespaces can be compared.
	Time time.Time `json:"time"`
	// Interface is the name of the interface, at the end of the capture if it still exists.
	Interface string `json:"interface"`
	// Outgoing means that this host sent it; otherwise it was received.
	Outgoing bool `json:"outgoing"`
	// Passing means that a received frame is for the MAC of another machine, or of a device on top of the interface.
	Passing bool `json:"passing,omitempty"`
	// SourceMAC and DestinationMAC are empty if there is no Ethernet header.
	SourceMAC      string `json:"sourceMAC,omitempty"`
	DestinationMAC string `json:"destinationMAC,omitempty"`
	// Source and Destination are the addresses of IP, or the sender and target of ARP; empty otherwise.
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	// Protocol is ARP, TCP, UDP, ICMP, ICMPv6, or what the header says.
	Protocol string `json:"protocol"`
	// Info is the packet in one line: "ARP who has 10.0.0.2 tell 10.0.0.1", "TCP 4242 > 8080 SYN".
	Info string `json:"info"`
	// Length is the size of the packet with its link layer header.
	Length int `json:"length"`
	// Raw is the packet from its link layer header on, at most the first 256 bytes.
	Raw []byte `json:"raw"`
}

// Capture records the packets that pass the interfaces of a network namespace.
type Capture struct {
	conn   *socket.Conn
	rc     syscall.RawConn
	links  netlinksafe.Handle
	events *linkEvents
	filter
	done   chan struct{}
	names  map[int]string
	found  []frame
	latest []frame // packets beyond the limit
	unseen int

	stopped bool
	packets []Packet
}

// filter says which packets are kept, and how many.
type filter struct {
	hosts []netip.Addr
	ports []uint16
	limit int // of the first packets
	last  int // of the packets beyond the limit
}

// frame is a kept packet whose interface has no name yet.
type frame struct {
	packet Packet
	link   int
}

// StartCapture begins to record in the network namespace at path netns. No packet that passes after it returned is
// missed. The caller calls Stop.
func StartCapture(netns string, m Match) (*Capture, error) {
	c, err := openCapture(netns, m)
	if err != nil {
		return nil, err
	}
	go c.record()
	return c, nil
}

// openCapture does the same as StartCapture without the goroutine that takes packets from the kernel's queue.
func openCapture(netns string, m Match) (*Capture, error) {
	c := &Capture{
		filter: filter{ports: m.Ports, limit: m.Limit, last: m.Last},
		done:   make(chan struct{}), names: map[int]string{},
	}
	if m.Limit < 0 {
		return nil, fmt.Errorf("capture: want a limit of 0 or more, got %d", m.Limit)
	}
	if m.Last < 0 {
		return nil, fmt.Errorf("capture: want 0 or more of the last packets, got %d", m.Last)
	}
	setDefault(&c.limit, defaultLimit)
	for _, host := range m.Hosts {
		addr, err := parseAddress(host)
		if err != nil {
			return nil, fmt.Errorf("capture: host %w", err)
		}
		c.hosts = append(c.hosts, addr.WithZone(""))
	}
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	if c.links, err = n.netlink(); err != nil {
		return nil, err
	}
	if c.events, err = subscribeLinks(n); err != nil {
		c.links.Close()
		return nil, fmt.Errorf("capture: %w", err)
	}
	if err := c.open(n); err != nil {
		c.events.close()
		c.links.Close()
		return nil, fmt.Errorf("capture: %w", err)
	}
	return c, nil
}

// open makes the socket. Without a protocol it receives nothing; once it is bound to a protocol but no interface, it
// receives from all interfaces (packet(7)).
func (c *Capture) open(n namespace) error {
	if err := c.resolveNames(); err != nil {
		return err
	}
	err := n.do(func() (err error) {
		c.conn, err = socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
		return err
	})
	if err != nil {
		return err
	}
	err = errors.Join(c.conn.SetReadBuffer(captureBuffer), c.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS,
		1))
	if err == nil {
		c.rc, err = c.conn.SyscallConn()
	}
	if err == nil {
		n.awaitTimestamps()
		err = c.conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)})
	}
	if err != nil {
		_ = c.conn.Close()
	}
	return err
}

// resolveNames records the names of all links, and keeps those of links that are gone.
func (c *Capture) resolveNames() error {
	links, err := c.links.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		c.names[link.Attrs().Index] = link.Attrs().Name
	}
	return nil
}

// Stop ends the capture, releases its socket, and returns the packets in the order of time. It may be called again and
// then returns the same, but not concurrently.
func (c *Capture) Stop() []Packet {
	if c.stopped {
		return c.packets
	}
	c.stopped = true
	// Nothing enters the queue any more, so that reading it ends.
	_ = c.conn.SetBPF([]bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: 0}})
	_ = c.conn.SetReadDeadline(time.Now())
	<-c.done
	_ = c.rc.Control(func(fd uintptr) { c.drain(int(fd)) })
	if stats, err := c.conn.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		c.unseen += int(stats.Drops)
	}
	_ = c.conn.Close()
	// If the list fails, the names recorded so far are used.
	c.events.read(c.names)
	_ = c.resolveNames()
	c.events.close()
	c.links.Close()

	c.found = append(c.found, c.latest...)
	c.packets = make([]Packet, 0, len(c.found))
	for _, f := range c.found {
		f.packet.Interface = c.names[f.link]
		if f.packet.Interface == "" {
			f.packet.Interface = fmt.Sprintf("if%d", f.link)
		}
		c.packets = append(c.packets, f.packet)
	}
	slices.SortStableFunc(c.packets, func(a, b Packet) int { return a.Time.Compare(b.Time) })
	c.found, c.latest = nil, nil
	return c.packets
}

// Unseen returns the number of packets that Stop does not return: matching ones beyond the limit, and those that came
// faster than they were read. It is known after Stop. Only if it is 0 does a capture show that a packet did not pass.
func (c *Capture) Unseen() int { return c.unseen }

func (c *Capture) record() {
	defer close(c.done)
	// Read ends at the deadline that Stop sets.
	_ = c.rc.Read(func(fd uintptr) bool { return c.drain(int(fd)) })
}

// drain takes packets until there are none left. It reports whether the socket failed.
func (c *Capture) drain(fd int) bool {
	buffer := make([]byte, snapLength)
	ancillary := make([]byte, 128)
	for {
		n, used, _, from, err := unix.Recvmsg(fd, buffer, ancillary, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil:
			return true
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		// With MSG_TRUNC it is the length of the packet, not of the part that fits (packet(7)).
		c.keep(buffer[:min(n, len(buffer))], n, link, timestamp(ancillary[:used]))
	}
}

func (c *Capture) keep(raw []byte, length int, from *unix.SockaddrLinklayer, at time.Time) {
	d := decode(raw, from)
	if !c.matches(d) {
		return
	}
	beyond := len(c.found) >= c.limit
	if beyond && c.last == 0 {
		c.unseen++
		return
	}
	if c.names[from.Ifindex] == "" {
		// A link that appeared since. Reading now keeps the kernel's queue of events short.
		c.events.read(c.names)
	}
	d.Packet.Time = at
	d.Outgoing = from.Pkttype == unix.PACKET_OUTGOING
	d.Passing = from.Pkttype == unix.PACKET_OTHERHOST
	d.Length, d.Raw = length, slices.Clone(raw)
	f := frame{packet: d.Packet, link: from.Ifindex}
	if !beyond {
		c.found = append(c.found, f)
		return
	}
	if len(c.latest) >= c.last {
		c.latest = c.latest[1:]
		c.unseen++
	}
	c.latest = append(c.latest, f)
}

func (c *Capture) matches(d decoded) bool {
	if len(c.hosts) > 0 && !slices.ContainsFunc(d.hosts, func(a netip.Addr) bool {
		return slices.Contains(c.hosts, a)
	}) {
		return false
	}
	return len(c.ports) == 0 || len(d.ports) == 0 ||
		slices.ContainsFunc(d.ports, func(p uint16) bool { return slices.Contains(c.ports, p) })
}
