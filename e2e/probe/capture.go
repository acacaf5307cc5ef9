package probe

import (
	"encoding/binary"
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
	// snapLength is how much of a packet is kept: all headers, and the options of a neighbour or router message.
	snapLength = 256
	// captureBuffer is what the kernel may queue while the reader is not running.
	captureBuffer = 16 << 20
)

// Match says which packets a capture keeps. The empty Match keeps all.
type Match struct {
	// Hosts are addresses; a packet matches when one of them is its source or destination, the sender or target of an
	// ARP packet, or the target of a neighbour solicitation or advertisement.
	Hosts []string `json:"hosts,omitempty"`
	// Ports are TCP and UDP ports, of source or destination. Packets without ports (ARP, ICMP, later fragments) match.
	Ports []uint16 `json:"ports,omitempty"`
	// Limit is how many packets are kept, the first ones; 0 means 2000.
	Limit int `json:"limit,omitempty"`
}

// Packet is one packet as it passed an interface.
type Packet struct {
	// Time is when it passed, by the kernel's clock: packets of captures in several namespaces can be compared.
	Time time.Time `json:"time"`
	// Interface is the name of the interface, at the end of the capture if it still exists.
	Interface string `json:"interface"`
	// Outgoing tells whether it was sent by this host rather than received.
	Outgoing bool `json:"outgoing"`
	// SourceMAC and DestinationMAC are empty where there is no Ethernet header.
	SourceMAC      string `json:"sourceMAC,omitempty"`
	DestinationMAC string `json:"destinationMAC,omitempty"`
	// Source and Destination are the addresses of IP, or the sender and target of ARP; empty otherwise.
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	// Protocol is ARP, TCP, UDP, ICMP, ICMPv6, or what the header says.
	Protocol string `json:"protocol"`
	// Info is the packet in one line: "ARP who has 10.0.0.2 tell 10.0.0.1", "TCP 4242 > 8080 SYN".
	Info string `json:"info"`
	// Raw is the packet from its link layer header on, at most the first 256 bytes.
	Raw []byte `json:"raw"`
}

// Capture records what passes all interfaces of a network namespace.
type Capture struct {
	conn   *socket.Conn
	rc     syscall.RawConn
	links  netlinksafe.Handle
	hosts  []netip.Addr
	ports  []uint16
	limit  int
	done   chan struct{}
	names  map[int]string
	found  []frame
	unseen int

	stopped bool
	packets []Packet
}

// frame is a kept packet before its interface has a name.
type frame struct {
	packet Packet
	link   int
}

// StartCapture begins to record in the network namespace at path netns. What passes after it returned is not missed. The
// caller calls Stop.
func StartCapture(netns string, m Match) (*Capture, error) {
	c := &Capture{ports: m.Ports, limit: m.Limit, done: make(chan struct{}), names: map[int]string{}}
	if m.Limit < 0 {
		return nil, fmt.Errorf("capture: want a limit of 0 or more, got %d", m.Limit)
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
	if err := c.open(n); err != nil {
		c.links.Close()
		return nil, fmt.Errorf("capture: %w", err)
	}
	go c.record()
	return c, nil
}

// open makes the socket. With its protocol given at creation it sees all interfaces from then on (packet(7)).
func (c *Capture) open(n namespace) error {
	if err := c.resolveNames(); err != nil {
		return err
	}
	err := n.do(func() (err error) {
		c.conn, err = socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(networkOrder(unix.ETH_P_ALL)), "packet", nil)
		return err
	})
	if err != nil {
		return err
	}
	err = errors.Join(c.conn.SetReadBuffer(captureBuffer), c.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	if err == nil {
		c.rc, err = c.conn.SyscallConn()
	}
	if err != nil {
		_ = c.conn.Close()
	}
	return err
}

// resolveNames notes the names of all links, keeping those of links that are gone.
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

// Stop ends the capture, releases its socket, and returns what passed until now in the order of time. It may be called
// again and then returns the same, but not concurrently.
func (c *Capture) Stop() []Packet {
	if c.stopped {
		return c.packets
	}
	c.stopped = true
	// Nothing joins the queue any more, so that what is left in it has an end.
	_ = c.conn.SetBPF([]bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: 0}})
	_ = c.conn.SetReadDeadline(time.Now())
	<-c.done
	_ = c.rc.Control(func(fd uintptr) { c.drain(int(fd)) })
	if stats, err := c.conn.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		c.unseen += int(stats.Drops)
	}
	_ = c.conn.Close()
	// Without the list, the names noted so far are used.
	_ = c.resolveNames()
	c.links.Close()

	c.packets = make([]Packet, 0, len(c.found))
	for _, f := range c.found {
		f.packet.Interface = c.names[f.link]
		if f.packet.Interface == "" {
			f.packet.Interface = fmt.Sprintf("if%d", f.link)
		}
		c.packets = append(c.packets, f.packet)
	}
	slices.SortStableFunc(c.packets, func(a, b Packet) int { return a.Time.Compare(b.Time) })
	c.found = nil
	return c.packets
}

// Unseen is the number of packets that Stop does not return: matching ones beyond the limit, and any that came faster
// than they were looked at. It is known after Stop; a scenario that wants a packet not to pass wants it to be 0.
func (c *Capture) Unseen() int { return c.unseen }

func (c *Capture) record() {
	defer close(c.done)
	// Read ends with the deadline that Stop sets.
	_ = c.rc.Read(func(fd uintptr) bool { return c.drain(int(fd)) })
}

// drain takes packets until there are none left. It tells whether the socket failed.
func (c *Capture) drain(fd int) bool {
	buffer := make([]byte, snapLength)
	ancillary := make([]byte, 128)
	for {
		n, used, _, from, err := unix.Recvmsg(fd, buffer, ancillary, unix.MSG_DONTWAIT)
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
		c.keep(buffer[:n], link, timestamp(ancillary[:used]))
	}
}

func (c *Capture) keep(raw []byte, from *unix.SockaddrLinklayer, at time.Time) {
	d := decode(raw, from)
	if !c.matches(d) {
		return
	}
	if len(c.found) >= c.limit {
		c.unseen++
		return
	}
	if c.names[from.Ifindex] == "" {
		// A link that came up since: its name is of interest if it is gone at the end.
		if link, err := c.links.LinkByIndex(from.Ifindex); err == nil {
			c.names[from.Ifindex] = link.Attrs().Name
		}
	}
	d.Packet.Time = at
	d.Outgoing = from.Pkttype == unix.PACKET_OUTGOING
	d.Raw = slices.Clone(raw)
	c.found = append(c.found, frame{packet: d.Packet, link: from.Ifindex})
}

func (c *Capture) matches(d decoded) bool {
	if len(c.hosts) > 0 && !slices.ContainsFunc(d.hosts, func(a netip.Addr) bool { return slices.Contains(c.hosts, a) }) {
		return false
	}
	return len(c.ports) == 0 || len(d.ports) == 0 ||
		slices.ContainsFunc(d.ports, func(p uint16) bool { return slices.Contains(c.ports, p) })
}

// timestamp is the time in the ancillary data, or now.
func timestamp(ancillary []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(ancillary)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds := binary.NativeEndian.Uint64(m.Data)
			nanoseconds := binary.NativeEndian.Uint64(m.Data[8:])
			return time.Unix(int64(seconds), int64(nanoseconds))
		}
	}
	return time.Now()
}
