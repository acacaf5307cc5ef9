package datastore

import (
	"net/netip"
	"slices"
)

// Stats counts addresses.
type Stats struct {
	Total    int64 `json:"total"`
	Free     int64 `json:"free"` // can be assigned now
	Assigned int64 `json:"assigned"`
	Cooling  int64 `json:"cooling"`
	Removed  int64 `json:"removed"` // assigned ones that the cloud took away
}

// Stats counts the addresses of all ENIs.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm(s.now())
	return s.stats()
}

func (s *Store) stats() Stats {
	st := Stats{Removed: int64(s.removed)}
	for _, e := range s.enis {
		st.Free += e.unused()
		st.Assigned += int64(e.assigned)
		st.Cooling += int64(e.resting)
	}
	st.Total = st.Free + st.Assigned + st.Cooling
	return st
}

// ENIUsage describes an ENI and how its addresses are used.
type ENIUsage struct {
	ID       string `json:"id"`
	Device   int    `json:"deviceNumber"`
	Free     int64  `json:"free"`
	Assigned int64  `json:"assigned"`
	Cooling  int64  `json:"cooling"`
	Removed  bool   `json:"removed"` // the cloud took it away, but pods or cooling addresses are left
	// Unused contains, in their order, the single addresses that are neither assigned nor cooling. It includes those of
	// prefixes that are not vast.
	Unused []netip.Addr `json:"unused"`
}

// ENIs returns the ENIs by device number.
func (s *Store) ENIs() []ENIUsage {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm(s.now())
	unused := map[*eni][]netip.Addr{}
	for ip, a := range s.byAddr {
		if a.state == stateFree {
			unused[a.eni] = append(unused[a.eni], ip)
		}
	}
	all := make([]ENIUsage, 0, len(s.enis))
	for _, e := range s.enis {
		slices.SortFunc(unused[e], netip.Addr.Compare)
		all = append(all, ENIUsage{
			e.id, e.device, e.unused(), int64(e.assigned), int64(e.resting), e.removed, unused[e],
		})
	}
	slices.SortFunc(all, compareENIs)
	return all
}

// Assigned is an assignment and its present state.
type Assigned struct {
	Assignment
	Removed bool `json:"removed"` // the cloud took the address away
}

// Assignments returns all assignments, ordered by address.
func (s *Store) Assignments() []Assigned {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Assigned, 0, len(s.byKey))
	for _, a := range s.byKey {
		all = append(all, Assigned{*a.held, a.removed})
	}
	slices.SortFunc(all, func(a, b Assigned) int { return a.Address.Compare(b.Address) })
	return all
}
