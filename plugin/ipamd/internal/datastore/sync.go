package datastore

import (
	"net/netip"
	"slices"
	"strings"
)

// Changes is the result of a Sync.
type Changes struct {
	Added   []netip.Addr // new for pods; addresses of vast prefixes are not named
	Removed []netip.Addr // no longer for pods, and assigned to none
	// InUse contains the assignments whose address the cloud has just taken away. They stay until they are released.
	InUse []Assignment
}

// Sync adds the addresses that the cloud lists and removes all others, except those that pods have: an address that the
// cloud took away stays with its pod until it is released. The same holds for an address that moved to another ENI,
// since the pod's routes lead to the old one.
func (s *Store) Sync(enis []ENI) Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm(s.now())
	var changes Changes
	named := s.addNamed(enis, &changes)
	wanted := map[string]bool{}
	for _, e := range enis {
		wanted[e.ID] = true
	}
	for ip, a := range s.byAddr {
		s.settle(a, wanted[a.eni.id] && (named[ip] == a.eni.id || a.eni.isVast(ip)), &changes)
	}
	for id, e := range s.enis {
		if wanted[id] {
			continue
		}
		e.removed, e.vast = true, nil
		if e.assigned == 0 && e.resting == 0 {
			delete(s.enis, id)
		}
	}
	slices.SortFunc(changes.Added, netip.Addr.Compare)
	slices.SortFunc(changes.Removed, netip.Addr.Compare)
	sortAssignments(changes.InUse)
	return changes
}

// addNamed adds new ENIs and addresses, and returns for each listed address the ENI that it belongs to.
func (s *Store) addNamed(enis []ENI, changes *Changes) map[netip.Addr]string {
	named := map[netip.Addr]string{}
	var inOrder []netip.Addr // addresses are assigned in the order in which the cloud lists them
	for _, want := range enis {
		e := s.enis[want.ID]
		if e == nil {
			e = &eni{id: want.ID}
			s.enis[want.ID] = e
		}
		e.device, e.closed, e.removed = want.Device, want.Closed, false
		addrs, prefixes := want.listed()
		e.keepVast(prefixes)
		for _, ip := range addrs {
			named[ip] = e.id
		}
		inOrder = append(inOrder, addrs...)
	}
	for _, ip := range inOrder {
		e := s.enis[named[ip]]
		if a := s.byAddr[ip]; a != nil && a.eni != e && a.state == stateFree { // it moved
			a.eni.nFree--
			a.state = stateGone
			delete(s.byAddr, ip)
		}
		if s.byAddr[ip] == nil {
			a := &address{ip: ip, eni: e}
			s.byAddr[ip] = a
			e.give(a)
			changes.Added = append(changes.Added, ip)
		}
	}
	return named
}

// settle records whether the cloud still lists an address.
func (s *Store) settle(a *address, named bool, changes *Changes) {
	switch {
	case named == !a.removed:
		return
	case a.state == stateFree:
		a.eni.nFree--
		s.forget(a)
		changes.Removed = append(changes.Removed, a.ip)
		return
	case a.state == stateAssigned && named:
		s.removed--
	case a.state == stateAssigned:
		s.removed++
		changes.InUse = append(changes.InUse, *a.held)
	}
	a.removed = !named
}

// keepVast sets the vast prefixes. Those that existed before keep their position.
func (e *eni) keepVast(prefixes []netip.Prefix) {
	old := e.vast
	e.vast = map[netip.Prefix]*vast{}
	for _, prefix := range prefixes {
		if e.vast[prefix] = old[prefix]; e.vast[prefix] == nil {
			// The all-zero address belongs to the routers (RFC 4291, 2.6.1).
			e.vast[prefix] = &vast{last: prefix.Addr(), made: 1}
		}
	}
}

func (e *eni) isVast(ip netip.Addr) bool {
	for prefix := range e.vast {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

func sortAssignments(all []Assignment) {
	slices.SortFunc(all, func(a, b Assignment) int { return a.Address.Compare(b.Address) })
}

func compareENIs(a, b ENIUsage) int {
	if a.Device != b.Device {
		return a.Device - b.Device
	}
	return strings.Compare(a.ID, b.ID)
}

// Withdraw removes the addresses that are neither assigned nor cooling and returns them; they can then be returned to
// the cloud. The others stay. A Sync that lists them adds them again.
func (s *Store) Withdraw(addrs []netip.Addr) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var withdrawn []netip.Addr
	for _, ip := range addrs {
		if a := s.byAddr[ip]; a != nil && a.state == stateFree {
			a.eni.nFree--
			s.forget(a)
			withdrawn = append(withdrawn, ip)
		}
	}
	return withdrawn
}

// WithdrawENI removes an ENI with all its addresses, which can then be returned to the cloud. If one of them is
// assigned or cooling, it removes nothing and returns false. A Sync that lists the ENI adds it again.
func (s *Store) WithdrawENI(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm(s.now())
	e := s.enis[id]
	if e == nil || e.assigned > 0 || e.resting > 0 {
		return false
	}
	for _, a := range s.byAddr {
		if a.eni == e {
			a.state = stateGone
			delete(s.byAddr, a.ip)
		}
	}
	delete(s.enis, id)
	return true
}
