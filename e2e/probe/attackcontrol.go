package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// target is the far end of a pair of links that nothing filters. It has the victim's addresses, and its kernel accepts
// what it can.
type target struct {
	near, far namespace
	handle    netlinksafe.Handle // of the far namespace
	link      netlink.Link
}

const targetLink = "veth0"

// control sends the attack over a pair of links of its own until it did harm there.
func (a Attack) control(ctx context.Context) error {
	t, err := a.newTarget()
	if err != nil {
		return err
	}
	defer t.close()
	a.MACs = []string{t.link.Attrs().HardwareAddr.String()}
	last := errors.New("nothing was sent")
	for last != nil {
		if last = a.harms(t); last != nil && !pause(ctx, 10*time.Millisecond) {
			return last
		}
	}
	return nil
}

// newTarget makes the pair. The caller closes it.
func (a Attack) newTarget() (_ *target, err error) {
	t := &target{}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.near, err = newNamespace(); err != nil {
		return nil, err
	}
	if t.far, err = newNamespace(); err != nil {
		return nil, err
	}
	near, err := t.near.netlink()
	if err != nil {
		return nil, err
	}
	defer near.Close()
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: targetLink}, PeerName: targetLink,
		PeerNamespace: netlink.NsFd(t.far.handle.Fd()),
	}
	if err := near.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("add a veth pair: %w", err)
	}
	if err := near.LinkSetUp(pair); err != nil {
		return nil, err
	}
	if t.handle, err = t.far.netlink(); err != nil {
		return nil, err
	}
	return t, a.prepare(t)
}

// close ends the pair with its namespaces, also if it was not made to its end.
func (t *target) close() {
	if t.handle.Handle != nil {
		t.handle.Close()
	}
	t.near.close()
	t.far.close()
}

// prepare gives the far end the victim's addresses and what an attack of this kind needs to do harm.
func (a Attack) prepare(t *target) error {
	if err := t.far.do(accept); err != nil {
		return err
	}
	lo, err := t.handle.LinkByName("lo")
	if err != nil {
		return err
	}
	if t.link, err = t.handle.LinkByName(targetLink); err != nil {
		return err
	}
	if err := errors.Join(t.handle.LinkSetUp(lo), t.handle.LinkSetUp(t.link)); err != nil {
		return err
	}
	for _, to := range a.To {
		addr := &netlink.Addr{IPNet: netipx.AddrIPNet(to)}
		if to.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := t.handle.AddrReplace(t.link, addr); err != nil {
			return fmt.Errorf("address %s: %w", to, err)
		}
	}
	return nil
}

// accept makes the kernel of the thread's namespace accept everything that a setting can let in.
func accept() error {
	for key, value := range map[string]string{
		"ipv4/conf/%s/rp_filter": "0", "ipv4/conf/%s/accept_local": "1", "ipv4/conf/%s/route_localnet": "1",
		"ipv4/conf/%s/arp_ignore": "0", "ipv4/conf/%s/arp_filter": "0", "ipv6/conf/%s/accept_ra": "2",
		"ipv6/conf/%s/autoconf": "1", "ipv6/conf/%s/accept_dad": "0", "ipv6/conf/%s/disable_ipv6": "0",
	} {
		for _, scope := range []string{"all", "default", targetLink} {
			err := os.WriteFile("/proc/sys/net/"+fmt.Sprintf(key, scope), []byte(value), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// harms sends the attack once and returns an error if it did no harm.
func (a Attack) harms(t *target) error {
	switch a.Kind {
	case AttackSpoof, AttackLoopback, AttackMAC, AttackTag, AttackDHCP:
		return a.arrives(t)
	case AttackConnect:
		return a.connects(t)
	}
	if err := a.tell(t); err != nil {
		return err
	}
	if _, err := a.send(t.near); err != nil {
		return err
	}
	// The kernel handles a frame before the call returns that sends it, but an address in a work queue.
	if a.Kind != AttackRouter {
		return a.believed(t)
	}
	addrs, err := t.handle.AddrList(t.link, unix.AF_INET6)
	if err != nil {
		return err
	}
	prefix := netip.MustParsePrefix(attackPrefix)
	if !slices.ContainsFunc(addrs, func(addr netlink.Addr) bool { return prefix.Contains(addrOf(addr.IP)) }) {
		return fmt.Errorf("no address of %s", prefix)
	}
	return nil
}

// arrives reports packets that did not arrive, of the families that the attack has.
func (a Attack) arrives(t *target) error {
	path := fmt.Sprintf("/proc/self/fd/%d", t.far.handle.Fd())
	trap, err := StartTrap(path, a.Kind != AttackSpoof && a.Kind != AttackLoopback)
	if err != nil {
		return err
	}
	_, err = a.send(t.near)
	for deadline := time.Now().Add(AttackSettles); err == nil && trap.capture == nil && time.Now().Before(deadline) &&
		a.unseen(trap.Seen()) != nil; {
		time.Sleep(time.Millisecond)
	}
	return errors.Join(err, a.unseen(trap.Stop()))
}

// connects returns an error if the far end keeps no connection of what the attack sent.
func (a Attack) connects(t *target) (err error) {
	tracked, err := track(fmt.Sprintf("/proc/self/fd/%d", t.far.handle.Fd()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tracked.stop()) }()
	spoof := a
	spoof.Kind = AttackSpoof
	if err := spoof.arrives(t); err != nil {
		return err
	}
	known, err := tracked.connections()
	if err == nil && !slices.ContainsFunc(known, func(c Connection) bool {
		return slices.Contains(a.As, c.From.Addr()) && c.Packets > 0
	}) {
		err = fmt.Errorf("no connection of %v is known", a.As)
	}
	return err
}

// unseen returns an error for the first family of which no packet arrived.
func (a Attack) unseen(seen []Trapped) error {
	from, to := a.As, a.To
	switch a.Kind {
	case AttackLoopback:
		from, to = []netip.Addr{loopback()}, []netip.Addr{loopback()}
	case AttackDHCP:
		from, to = only4(a.Own), only4(a.To)
	case AttackMAC, AttackTag:
		from = a.Own
	}
	for _, is4 := range []bool{true, false} {
		has := func(addr netip.Addr) bool { return addr.Is4() == is4 }
		if slices.ContainsFunc(from, has) && slices.ContainsFunc(to, has) &&
			!slices.ContainsFunc(seen, func(s Trapped) bool { return s.Source.Is4() == is4 }) {
			return fmt.Errorf("no packet from %v to %v arrived", from, to)
		}
	}
	return nil
}

func only4(addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !a.Is4() })
}

// tell gives the far end neighbour entries for the addresses that the attack claims.
func (a Attack) tell(t *target) error {
	if a.Kind != AttackClaim {
		return nil
	}
	for _, addr := range a.As {
		err := t.handle.NeighSet(&netlink.Neigh{
			LinkIndex: t.link.Attrs().Index, IP: addr.AsSlice(), State: netlink.NUD_STALE,
			HardwareAddr: net.HardwareAddr{2, 0x66, 0, 0, 0, 0x99},
		})
		if err != nil {
			return fmt.Errorf("neighbour %s: %w", addr, err)
		}
	}
	return nil
}

// believed returns an error for the first family of which the far end learned no neighbour entry from the attack.
func (a Attack) believed(t *target) error {
	near, err := ethernetLinks(t.near)
	if err != nil {
		return err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		of := a.As
		if a.Kind == AttackFlood {
			of = a.To
		}
		if !slices.ContainsFunc(of, func(addr netip.Addr) bool { return addr.Is4() == (family == unix.AF_INET) }) {
			continue
		}
		entries, err := neighbours(t.handle, t.link, family)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(entries, func(n netlink.Neigh) bool {
			if a.Kind == AttackFlood {
				return slices.Contains(Invented(), addrOf(n.IP))
			}
			return slices.Contains(a.As, addrOf(n.IP)) && n.HardwareAddr.String() == near[0].mac.String()
		}) {
			return fmt.Errorf("the other end learned nothing about %v", of)
		}
	}
	return nil
}
