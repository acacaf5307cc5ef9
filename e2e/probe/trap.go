package probe

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Trap waits for packets of attacks in a namespace.
type Trap struct {
	capture  *Capture
	sockets  []*packetSocket
	links    func(index int) string
	readers  sync.WaitGroup
	tracking *tracking // nil unless Track was called

	mu   sync.Mutex
	seen []Trapped
}

// Trapped is a packet of an attack that arrived.
type Trapped struct {
	// Interface is the link on which it arrived.
	Interface string `json:"interface"`
	// SourceMAC is empty if a socket got the packet.
	SourceMAC   string     `json:"sourceMAC,omitempty"`
	Source      netip.Addr `json:"source"`
	Destination netip.Addr `json:"destination"`
}

// String returns the packet in words, without its MAC.
func (t Trapped) String() string {
	return fmt.Sprintf("a packet from %s to %s on %s", t.Source, t.Destination, t.Interface)
}

// StartTrap sets a trap in the network namespace at path netns: for what its sockets get, after all filters of the
// kernel, or for all frames that arrive on its links. The caller calls Stop.
func StartTrap(netns string, frames bool) (*Trap, error) {
	t := &Trap{}
	if frames {
		capture, err := StartCapture(netns, Match{Ports: []uint16{AttackPort, 68}})
		t.capture = capture
		return t, err
	}
	n, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer n.close()
	return t, t.listen(n)
}

// listen opens a socket for each family that the kernel has.
func (t *Trap) listen(n namespace) error {
	handle, err := n.netlink()
	if err != nil {
		return err
	}
	defer handle.Close()
	names := map[int]string{}
	list, err := handle.LinkList()
	if err != nil {
		return fmt.Errorf("trap: list links: %w", err)
	}
	for _, link := range list {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	t.links = func(index int) string { return names[index] }
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		s, err := n.packetSocket(packetOptions{family: family, from: endpoint{port: AttackPort}})
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			t.Stop()
			return fmt.Errorf("trap: %w", err)
		}
		t.sockets = append(t.sockets, s)
		t.readers.Go(func() { t.read(s) })
	}
	return nil
}

// Ask sends something to each address, from the port at which the packets of an attack arrive. The namespace then has a
// connection to which answers belong, if its kernel tracks connections.
func (t *Trap) Ask(addrs []netip.Addr) error {
	for _, addr := range addrs {
		for _, s := range t.sockets {
			if s.v4 != addr.Is4() {
				continue
			}
			err := s.send([]byte("question"), endpoint{addr: addr, port: AttackPort}, netip.Addr{})
			if err != nil && !errors.Is(err, unix.ENETUNREACH) {
				return fmt.Errorf("trap: ask %s: %w", addr, err)
			}
		}
	}
	return nil
}

// Track makes the kernel of the network namespace at path netns track connections and count their packets, until
// Untrack.
func (t *Trap) Track(netns string) (err error) {
	t.tracking, err = track(netns)
	return err
}

// Connections returns the connections between the ports of attacks that the kernel has seen since Track.
func (t *Trap) Connections() ([]Connection, error) {
	if t.tracking == nil {
		return nil, nil
	}
	return t.tracking.connections()
}

// Untrack ends what Track began, if it was called.
func (t *Trap) Untrack() error {
	if t.tracking == nil {
		return nil
	}
	return t.tracking.stop()
}

// read records what a socket gets until it is closed.
func (t *Trap) read(s *packetSocket) {
	for {
		p, err := s.receive(time.Time{})
		if err != nil {
			return
		}
		if !bytes.Contains(p.payload, []byte(attackMark)) {
			continue
		}
		t.mu.Lock()
		t.seen = append(t.seen, Trapped{Interface: t.links(p.link), Source: p.from.addr, Destination: p.local})
		t.mu.Unlock()
	}
}

// Seen returns what sockets have got so far.
func (t *Trap) Seen() []Trapped {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.seen)
}

// Stop ends the trap and returns what arrived. It must not be called concurrently.
func (t *Trap) Stop() []Trapped {
	for _, s := range t.sockets {
		s.close()
	}
	t.readers.Wait()
	if t.capture == nil {
		return t.Seen()
	}
	var seen []Trapped
	for _, p := range t.capture.Stop() {
		// An error of ICMP quotes the packet.
		arrived := !p.Outgoing && !p.Passing && strings.EqualFold(p.Protocol, "udp")
		if !arrived || !bytes.Contains(p.Raw, []byte(attackMark)) {
			continue
		}
		source, _ := netip.ParseAddr(p.Source)
		destination, _ := netip.ParseAddr(p.Destination)
		seen = append(seen, Trapped{p.Interface, p.SourceMAC, source, destination})
	}
	return seen
}
