package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"github.com/cnitest/cnitest/e2e/internal/kerneltest"
)

// attackOn returns an attack of the first host of a LAN on the second one, in the name of the third.
func attackOn(l *lan, kind string) Attack {
	addrs := func(i int) []netip.Addr {
		return []netip.Addr{
			netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", i)), netip.MustParseAddr(fmt.Sprintf("fd09::%d", i)),
		}
	}
	a := Attack{
		Kind: kind, Own: addrs(1), As: addrs(3), AsMAC: l.hosts[2].mac, To: addrs(2), MACs: []string{l.hosts[1].mac},
	}
	if kind == AttackDHCP {
		a.Own, a.To = only4(a.Own), only4(a.To)
	}
	return a
}

// TestAttack_arrives sends attacks over a LAN that filters nothing: each packet arrives, and the control notices.
func TestAttack_arrives(t *testing.T) {
	l := newLAN(t, 3)
	for _, tt := range []struct {
		kind   string
		frames bool
		want   []string
	}{
		{AttackSpoof, true, []string{"10.9.0.3 to 10.9.0.2", "fd09::3 to fd09::2"}},
		{AttackSpoof, false, []string{"10.9.0.3 to 10.9.0.2", "fd09::3 to fd09::2"}},
		{AttackMAC, true, []string{"10.9.0.1 to 10.9.0.2", "fd09::1 to fd09::2"}},
		{AttackTag, true, []string{"10.9.0.1 to 10.9.0.2", "fd09::1 to fd09::2"}},
		{AttackDHCP, true, []string{"10.9.0.1 to 255.255.255.255"}},
		// The kernel of a host drops what comes from elsewhere for its loopback.
		{AttackLoopback, true, []string{"10.9.0.1 to 127.0.0.1", "127.0.0.1 to 127.0.0.1"}},
		{AttackLoopback, false, nil},
	} {
		t.Run(fmt.Sprint(tt.kind, " ", tt.frames), func(t *testing.T) {
			trap, err := StartTrap(l.hosts[1].path, tt.frames)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := attackOn(l, tt.kind).Send(t.Context(), l.hosts[0].path); err != nil {
				t.Fatal(err)
			}
			pause(t.Context(), AttackSettles)
			var got []string
			for _, s := range trap.Stop() {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(s.String(), "a packet from "), " on eth0"))
				if want := l.hosts[2].mac; tt.kind == AttackMAC && s.SourceMAC != want {
					t.Errorf("source MAC: got %s, want %s", s.SourceMAC, want)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(slices.Compact(got), tt.want); diff != "" {
				t.Errorf("got, want:\n%s", diff)
			}
		})
	}
}

// TestAttack_on_neighbours poisons and floods the neighbour table of a host, and makes it follow another router.
func TestAttack_on_neighbours(t *testing.T) {
	l := newLAN(t, 3)
	for _, to := range []string{"10.9.0.3", "fd09::3"} {
		if got, err := Run(t.Context(), l.hosts[1].path, Spec{Protocol: ICMP, To: to}); err != nil || !got.OK {
			t.Fatalf("%s: got %v, %v", to, got.Error, err)
		}
	}
	for _, kind := range []string{AttackClaim, AttackFlood, AttackRouter} {
		if _, err := attackOn(l, kind).Send(t.Context(), l.hosts[0].path); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []string{"10.9.0.3", "fd09::3"} {
		entry, _, err := Neighbour(l.hosts[1].path, "eth0", of)
		if err != nil || entry.MAC != l.hosts[0].mac {
			t.Errorf("%s: got %v, %v, want the attacker's MAC %s", of, entry, err, l.hosts[0].mac)
		}
	}
	known, err := KnownNeighbours(l.hosts[1].path, Invented())
	if got, want := len(known), 2*attackers; err != nil || got != want {
		t.Errorf("got %d neighbours, %v, want %d: %v", got, err, want, known)
	}
}

// TestAttack_connects begins connections in the name of another host. The kernel's settings and rules are as before
// in the end.
func TestAttack_connects(t *testing.T) {
	l := newLAN(t, 3)
	trap, err := StartTrap(l.hosts[1].path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Stop()
	if err := trap.Track(l.hosts[1].path); errors.Is(err, os.ErrNotExist) {
		kerneltest.Lacks(t, "conntrack")
	} else if err != nil {
		t.Fatal(err)
	}
	if _, err := attackOn(l, AttackConnect).Send(t.Context(), l.hosts[0].path); err != nil {
		t.Fatal(err)
	}
	pause(t.Context(), AttackSettles)
	got, err := trap.Connections()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b Connection) int { return a.From.Compare(b.From) })
	if diff := cmp.Diff([]string{
		"2 packets of the connection 10.9.0.3:9 to 10.9.0.2:9",
		"2 packets of the connection [fd09::3]:9 to [fd09::2]:9",
	}, texts(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := trap.Untrack(); err != nil {
		t.Error(err)
	}
	l.hosts[1].do(t, func() error {
		if counts, err := os.ReadFile(countPackets); err != nil || strings.TrimSpace(string(counts)) != "0" {
			t.Errorf("got %s, %v, want that packets are not counted as before", counts, err)
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		if tables, err := conn.ListTables(); err != nil || len(tables) > 0 {
			t.Errorf("got %d tables, %v, want none", len(tables), err)
		}
		return nil
	})
}

func texts(all []Connection) (words []string) {
	for _, c := range all {
		words = append(words, fmt.Sprintf("%d packets of %s", c.Packets, c))
	}
	return words
}

// TestAttack_without_harm wants an error if the control cannot be harmed.
func TestAttack_without_harm(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	a := Attack{Kind: AttackFlood, To: []netip.Addr{netip.MustParseAddr("10.9.0.2")}}
	target, err := a.newTarget()
	if err != nil {
		t.Fatal(err)
	}
	defer target.close()
	a.MACs = []string{target.link.Attrs().HardwareAddr.String()}
	if err := target.far.do(func() error { return sysctl("ipv4/conf/veth0/arp_ignore", "8") }); err != nil {
		t.Fatal(err)
	}
	if err := a.harms(target); err == nil || err.Error() != "the other end learned nothing about [10.9.0.2]" {
		t.Errorf("got %v, want that it learned nothing", err)
	}
	if _, err := (Attack{Kind: "other"}).frames(nil); err == nil || err.Error() != `unknown attack "other"` {
		t.Errorf("got %v, want an unknown attack", err)
	}
}
