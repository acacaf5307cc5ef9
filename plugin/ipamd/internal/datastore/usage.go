package datastore

import (
	"net/netip"
	"slices"
)

// Stats counts addresses.
type Stats struct {
	Total    int64 `json:"total"`
	Free     int64 `json:"free"` // can be given out now
	Assigned int64 `json:"assigned"`
	Cooling  int64 `json:"cooling"`
	Removed  int64 `json:"removed"` // of the assigned ones: taken away by the cloud
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

// ENIUsage is an ENI and how its addresses are used.
type ENIUsage struct {
	ID       string `json:"id"`
	Device   int    `json:"deviceNumber"`
	Free     int64  `json:"free"`
	Assigned int64  `json:"assigned"`
	Cooling  int64  `json:"cooling"`
	Removed  bool   `json:"removed"` // gone from the cloud, with pods or cooling addresses left
	// Unused are single addresses that nobody has and that do not cool, in their order. Those of prefixes are among
	// them unless the prefix is vast.
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

// Assigned is an assignment as it stands now.
type Assigned struct {
	Assignment
	Removed bool `json:"removed"` // the cloud took the address away
}

// Assignments returns who has what, by address.
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
