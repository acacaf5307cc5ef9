package probe

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Control is a plain veth pair between two network namespaces without names, which nothing else uses. Packets from one
// to the other pass no plugin, no bridge and no rule: if one of them is lost or late, the machine is the reason. Its
// methods may be called concurrently, except for Close.
type Control struct {
	near, far namespace
	to        string
	listeners []*Listener
}

// The addresses are from TEST-NET-1 (RFC 5737). Nobody else can have them, since the namespaces have no other links.
const (
	controlNear = "192.0.2.1/30"
	controlFar  = "192.0.2.2/30"
	controlPort = 7
	// controlGap is how long a control flow may be without an answer: half the time after which a request counts as
	// lost.
	controlGap = lostAfter / 2
	// controlWithin is how long a control probe may take, the same as one attempt of a probe.
	controlWithin = replyWait
	// controlUp is how long the pair may take until it carries packets, in time that the machine gave.
	controlUp = 20 * time.Second
)

// NewControl makes the namespaces, and the servers in the far one. The caller closes it. The error says what this
// machine lacks.
func NewControl() (_ *Control, err error) {
	c := &Control{}
	defer func() {
		if err != nil {
			c.Close()
			err = fmt.Errorf("control: %w", err)
		}
	}()
	if c.near, err = newNamespace(); err != nil {
		return nil, err
	}
	if c.far, err = newNamespace(); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	far, err := netlink.ParseAddr(controlFar)
	if err != nil {
		return nil, err
	}
	c.to = far.IP.String()
	for _, protocol := range []Protocol{TCP, UDP} {
		l, err := listenIn(c.far, ListenSpec{Protocol: protocol, Address: c.to, Port: controlPort, Name: "control"})
		if err != nil {
			return nil, err
		}
		c.listeners = append(c.listeners, l)
	}
	return c, c.warmUp()
}

// warmUp waits until the pair carries packets. The kernel drops packets on a new link until it has noticed the carrier
// (noop_qdisc, net/sched/sch_generic.c), and repeats the lost first segment of a connection only after a second.
func (c *Control) warmUp() error {
	got, err := askIn(context.Background(), c.near, Spec{
		Protocol: TCP, To: c.to, Port: controlPort, Bytes: 1, Within: controlUp,
	})
	if err == nil && !got.OK {
		err = errors.New(got.Error)
	}
	return err
}

// newNamespace makes a namespace that ends with its last open file and socket.
func newNamespace() (namespace, error) {
	type made struct {
		handle ns.NetNS
		err    error
	}
	result := make(chan made)
	go func() {
		// It is not unlocked, so that the thread ends with the goroutine, and none stays in the namespace. The first
		// thread of a process never ends, and represents the process in /proc.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			n, err := newNamespace()
			result <- made{n.handle, err}
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{nil, fmt.Errorf("unshare: %w", err)}
			return
		}
		handle, err := ns.GetCurrentNS()
		result <- made{handle, err}
	}()
	m := <-result
	return namespace{handle: m.handle}, m.err
}

// connect makes the pair and adds addresses to both ends.
func (c *Control) connect() error {
	near, err := c.near.netlink()
	if err != nil {
		return err
	}
	defer near.Close()
	far, err := c.far.netlink()
	if err != nil {
		return err
	}
	defer far.Close()
	const name = "veth0"
	err = near.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(c.far.handle.Fd()),
	})
	if err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	for _, end := range []struct {
		handle  linkHandle
		address string
	}{{near, controlNear}, {far, controlFar}} {
		link, err := end.handle.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(end.address)
		if err != nil {
			return err
		}
		if err := errors.Join(end.handle.AddrAdd(link, addr), end.handle.LinkSetUp(link)); err != nil {
			return fmt.Errorf("%s: %w", end.address, err)
		}
	}
	return nil
}

// linkHandle contains the methods of a netlink socket that bring a link up.
type linkHandle interface {
	LinkByName(name string) (netlink.Link, error)
	AddrAdd(link netlink.Link, addr *netlink.Addr) error
	LinkSetUp(link netlink.Link) error
}

// StartFlow starts a flow like s to the far namespace. The caller calls Stop.
func (c *Control) StartFlow(s FlowSpec) (*Flow, error) {
	return flowIn(c.near, FlowSpec{Protocol: s.Protocol, To: c.to, Port: controlPort, Interval: s.Interval})
}

// Probe sends one probe like s to the far namespace, within 1s.
func (c *Control) Probe(ctx context.Context, s Spec) (Result, error) {
	return askIn(ctx, c.near, Spec{
		Protocol: s.Protocol, To: c.to, Port: controlPort, Bytes: s.Bytes, Count: s.Count, Interval: s.Interval,
		Attempts: 1,
		Within:   controlWithin + time.Duration(s.Count)*max(s.Interval, defaultInterval),
	})
}

// Close stops the servers and releases the namespaces.
func (c *Control) Close() {
	for _, l := range c.listeners {
		_ = l.Close()
	}
	c.near.close()
	c.far.close()
}

// Disturbed describes what the machine lost or delayed of a flow's control. interval is the time between requests; 0
// means 20ms. It returns an empty string if nothing was lost or delayed, or if there was no control.
func (r *FlowResult) Disturbed(interval time.Duration) string {
	switch c := r.Control; {
	case c == nil:
		return ""
	case c.Error != "":
		return "a control flow over a bare veth pair broke: " + c.Error
	case c.Lost > 0:
		return fmt.Sprintf("a control flow over a bare veth pair lost %d of %d requests", c.Lost, c.Sent)
	case c.LongestGap > controlGap+max(interval, flowInterval):
		return fmt.Sprintf("a control flow over a bare veth pair had no reply for %s",
			c.LongestGap.Round(time.Millisecond))
	}
	return ""
}

// Disturbed describes the failure of a control probe. It returns an empty string if the control was answered, or if
// there was none.
func (r *Result) Disturbed() string {
	if r.Control == nil || r.Control.OK {
		return ""
	}
	return "a control probe over a bare veth pair failed, too: " + r.Control.Error
}
