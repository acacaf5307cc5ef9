package dhcp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// desk is a server with a clock that the test sets.
type desk struct {
	*Server
	t   *testing.T
	now time.Time
}

func newDesk(t *testing.T, pool ...string) *desk {
	d := &desk{t: t, now: time.Unix(1000, 0)}
	config := Config{
		Server: netip.MustParsePrefix("10.0.0.1/24"), Life: time.Minute, Router: netip.MustParseAddr("10.0.0.1"),
		DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, Domain: "lab.example",
	}
	for _, a := range pool {
		config.Pool = append(config.Pool, netip.MustParseAddr(a))
	}
	d.Server = newServer(config, func() time.Time { return d.now })
	return d
}

// send sends a message of a client, and returns the reply as "ack 10.0.0.5", or "none".
func (d *desk) send(client byte, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) string {
	d.t.Helper()
	reply := d.answer(d.message(client, kind, modifiers...))
	if reply == nil {
		return "none"
	}
	if reply.MessageType() == dhcpv4.MessageTypeNak {
		return "nak"
	}
	return reply.MessageType().String() + " " + reply.YourIPAddr.String()
}

func (d *desk) message(client byte, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	d.t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, client}), dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{0, client})),
	}, modifiers...)...)
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}

func selects(address string) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(address)))
		m.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1)))
	}
}

func has(address string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(address)) }

// TestServer goes through the states of leases: offered, held, renewed, expired, released, declined, refused.
func TestServer(t *testing.T) {
	d := newDesk(t, "10.0.0.5", "10.0.0.6")
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	const discover, request, release = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeRelease
	want(d.send(1, discover), "OFFER 10.0.0.5")
	want(d.send(1, discover), "OFFER 10.0.0.5")
	want(d.send(1, request, selects("10.0.0.5")), "ACK 10.0.0.5")
	want(d.send(2, discover), "OFFER 10.0.0.6")
	want(d.send(2, request, selects("10.0.0.5")), "nak") // the first client has it
	want(d.send(2, request, selects("10.0.0.6")), "ACK 10.0.0.6")
	want(d.send(3, discover), "none") // the pool is exhausted
	d.now = d.now.Add(30 * time.Second)
	want(d.send(1, request, has("10.0.0.5")), "ACK 10.0.0.5")
	d.now = d.now.Add(40 * time.Second) // the second client lets its lease expire
	want(d.send(3, discover), "OFFER 10.0.0.6")
	want(d.send(3, request, selects("10.0.0.6")), "ACK 10.0.0.6")
	want(d.send(2, request, has("10.0.0.6")), "nak")
	want(d.send(2, release, has("10.0.0.6")), "none") // by now another client has the address
	want(d.send(1, release, has("10.0.0.5")), "none")
	want(d.send(1, discover), "OFFER 10.0.0.5")
	want(d.send(1, request, selects("10.0.0.5")), "ACK 10.0.0.5")
	want(d.send(1, dhcpv4.MessageTypeDecline, selects("10.0.0.5")), "none")
	want(d.send(1, discover), "none")
	got := d.Leases()
	leases := []Lease{
		{Address: netip.MustParseAddr("10.0.0.5"), State: Declined, Client: "0001", MAC: "02:00:00:00:00:01", Renewals: 1, Expires: d.now.Add(time.Minute)},
		{Address: netip.MustParseAddr("10.0.0.6"), State: Held, Client: "0003", MAC: "02:00:00:00:00:03", Expires: d.now.Add(time.Minute)},
	}
	if diff := cmp.Diff(got, leases, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("leases, -got +want:\n%s", diff)
	}
	d.now = d.now.Add(2 * time.Minute)
	if got := d.Leases()[1]; got.State != Expired || got.Lapses != 1 {
		t.Errorf("got %+v, want it expired once", got)
	}
}

// TestServer_strict checks that a server ignores what strict servers ignore.
func TestServer_strict(t *testing.T) {
	d := newDesk(t, "10.0.0.5")
	d.send(1, dhcpv4.MessageTypeDiscover)
	d.send(1, dhcpv4.MessageTypeRequest, selects("10.0.0.5"))
	if got := d.send(1, dhcpv4.MessageTypeRequest, has("10.0.0.5"), selects("10.0.0.5")); got != "none" {
		t.Errorf("got %s for a renewal that names a server and an address, want none", got)
	}
	release := d.message(1, dhcpv4.MessageTypeRelease, has("10.0.0.5"))
	for _, tt := range []struct {
		from net.IP
		want State
	}{{net.IPv4zero, Held}, {net.IPv4(10, 0, 0, 5), Released}} {
		d.handle(nil, &net.UDPAddr{IP: tt.from, Port: dhcpv4.ClientPort}, release)
		if got := d.Leases()[0].State; got != tt.want {
			t.Errorf("got %s after a release from %s, want %s", got, tt.from, tt.want)
		}
	}
}

// TestServer_options checks that a client gets the options that it requests, and all options if it requests none.
func TestServer_options(t *testing.T) {
	d := newDesk(t, "10.0.0.5")
	all := d.answer(d.message(1, dhcpv4.MessageTypeDiscover))
	if got := all.DomainName() + " " + all.DNS()[0].String() + " " + all.Router()[0].String(); got != "lab.example "+
		"10.0.0.53 10.0.0.1" {
		t.Errorf("got %s", got)
	}
	if t1, t2 := all.IPAddressRenewalTime(0), all.IPAddressRebindingTime(0); t1 != 30*time.Second ||
		t2 != 52*time.Second {
		t.Errorf("got T1 %s and T2 %s, want a half and seven eighths of a minute", t1, t2)
	}
	one := d.answer(d.message(1, dhcpv4.MessageTypeDiscover, dhcpv4.WithRequestedOptions(dhcpv4.OptionDomainName)))
	if one.DomainName() != "lab.example" || len(one.Router()) > 0 {
		t.Errorf("got %s, want the domain alone", one.Summary())
	}
	relayed := d.answer(d.message(1, dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(net.IPv4(10, 9, 0, 1))))
	if got := relayed.GatewayIPAddr.String(); got != "10.9.0.1" {
		t.Errorf("got the relay %s in the answer, want 10.9.0.1", got)
	}
}
