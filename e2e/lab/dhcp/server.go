// Package dhcp is a DHCPv4 server (RFC 2131) like that of a LAN's router. It records what its clients do: which leases
// are held, renewed, released and expired.
//
// It is for labs: its leases are short, it keeps them in memory only, and it trusts its clients. It is as strict as the
// strictest of those that users have: a renewal with options that do not belong into one is ignored, as by
// systemd-networkd, and so is a release from another address than the one that is released, as by dnsmasq.
//
// Run its tests: go test ./e2e/lab/dhcp
package dhcp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// Config is the server's configuration.
type Config struct {
	// Interface is the interface on which it serves, Server its address there with the LAN's prefix length.
	Interface string       `json:"interface"`
	Server    netip.Prefix `json:"server"`
	Pool      []netip.Addr `json:"pool"`
	// Life is the duration of a lease. Clients renew it after half of that (T1), and ask any server after seven eighths
	// (T2).
	Life time.Duration `json:"life"`
	// Router is sent as option 3, DNS as option 6, Domain as option 15.
	Router netip.Addr   `json:"router"`
	DNS    []netip.Addr `json:"dns"`
	Domain string       `json:"domain"`
}

// offerLife is how long an address is reserved for a client that was offered it.
const offerLife = 10 * time.Second

// Server serves until Close. Its methods may be called concurrently.
type Server struct {
	config Config
	server *server4.Server

	mu    sync.Mutex
	table *table
}

// Start opens the server's socket in the network namespace of the calling thread, and serves.
func Start(config Config) (*Server, error) {
	conn, err := listen(config.Interface)
	if err != nil {
		return nil, fmt.Errorf("dhcp server on %s: %w", config.Interface, err)
	}
	s := newServer(config, time.Now)
	if s.server, err = server4.NewServer(config.Interface, nil, s.handle, server4.WithConn(conn)); err != nil {
		return nil, fmt.Errorf("dhcp server on %s: %w", config.Interface, err)
	}
	go func() { _ = s.server.Serve() }()
	return s, nil
}

// conn receives on a packet socket, as dhcpd and Kea do, and sends on a UDP socket. A UDP socket does not receive
// packets from a client without an address to the server's own address, such as the DHCPRELEASE of upstream's client.
type conn struct {
	net.PacketConn
	speaks net.PacketConn
}

func listen(device string) (net.PacketConn, error) {
	speaks, err := server4.NewIPv4UDPConn(device, &net.UDPAddr{Port: dhcpv4.ServerPort})
	if err != nil {
		return nil, err
	}
	hears, err := nclient4.NewRawUDPConn(device, dhcpv4.ServerPort)
	if err != nil {
		return nil, errors.Join(err, speaks.Close())
	}
	go drain(speaks)
	return &conn{hears, speaks}, nil
}

// drain discards the packets that the kernel also queues on the UDP socket.
func drain(c net.PacketConn) {
	buffer := make([]byte, 2048)
	for {
		if _, _, err := c.ReadFrom(buffer); err != nil {
			return
		}
	}
}

// WriteTo sends on the UDP socket.
func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) { return c.speaks.WriteTo(b, to) }

// Close closes both sockets.
func (c *conn) Close() error { return errors.Join(c.PacketConn.Close(), c.speaks.Close()) }

func newServer(config Config, now func() time.Time) *Server {
	return &Server{config: config, table: newTable(config.Pool, now)}
}

// Close stops the server.
func (s *Server) Close() error { return s.server.Close() }

// Leases returns all addresses that a client was ever offered, in the order of the pool.
func (s *Server) Leases() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.expire()
	var list []Lease
	for _, a := range s.table.order {
		if l := s.table.leases[a]; l.State != "" {
			list = append(list, *l)
		}
	}
	return list
}

// handle answers a message. RFC 2131, section 4.1, determines the destination of the answer.
func (s *Server) handle(conn net.PacketConn, from net.Addr, m *dhcpv4.DHCPv4) {
	if m.MessageType() == dhcpv4.MessageTypeRelease && !isFrom(from, m.ClientIPAddr) {
		return
	}
	reply := s.answer(m)
	if reply == nil {
		return
	}
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	switch {
	case !m.GatewayIPAddr.IsUnspecified():
		to = &net.UDPAddr{IP: m.GatewayIPAddr, Port: dhcpv4.ServerPort}
	case reply.MessageType() == dhcpv4.MessageTypeNak:
	case !m.ClientIPAddr.IsUnspecified():
		to.IP = m.ClientIPAddr
	}
	_, _ = conn.WriteTo(reply.ToBytes(), to) // otherwise the client asks again
}

// isFrom reports whether a packet has an address as its source. A client that releases its address still has it (RFC
// 2131, section 4.4.4: it unicasts DHCPRELEASE).
func isFrom(from net.Addr, address net.IP) bool {
	udp, ok := from.(*net.UDPAddr)
	return ok && udp.IP.Equal(address)
}

// clientOf returns the identifier of a client.
func clientOf(m *dhcpv4.DHCPv4) string {
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); len(id) > 0 {
		return hex.EncodeToString(id)
	}
	return m.ClientHWAddr.String()
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// answer returns the reply to a message; nil if it gets none.
func (s *Server) answer(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	s.mu.Lock()
	defer s.mu.Unlock()
	client := clientOf(m)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		l := s.table.choose(client, addrOf(m.RequestedIPAddress()))
		if l == nil {
			return nil
		}
		if l.State != Held {
			s.table.give(l, client, Offered, offerLife)
		}
		return s.reply(m, dhcpv4.MessageTypeOffer, l)
	case dhcpv4.MessageTypeRequest:
		return s.request(m, client)
	case dhcpv4.MessageTypeInform:
		return s.reply(m, dhcpv4.MessageTypeAck, nil)
	case dhcpv4.MessageTypeRelease:
		s.end(addrOf(m.ClientIPAddr), client, Released)
	case dhcpv4.MessageTypeDecline:
		s.end(addrOf(m.RequestedIPAddress()), client, Declined)
	}
	return nil
}

// end ends a lease of a client. It does nothing if another client has the address.
func (s *Server) end(address netip.Addr, client string, state State) {
	if l := s.table.leases[address]; l != nil && l.Client == client && l.taken() {
		l.State = state
	}
}

// request answers a client that selects an offer, asks for its earlier address, or renews its lease (RFC 2131, section
// 4.3.2).
func (s *Server) request(m *dhcpv4.DHCPv4, client string) *dhcpv4.DHCPv4 {
	chosen := m.ServerIdentifier()
	if chosen != nil && addrOf(chosen) != s.config.Server.Addr() {
		return nil // the message is for another server
	}
	renews := !m.ClientIPAddr.IsUnspecified()
	wanted := addrOf(m.RequestedIPAddress())
	if renews && (chosen != nil || wanted.IsValid()) {
		return nil // RFC 2131, table 5: both options MUST NOT be in a request that extends a lease
	}
	if renews {
		wanted = addrOf(m.ClientIPAddr)
	}
	s.table.expire()
	l := s.table.leases[wanted]
	if own := s.table.of(client); l == nil || own != nil && own != l || own == nil && l.taken() || l.Client != client &&
		chosen == nil {
		return s.nak(m)
	}
	if renews && l.State == Held {
		l.Renewals++
	}
	s.table.give(l, client, Held, s.config.Life)
	l.MAC, l.HostName = m.ClientHWAddr.String(), m.HostName()
	return s.reply(m, dhcpv4.MessageTypeAck, l)
}

func (s *Server) nak(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.config.Server.Addr().AsSlice())))
	if err != nil {
		return nil
	}
	return reply
}

// reply returns an offer or an acknowledgement with the options that the client requests, and the mandatory ones.
func (s *Server) reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, l *Lease) *dhcpv4.DHCPv4 {
	modifiers := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(s.config.Server.Addr().AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.config.Server.Addr().AsSlice())),
	}
	if l != nil {
		modifiers = append(modifiers, dhcpv4.WithYourIP(l.Address.AsSlice()),
			dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(s.config.Life)),
			dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(s.config.Life/2)),
			dhcpv4.WithOption(dhcpv4.OptRebindingTimeValue(s.config.Life*7/8)))
	}
	for _, o := range s.options() {
		if asked := m.ParameterRequestList(); len(asked) == 0 ||
			slices.ContainsFunc(asked, func(c dhcpv4.OptionCode) bool {
				return c.Code() == o.Code.Code()
			}) {
			modifiers = append(modifiers, dhcpv4.WithOption(o))
		}
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, modifiers...)
	if err != nil {
		return nil
	}
	return reply
}

// options returns the options that a client can request.
func (s *Server) options() []dhcpv4.Option {
	options := []dhcpv4.Option{
		dhcpv4.OptSubnetMask(net.CIDRMask(s.config.Server.Bits(), 32)),
	}
	if s.config.Router.IsValid() {
		options = append(options, dhcpv4.OptRouter(s.config.Router.AsSlice()))
	}
	var dns []net.IP
	for _, a := range s.config.DNS {
		dns = append(dns, a.AsSlice())
	}
	if dns != nil {
		options = append(options, dhcpv4.OptDNS(dns...))
	}
	if s.config.Domain != "" {
		options = append(options, dhcpv4.OptDomainName(s.config.Domain))
	}
	return options
}
