package dhcp

import (
	"net/netip"
	"time"
)

// State is the state of an address that a client requested.
type State string

const (
	// Offered is an address that a client was offered and has not requested yet.
	Offered State = "offered"
	// Held is an address that a client leases.
	Held State = "held"
	// Released is an address that its client released.
	Released State = "released"
	// Expired is an address whose client did not renew the lease in time.
	Expired State = "expired"
	// Declined is an address that its client found in use.
	Declined State = "declined"
)

// Lease records one address of the server and its client.
type Lease struct {
	Address netip.Addr `json:"address"`
	State   State      `json:"state"`
	// Client is the client identifier in hexadecimal, or the MAC of a client that sends none (RFC 2131, section 4.2).
	Client string `json:"client"`
	MAC    string `json:"mac"`
	// HostName is the option 12 of the last request.
	HostName string `json:"hostName,omitempty"`
	// Renewals counts how often the holder extended the lease; Lapses counts how often a holder let it expire.
	Renewals int       `json:"renewals"`
	Lapses   int       `json:"lapses"`
	Expires  time.Time `json:"expires"`
}

// table contains the leases of a pool. It is not safe for concurrent use.
type table struct {
	now    func() time.Time
	order  []netip.Addr
	leases map[netip.Addr]*Lease
}

func newTable(pool []netip.Addr, now func() time.Time) *table {
	t := &table{now: now, order: pool, leases: map[netip.Addr]*Lease{}}
	for _, a := range pool {
		t.leases[a] = &Lease{Address: a}
	}
	return t
}

// expire marks leases that were not renewed in time.
func (t *table) expire() {
	for _, l := range t.leases {
		if (l.State == Held || l.State == Offered) && !t.now().Before(l.Expires) {
			if l.State == Held {
				l.Lapses++
			}
			l.State = Expired
		}
	}
}

// taken reports whether an address cannot be given to another client.
func (l *Lease) taken() bool { return l.State == Held || l.State == Offered || l.State == Declined }

// of returns the lease that a client has or was offered; nil if there is none.
func (t *table) of(client string) *Lease {
	for _, a := range t.order {
		if l := t.leases[a]; l.Client == client && (l.State == Held || l.State == Offered) {
			return l
		}
	}
	return nil
}

// choose returns an address for a client: its own, the one that it requests, one that it had before, or any other (RFC
// 2131, section 4.3.1); nil if none is free.
func (t *table) choose(client string, wanted netip.Addr) *Lease {
	t.expire()
	if l := t.of(client); l != nil {
		return l
	}
	if l := t.leases[wanted]; l != nil && !l.taken() {
		return l
	}
	var free *Lease
	for _, a := range t.order {
		switch l := t.leases[a]; {
		case l.taken():
		case l.Client == client:
			return l
		case free == nil, free.Client != "" && l.Client == "":
			free = l // prefer an address that nobody has had yet
		}
	}
	return free
}

// give assigns a lease to the client for a time.
func (t *table) give(l *Lease, client string, state State, life time.Duration) {
	if l.Client != client {
		l.Renewals, l.Lapses, l.HostName = 0, 0, ""
	}
	l.Client, l.State, l.Expires = client, state, t.now().Add(life)
}
